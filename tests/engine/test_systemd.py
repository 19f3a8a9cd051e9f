# SPDX-License-Identifier: Apache-2.0
"""aiolos-engine as its unit file has it, under a real systemd: a user instance in namespaces of its own. It keeps the
sessions, so also those disks go on to which libvirt 9.0 has QEMU not reconnect: those that were plugged in."""

import os
import pathlib
import subprocess
import time

import pytest
from engine_process import ENGINE, Engine
from test_engine import end_verify, guest_disks, guest_with, make_disks, plug, start_verify

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


@pytest.fixture
def systemd(folder):
    if not SYSTEMD.exists():
        pytest.skip("this machine has no systemd")
    started = Systemd(folder, f"{ENGINE} --admin {folder}/admin --state {folder}/state")
    yield started
    print(started.log.read_text())
    started.close()


def test_disks_that_were_plugged_in_outlive_restarts_and_crashes_of_the_unit(systemd, folder):
    engine = Engine(folder)
    systemd.wait_until(lambda: engine.ask("list"))
    disks = make_disks(engine, 6)
    with guest_with([]) as guest:
        for i, (_, at) in enumerate(disks):
            plug(guest, folder, at, f"vd{chr(ord('a') + i)}")
        start_verify(guest, guest_disks(guest, disks), seconds=14)
        for end in [("restart",), ("kill", "--signal=KILL")] * 2:
            time.sleep(1.5)
            before = systemd.show("MainPID")
            systemd.control(*end, UNIT)
            systemd.wait_until(lambda: systemd.show("MainPID") not in (before, "0") and systemd.show("ActiveState") == "active")
        end_verify(guest)
        for name, _ in disks:
            figures = engine.stats(name)
            assert figures["connected"] and figures["connections"] == 1 and figures["broken_rings"] == 0, figures
        assert int(systemd.show("NFileDescriptorStore")) > 6 * 5
    systemd.wait_until(lambda: systemd.show("NFileDescriptorStore") == "0")
