# SPDX-License-Identifier: Apache-2.0
"""Each driver, killed at every of its writes to the journal: reconcile leaves host and journal as they were.

The moments are those of a run that is not killed, so their list follows the code (tests/crash). The guest is a file
(tests/flows): what a crash leaves in a real one, and the flows' own writes, are tests/e2e's. The reconcile is the agent's,
as the command runs it. SCSI disks are combined by dm-multipath, so that its steps are among these.
"""

import sys

import pytest
from each_driver import ready_on_one_path  # noqa: F401  (a fixture)
from flows import KILLED, Flows
from harness import PROJECT
from host_state import host_state, wait_for_host_state

sys.path.insert(0, str(PROJECT / "tests/crash"))
from crash import Moment, Moments, of_driver  # noqa: E402


class Crashing:
    """One volume, attached and detached, with whoever does it killed and another to reconcile."""

    def __init__(self, info: dict, flows: Flows, moments: Moments):
        self.info = info
        self.flows = flows
        self.moments = moments
        self.before = host_state()

    def attach(self, environment=None) -> None:
        self.flows.attach(self.info, environment)

    def detach(self, environment=None) -> None:
        self.flows.detach(environment)

    def kill(self, verb: str, moment: Moment) -> None:
        answer = self.flows.ask(verb, self.moments.environment(moment), domain="guest", target="vdb",
                                connection_info=self.info)
        assert answer == KILLED, f"{verb} was not killed {moment}: {answer}"

    def reconcile(self) -> None:
        """Neither guest, journal nor host has anything of the volume afterwards."""
        left = [entry for entry in self.flows.done("reconcile") if entry["outcome"] == "left"]
        assert left == []
        assert self.flows.done("attachments") == []
        assert not (self.flows.state / "guests/guest/vdb").exists()
        wait_for_host_state(self.before)


@pytest.fixture(scope="session")
def folder_of_moments(tmp_path_factory):
    """One for all tests: compiling takes an emulated processor seconds."""
    return tmp_path_factory.mktemp("moments")


@pytest.fixture
def crashing(ready_on_one_path, folder_of_moments, tmp_path):  # noqa: F811
    ready = ready_on_one_path
    moments = Moments(folder_of_moments, tmp_path / "state/journal.sqlite")
    with Flows(tmp_path, ready.configuration, preload=moments.library) as flows:
        made = Crashing(ready.connection_info, flows, moments)
        made.attach()  # the first one makes the journal
        made.detach()
        yield made


def test_killed_while_attaching(crashing):
    moments = of_driver(crashing.moments.of(crashing.attach))
    crashing.detach()
    assert moments, "connect writes nothing to the journal"
    for moment in moments:
        crashing.kill("attach", moment)
        crashing.reconcile()


def test_killed_while_detaching(crashing):
    crashing.attach()
    moments = of_driver(crashing.moments.of(crashing.detach))
    assert moments, "disconnect writes nothing to the journal"
    for moment in moments:
        crashing.attach()
        crashing.kill("detach", moment)
        crashing.reconcile()
