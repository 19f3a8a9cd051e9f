# SPDX-License-Identifier: Apache-2.0
"""The command with a configuration and a state folder of its own, and what its tests look at."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import aiolos_binary  # noqa: E402


class Command:
    """`aiolos measure` and others, on a state folder of their own."""

    def __init__(self, state: pathlib.Path) -> None:
        self.state = state
        self.config = state / "aiolos.yaml"
        self.config.write_text(f"state: {{dir: {state}}}\naio: {{profile: measured}}\n")

    def start(self, *arguments: object, **options) -> subprocess.Popen:
        command = [str(aiolos_binary()), *(str(a) for a in arguments), "--config", str(self.config)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, *arguments: object, expect: int = 0) -> str:
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=180)
        assert process.returncode == expect, f"{process.returncode}: {out}{errors}"
        return out if expect == 0 else errors

    def json(self, *arguments: object) -> dict:
        return json.loads(self.run(*arguments, "--json"))

    def measure(self, *arguments: object) -> dict:
        """Short runs: what is tested is not how fast anything is."""
        return self.json("measure", "--seconds", "0.1", "--repetitions", "1", "--size", "16M", *arguments)


def checksum(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def image(folder: pathlib.Path, kind: str = "raw", size: int = 16 << 20) -> pathlib.Path:
    """A preallocated image in which there is something to lose."""
    file = folder / f"image.{kind}"
    plain = folder / "plain"
    plain.write_bytes(os.urandom(size))
    if kind == "raw":
        return plain.rename(file)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, plain, file], check=True)
    plain.unlink()
    return file


def children(pid: int) -> list[int]:
    """Living processes that this one has started."""
    found = []
    for each in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += [int(child) for child in each.read_text().split()]
    return found


def wait_for(what, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come about in time")


def left_in_tmp() -> set[pathlib.Path]:
    return set(pathlib.Path("/tmp").glob(".aiolos-measure-*"))
