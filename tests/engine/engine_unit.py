# SPDX-License-Identifier: Apache-2.0
"""aiolos-engine as its unit file has it, under a real systemd: a user instance in namespaces of its own, which starts the
daemon again when it ends and keeps its sessions meanwhile."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

from engine_process import ENGINE, Engine

SYSTEMD = pathlib.Path("/lib/systemd/systemd")
UNIT = "aiolos-engine.service"

# systemd looks for /run/systemd/system to see whether it is at home; as process 1 it would take itself for the host's.
START = """
set -e
mount -t proc proc /proc
mount -t tmpfs none /run
mkdir -p /run/systemd/system
/lib/systemd/systemd --user --unit=$0 --log-target=console &
wait
"""


class Systemd:
    def __init__(self, folder: pathlib.Path, exec_start: str):
        runtime, config = folder / "run", folder / "config"
        units = config / "systemd/user"
        (units / f"{UNIT}.d").mkdir(parents=True)
        runtime.mkdir(mode=0o700)
        (units / UNIT).write_text((ENGINE.parent.parent / UNIT).read_text())
        (units / f"{UNIT}.d/here.conf").write_text(f"[Service]\nExecStart=\nExecStart={exec_start}\n")
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(config)}
        self.log = folder / "systemd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", START, UNIT],
                                            env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def control(self, *arguments: str) -> str:
        first = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]
        done = subprocess.run(["nsenter", "--target", first, "--mount", "--pid", "systemctl", "--user", *arguments], env=self.environment, capture_output=True, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0, f"systemctl {arguments}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout

    def show(self, what: str) -> str:
        return self.control("show", "--value", f"--property={what}", UNIT).strip()

    def wait_until(self, condition, timeout=30) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                if condition():
                    return
            except (AssertionError, OSError):
                pass
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)

    def close(self) -> None:
        self.process.kill()  # and all in its namespace with it
        self.process.wait(20)


class EngineUnit(Engine):
    """A daemon that systemd starts, with its sockets in `folder`."""

    def start(self) -> EngineUnit:
        command = [ENGINE, "--admin", self.admin, "--state", self.folder / "state", *self.options]
        self.systemd = Systemd(self.folder / "unit", " ".join(str(word) for word in command))
        self.systemd.wait_until(lambda: self.ask("list"))
        return self

    def pid(self) -> int:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.admin))
            return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def kill(self) -> None:
        """As a crash would. Returns when systemd has started the next one."""
        before = self.pid()
        os.kill(before, signal.SIGKILL)
        self.systemd.wait_until(lambda: self.pid() != before and self.ask("list"))

    def stop(self) -> int:
        raise NotImplementedError("systemd starts it again")

    def close(self) -> None:
        self.systemd.close()
