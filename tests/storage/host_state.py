# SPDX-License-Identifier: Apache-2.0
"""What connecting storage leaves on a host, so that a test can tell whether it is as it was before."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import re
import time
from collections.abc import Iterator

from tools import RUN, SYS, StorageError, read, size_of

ISCSI_RECORDS = pathlib.Path("/etc/iscsi/nodes")


def host_state() -> dict[str, list[str]]:
    """What there is now, by subject. Two of these are equal when nothing was left."""
    return {
        "iSCSI sessions": iscsi_sessions(),
        "iSCSI records": sorted(str(path.relative_to(ISCSI_RECORDS)) for path in matches(ISCSI_RECORDS, "*/*")),
        "FC remote ports": fc_remote_ports(),
        "NVMe controllers": sorted(f"{read(path / 'subsysnqn')} {read(path / 'address')}"
                                   for path in (SYS / "class/nvme").glob("*")),
        "SCSI devices": sorted(path.name for path in (SYS / "class/scsi_device").glob("*")),
        "block devices": block_devices(),
        "device mapper maps": sorted(f"{name} {identifier}" for name, identifier in maps().items()),
        "mounts": mounts(),
        "open block devices": open_block_devices(),
    }


def wait_for_host_state(before: dict[str, list[str]], timeout: float = 15) -> None:
    """Wait until the host is as it was, for the kernel removes devices in its own time; StorageError says what differs."""
    deadline = time.monotonic() + timeout
    while difference := state_difference(before, host_state()):
        if time.monotonic() > deadline:
            raise StorageError(f"after {timeout} s the host is not as before:\n{difference}")
        time.sleep(0.2)


def state_difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> str:
    lines = []
    for subject in before:
        for sign, one, other in (("-", before, after), ("+", after, before)):
            lines += [f"{sign} {subject}: {entry}" for entry in one[subject] if entry not in other[subject]]
    return "\n".join(lines)


def matches(folder: pathlib.Path, pattern: str) -> Iterator[pathlib.Path]:
    """As `folder.glob(pattern)`, which fails where a folder goes while it is looked at."""
    return (folder / path for path in glob.iglob(pattern, root_dir=folder))


def block_devices() -> list[str]:
    """Names and sizes of those that hold something, but for the loop devices that are the targets' side of volumes."""
    found = []
    for device in (SYS / "block").iterdir():
        with contextlib.suppress(OSError):  # it may go while it is looked at
            backing = device / "loop/backing_file"
            of_target = backing.exists() and read(backing).startswith(f"{RUN}/")
            if size_of(device.name) and not of_target:
                found.append(f"{device.name} {size_of(device.name)}")
    return sorted(found)


def iscsi_sessions() -> list[str]:
    found = []
    for session in (SYS / "class/iscsi_session").glob("*"):
        address = next(matches(session / "device", "connection*/iscsi_connection/*/persistent_address"), None)
        with contextlib.suppress(OSError):  # it may go while it is looked at
            found.append(f"{read(session / 'targetname')} {read(address) if address else '?'} {read(session / 'state')}")
    return sorted(found)


def fc_remote_ports() -> list[str]:
    found = []
    for port in (SYS / "class/fc_remote_ports").glob("*"):
        host = SYS / "class/fc_host" / re.sub(r"rport-(\d+):.*", r"host\1", port.name)
        with contextlib.suppress(OSError):
            found.append(f"{read(host / 'port_name')} -> {read(port / 'port_name')} {read(port / 'port_state')}")
    return sorted(found)


def maps() -> dict[str, str]:
    """Device mapper's maps: name -> UUID, with `(suspended)` after it where that is so."""
    found = {}
    for folder in (SYS / "block").glob("dm-*/dm"):
        with contextlib.suppress(OSError):
            suspended = " (suspended)" if read(folder / "suspended") == "1" else ""
            found[read(folder / "name")] = read(folder / "uuid") + suspended
    return found


def mounts() -> list[str]:
    lines = (line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines())
    return sorted(f"{source} on {place} type {kind}" for source, place, kind, *_ in lines)


def open_block_devices() -> list[str]:
    """Who holds which block device open, udev's passing workers aside."""
    found = set()
    for process in os.listdir("/proc"):
        if not process.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it may end while it is looked at
            for target in open_files(f"/proc/{process}/fd"):
                if target.startswith("/dev/") and pathlib.Path(target).is_block_device():
                    name = read(pathlib.Path("/proc", process, "comm"))
                    if name != "(udev-worker)":
                        found.add(f"{name} {target}")
    return sorted(found)


def open_files(folder: str) -> Iterator[str]:
    for descriptor in os.listdir(folder):
        with contextlib.suppress(OSError):
            yield os.readlink(f"{folder}/{descriptor}")
