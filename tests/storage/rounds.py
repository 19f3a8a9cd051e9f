# SPDX-License-Identifier: Apache-2.0
"""A hundred rounds of attach and detach with each driver, in one process that lives on, leave the host as it was before.

They take minutes, so `bench/run rounds` runs them and `./test` does not: its parts are made of test_*.py. The guest is a
file (tests/flows).
"""

import statistics
import time

import pytest
from each_driver import ready  # noqa: F401  (a fixture)
from flows import Flows
from host_state import host_state, wait_for_host_state
from tools import StorageError

ROUNDS = 100


@pytest.fixture
def flows(ready, tmp_path):  # noqa: F811
    with Flows(tmp_path, ready.configuration, stay=True) as made:
        yield made


def test_rounds(ready, flows, request, capsys):  # noqa: F811
    run_rounds(flows, ready.connection_info, request.node.callspec.id, capsys)


def run_rounds(flows: Flows, info: dict, name: str, capsys, state=host_state, wait_for_state=wait_for_host_state) -> None:
    """state: what has to be the same afterwards; wait_for_state fails if it does not become so."""
    flows.attach(info)  # the first opens what stays open for good: the journal
    flows.detach()
    before, files = state(), flows.open_files()
    times = []
    for number in range(1, ROUNDS + 1):
        begun = time.monotonic()
        try:
            flows.attach(info)
            flows.detach()
        except StorageError as error:
            pytest.fail(f"round {number}, after a median of {statistics.median(times or [0]):.2f} s: {error}")
        times.append(time.monotonic() - begun)
    wait_for_state(before)
    assert flows.open_files() == files
    assert flows.done("attachments") == []
    with capsys.disabled():
        print(f"\nROUNDS {name} {ROUNDS} {statistics.median(times):.2f} {max(times):.2f}")
