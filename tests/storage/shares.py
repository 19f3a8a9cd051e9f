# SPDX-License-Identifier: Apache-2.0
"""What the tests of volumes on shares have in common: files of an export, a Quobyte client, and how a command is cut off."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import signal

import in_vm
from harness import DONE, domain_disks
from host_state import mounts
from tools import MIB, Managed, load, run, wait_for

HERE = pathlib.Path(__file__).resolve().parent
# The first two places in which Aiolos looks for a program.
STAND_INS, PROGRAMS = pathlib.Path("/usr/local/sbin"), pathlib.Path("/usr/local/bin")


def preallocated(path: pathlib.Path, size: int = 16 * MIB) -> pathlib.Path:
    with open(path, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)
    return path


def sparse(path: pathlib.Path, size: int = 16 * MIB) -> pathlib.Path:
    with open(path, "wb") as stream:
        stream.truncate(size)
    return path


def qcow2(path: pathlib.Path, size: int = 16 * MIB, **options: str) -> pathlib.Path:
    shown = [f"{key}={value}" for key, value in options.items()]
    run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", ",".join(shown)] if shown else []), path, size, "-u")
    return path


def mount_point(base: pathlib.Path, share: str) -> pathlib.Path:
    """Where Nova mounts a share."""
    return base / hashlib.md5(share.encode()).hexdigest()


def mounted_at(place: pathlib.Path) -> list[str]:
    return [line for line in mounts() if f" on {place} type " in line]


def serial_of(name: str) -> str:
    return f"{name:-<20}"


class Attaching:
    """Attaches volumes of one share, which are named by their files, to the running guest."""

    def __init__(self, aiolos, share, base: pathlib.Path):
        """share is an NfsServer or a Quobyte; base becomes the folder of the mount points."""
        self.aiolos = aiolos
        self.guest = aiolos.guest
        self.share = share
        self.base = base
        self.configure()

    def configure(self, **more: str) -> None:
        """With further keys of the driver's section."""
        section = {"mount_point_base": str(self.base), **more}
        self.aiolos.configure(f"{self.volume('')['driver_volume_type']}: {json.dumps(section)}\n")

    def volume(self, name: str, volume_format: str = "raw", export: str | None = None) -> dict:
        info = self.share.connection_info(name, volume_format)
        info["serial"] = serial_of(name)
        if export:
            info["data"]["export"] = export
        return info

    def disk(self, name: str) -> str:
        """The guest's device of that volume."""
        return self.guest.wait_disk(serial_of(name))

    def place(self, export: str | None = None) -> pathlib.Path:
        return mount_point(self.base, (export or self.share.export).removeprefix("quobyte://"))

    def attach(self, info: dict, dev: str = "vdb", **options):
        arguments = ["attach", "--json", "--domain", self.guest.name, *self.aiolos.request(info, dev)]
        return self.aiolos.run(*arguments, **options)

    def detach(self, dev: str = "vdb", *more: str, **options):
        return self.aiolos.detach("--json", *more, dev=dev, **options)

    def held(self) -> list:
        """What the journal has."""
        return self.aiolos.run("attachments", "--json", "--config", str(self.aiolos.config)).json()["attachments"]

    def assert_nothing_left(self) -> None:
        assert self.held() == []
        assert not self.base.exists() or not list(self.base.iterdir())

    def close(self) -> None:
        """Take from the guest what a test has left, so that the next test's disks find their places free."""
        for dev in domain_disks(self.guest):
            if self.detach(dev, "--force", expect=None).status != DONE:
                self.guest.virsh("detach-disk", self.guest.name, dev, "--live")


class StandIn(Managed):
    """A script in the place of a program, for as long as it is open."""

    def __init__(self, program: str, script: str):
        super().__init__()
        self.path = STAND_INS / program
        self.script = script

    def open(self) -> None:
        self.path.write_text(f"#!/bin/sh\n{self.script}\n")
        self.path.chmod(0o755)
        self.undo(self.path.unlink)


def killer(program: str, when: str) -> StandIn:
    """Has whoever runs a program be killed `before` the program does anything, or `after` it has."""
    real = run("which", program).stdout.strip()
    steps = {"before": "kill -9 $PPID", "after": f'{real} "$@"; kill -9 $PPID'}
    return StandIn(program, steps[when])


class Quobyte(Managed):
    """The stand-in for Quobyte's client, and a volume for it."""

    export = "quobyte://registry.example/volume"
    folder = pathlib.Path("/run/quobyte/registry.example/volume")

    def open(self) -> None:
        if in_vm.in_the_vm():
            load("fuse")  # which elsewhere comes by itself with /dev/fuse
        self.folder.mkdir(parents=True)
        self.undo(run, "rm", "-r", "/run/quobyte")
        client = PROGRAMS / "mount.quobyte"
        client.symlink_to(HERE / "mount.quobyte")
        self.undo(client.unlink)
        self.undo(self.kill_clients)

    @staticmethod
    def clients() -> list[int]:
        found = []
        for command in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"mount.quobyte\0" in command.read_bytes():
                    found.append(int(command.parent.name))
        return found

    def kill_clients(self) -> None:
        """The mount stays, and every access fails with ENOTCONN from then on."""
        self.signal_clients(signal.SIGKILL)
        self.wait_for_no_client()

    def wait_for_no_client(self) -> None:
        """They end a moment after their mounts."""
        wait_for(lambda: not self.clients(), "the clients to end")

    def signal_clients(self, number: signal.Signals) -> None:
        for pid in self.clients():
            os.kill(pid, number)

    def connection_info(self, name: str, volume_format: str = "raw") -> dict:
        """As Cinder gives it for a file of the volume."""
        return {"driver_volume_type": "quobyte", "serial": serial_of(name),
                "data": {"export": self.export, "name": name, "options": None, "format": volume_format}}
