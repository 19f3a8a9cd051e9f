# SPDX-License-Identifier: Apache-2.0
"""What the storage tests' own code is made of: commands with deadlines, waiting, sysfs, and clean-up."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "guest"))
from managed import Managed  # noqa: E402, F401  (for those who import it from here)

MIB = 1 << 20
SYS = pathlib.Path("/sys")
RUN = pathlib.Path("/run/storage")  # what the targets keep


class StorageError(Exception):
    """A target or tool did not do what was asked."""


def run(*command: object, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a tool; StorageError with what it printed if its status is not 0, unless check is false."""
    arguments = [str(argument) for argument in command]
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise StorageError(f"{' '.join(arguments)} did not end within {timeout} s") from error
    if check and done.returncode != 0:
        raise StorageError(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@contextlib.contextmanager
def in_time(limit: float = 40):
    """What is done within waits for no dead server: the drivers' own bounds are below 12 seconds, the shortest of the
    tools' is 126. What is between is for the emulated processor, which others keep busy, too."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < limit, f"took {took:.1f} s, allowed are {limit} s"


def wait_for(condition: Callable[[], object], what: str, timeout: float = 30):
    """Ask until the answer is true, and return it; StorageError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise StorageError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.05)


@functools.cache  # modprobe reads its indexes each time, and nobody here takes a module out again
def load(*modules: str) -> None:
    run("modprobe", "--all", *modules)


def read(path: pathlib.Path) -> str:
    return path.read_text().strip()


def write(path: pathlib.Path, value: object) -> None:
    """In one write, and without a newline: LIO would take it for a part of a password."""
    path.write_text(str(value))


def size_of(device: os.PathLike | str) -> int:
    """A block device's size in bytes, as the kernel knows it now."""
    return int(read(SYS / "class/block" / os.path.basename(os.path.realpath(device)) / "size")) * 512



def end_process(name: str, stop: Callable[[], object], timeout: float = 10) -> None:
    """Ask a daemon of this name to end; kill it if it does not."""
    stop()
    try:
        wait_for(lambda: not processes(name), f"{name} to end", timeout)
    except StorageError:
        for pid in processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not processes(name), f"{name} to be killed")


def terminate(name: str) -> None:
    for pid in processes(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def processes(name: str) -> list[int]:
    found = []
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text() == f"{name}\n":
                found.append(int(comm.parent.name))
    return found
