# SPDX-License-Identifier: Apache-2.0
"""The aiolos command as the RBD tests run it."""

import pathlib
import subprocess
import time
from typing import NamedTuple

from harness import Aiolos


class Volume(NamedTuple):
    connection_info: dict

    @property
    def serial(self) -> str:
        return self.connection_info["serial"]


class RbdAiolos(Aiolos):
    """The command in the cluster's network, with files of its own for QEMU."""

    @property
    def conf_dir(self) -> pathlib.Path:
        return self.folder / "conf"

    def confs(self) -> list[str]:
        """What it keeps for QEMU."""
        return [path.read_text() for path in self.conf_dir.glob("*")]

    def configure(self, more: str = "") -> None:
        """`more` is YAML for the section rbd, in one line."""
        super().configure(f'rbd: {{conf_dir: "{self.conf_dir}"{", " if more else ""}{more}}}\n')


def held(aiolos) -> list[dict]:
    return aiolos.run("attachments", "--config", str(aiolos.config), "--json").json()["attachments"]


def kill_while(aiolos, arguments: list[str], condition) -> None:
    """Start the command and kill it, and what it runs, as soon as the condition holds."""
    started = subprocess.Popen([*aiolos.command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not condition():
            assert started.poll() is None and time.monotonic() < deadline, "it never came so far"
            time.sleep(0.02)
    finally:
        started.kill()
        started.wait()


def reconcile(aiolos) -> None:
    aiolos.run("reconcile", "--config", str(aiolos.config))
