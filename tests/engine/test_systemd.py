# SPDX-License-Identifier: Apache-2.0
"""aiolos-engine as its unit file has it, under a real systemd: a user instance in namespaces of its own. It keeps the
sessions, so also those disks go on to which libvirt 9.0 has QEMU not reconnect: those that were plugged in."""

import time

import pytest
from engine_process import ENGINE, Engine
from engine_unit import SYSTEMD, UNIT, Systemd
from test_engine import end_verify, guest_disks, guest_with, make_disks, plug, start_verify


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
