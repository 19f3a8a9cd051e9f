# SPDX-License-Identifier: Apache-2.0
"""aiolos-engine as a process, for tests: started, asked, killed and started again."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ENGINE = pathlib.Path(os.environ.get("AIOLOS", pathlib.Path(__file__).resolve().parents[2] / "build/dev/bin/aiolos")).parent / "aiolos-engine"


class EngineError(Exception):
    """The engine answered with an error; `kind` and `next` as it gave them."""

    def __init__(self, error: dict):
        super().__init__(error["message"])
        self.kind = error["kind"]
        self.next = error["next"]


class Engine:
    """A daemon with its sockets in `folder`, whose path has to be short."""

    def __init__(self, folder: pathlib.Path, *options: str, program: pathlib.Path = ENGINE):
        self.folder = folder
        self.program = program
        self.admin = folder / "admin"
        self.log = folder / "engine.log"
        self.options = options
        self.process: subprocess.Popen | None = None

    def start(self) -> Engine:
        command = [self.program, "--admin", self.admin, "--state", self.folder / "state", *self.options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.ask("list")
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the engine did not start:\n{self.log.read_text()}") from None
                time.sleep(0.01)

    def kill(self) -> None:
        """As a crash would: no word to anybody."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        """SIGTERM. Its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()

    def ask(self, command: str, **members) -> dict:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.admin))
            connection.sendall((json.dumps({"command": command, **members}) + "\n").encode())
            answer = json.loads(connection.makefile().readline())
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["ok"]

    def add(self, path: os.PathLike | str, name: str, aio: str, **members) -> pathlib.Path:
        """Serves a file. Returns the socket."""
        at = self.folder / name
        self.ask("add-disk", disk={"path": str(path), "socket": str(at), "name": name, "aio": aio, **members})
        return at

    def stats(self, name: str) -> dict:
        return next(disk for disk in self.ask("stats")["disks"] if disk["name"] == name)


def disk_xml(at: pathlib.Path, target: str, queues: int = 1) -> str:
    return (f"<disk type='vhostuser' device='disk' snapshot='no'><driver name='qemu' type='raw' queues='{queues}'/>"
            f"<source type='unix' path='{at}'><reconnect enabled='yes' timeout='1'/></source>"
            f"<target dev='{target}' bus='virtio'/></disk>")
