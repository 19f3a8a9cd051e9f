# SPDX-License-Identifier: Apache-2.0
"""What the other tests stand on: they run in the VM, and see what is left on a host."""

import os

from host_state import host_state, state_difference, wait_for_host_state
from tools import MIB


def test_runs_in_the_vm():
    assert os.uname().nodename == "storage-vm"


def test_difference_of_host_states_names_what_changed():
    before = {"mounts": ["a", "b"], "SCSI devices": []}
    after = {"mounts": ["b", "c"], "SCSI devices": ["2:0:0:0"]}
    assert state_difference(before, after).splitlines() == ["- mounts: a", "+ mounts: c", "+ SCSI devices: 2:0:0:0"]
    assert state_difference(before, before) == ""


def test_state_of_a_host_shows_a_volume_that_is_used(volume_group):
    before = host_state()
    with open(volume_group.thick("used", 16 * MIB), "rb"):
        changed = state_difference(before, host_state())
    assert "+ device mapper maps: vg0-used" in changed and "+ open block devices: " in changed
    assert "+ block devices: dm-" in changed
    volume_group.remove("used")
    wait_for_host_state(before)
