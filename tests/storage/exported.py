# SPDX-License-Identifier: Apache-2.0
"""What the tests of all block storage have in common: a volume that a target exports, and the host's view of it."""

from __future__ import annotations

import contextlib
import copy
import pathlib

from harness import domain_disks
from host_state import host_state, wait_for_host_state
from tools import SYS

LOAD = ("fio --name=verify --filename={device} --rw=randwrite --bs=16k --size=4M --iodepth=8 --ioengine=libaio --direct=1 "
        "--verify=crc32c --do_verify=1 --verify_fatal=1")


def verify_io(guest, device: str) -> None:
    """The guest writes to the disk and checks what it reads again. Without fio, whose start takes seconds in a VM's VM."""
    guest.check("dd if=/dev/urandom of=/tmp/wrote bs=64k count=16 2>&1 && "
                f"dd if=/tmp/wrote of={device} bs=64k oflag=direct conv=notrunc 2>&1 && "
                f"dd if={device} of=/tmp/read bs=64k count=16 iflag=direct 2>&1 && cmp /tmp/wrote /tmp/read", timeout=180)


class Exported:
    """A volume that a target exports, with the connection_info that Cinder would give for it."""

    def __init__(self, volume, connection_info: dict):
        self.volume = volume
        self.connection_info = connection_info

    @property
    def serial(self) -> str:
        return self.connection_info["serial"]

    def other(self, **changes: object):
        """As this one, with other members of data; None takes one away."""
        changed = copy.copy(self)
        changed.connection_info = copy.deepcopy(self.connection_info)
        data = changed.connection_info["data"] | changes
        changed.connection_info["data"] = {key: value for key, value in data.items() if value is not None}
        return changed


@contextlib.contextmanager
def unchanged_host(aiolos):
    """At the end the host is as it was before, and the journal is empty."""
    before = host_state()
    yield
    wait_for_host_state(before)
    assert aiolos.run("attachments", "--config", str(aiolos.config), "--json").json()["attachments"] == []


def source_of(guest, dev: str = "vdb") -> pathlib.Path:
    """The block device that the guest's disk is."""
    return pathlib.Path(domain_disks(guest)[dev].find("source").get("dev"))


def scsi_disks() -> list[str]:
    return sorted(path.name for path in (SYS / "block").glob("sd*"))
