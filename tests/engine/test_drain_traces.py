# SPDX-License-Identifier: Apache-2.0
"""What bench/run drain reads from QEMU's traces."""

from qemu import drains

TRACES = """\
17@100.000000:runstate_set current_run_state 6 (prelaunch) new_state 9 (running)
17@101.000000:runstate_set current_run_state 9 (running) new_state 4 (paused)
17@101.014000:vm_stop_flush_all ret 0
17@101.020000:runstate_set current_run_state 4 (paused) new_state 9 (running)
2026-11-22T22:00:00.000000Z qemu-system-x86_64: warning: of something else
17@102.500000:runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)
17@102.628000:vm_stop_flush_all ret 0
17@102.700000:vm_stop_flush_all ret 0
17@102.800000:runstate_set current_run_state 7 (finish-migrate) new_state 5 (postmigrate)
"""


def test_a_drain_lasts_from_the_stop_of_the_guest_to_the_first_flush():
    assert [round(each, 6) for each in drains(TRACES)] == [0.014, 0.128]


def test_a_stop_that_has_not_ended_is_none():
    assert drains(TRACES.split("17@101.014", 1)[0]) == []


def test_traces_without_time_are_none():
    assert drains(TRACES.replace("17@101.000000:", "")) == drains(TRACES)[1:]
