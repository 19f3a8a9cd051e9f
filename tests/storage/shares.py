# SPDX-License-Identifier: Apache-2.0
"""What the tests of volumes on shares have in common: files of an export, a Quobyte client, and how a command is cut off."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import time

from host_state import mounts
from tools import MIB, Managed, load, run, wait_for

HERE = pathlib.Path(__file__).resolve().parent
LOCAL_PROGRAMS = pathlib.Path("/usr/local/sbin")  # the first place in which Aiolos looks for a program


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


@contextlib.contextmanager
def in_time(seconds: float):
    """What is done within must take no longer."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < seconds, f"took {took:.1f} s, allowed are {seconds} s"


class StandIn(Managed):
    """A script in the place of a program, for as long as it is open."""

    def __init__(self, program: str, script: str):
        super().__init__()
        self.path = LOCAL_PROGRAMS / program
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
        load("fuse")
        self.folder.mkdir(parents=True)
        self.undo(run, "rm", "-r", "/run/quobyte")
        client = LOCAL_PROGRAMS / "mount.quobyte"
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
        for pid in self.clients():
            os.kill(pid, 9)
        wait_for(lambda: not self.clients(), "the clients to end")

    def connection_info(self, name: str, volume_format: str = "raw") -> dict:
        """As Cinder gives it for a file of the volume."""
        return {"driver_volume_type": "quobyte", "serial": f"{name:-<36}",
                "data": {"export": self.export, "name": name, "options": None, "format": volume_format}}
