# SPDX-License-Identifier: Apache-2.0
"""A driver, killed at every of its writes to the journal: reconcile leaves host and journal as they were.

The moments are those of a run that is not killed, so their list follows the code (tests/crash). The guest is a file
(tests/flows): what a crash leaves in a real one, and the flows' own writes, are tests/e2e's. The reconcile is the agent's,
as the command runs it. A module of tests has a fixture `crashing` for its volumes, and imports the two tests.
"""

import pathlib
import sys

from flows import KILLED, Flows
from host_state import host_state, wait_for_host_state

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from crash import Moment, Moments, of_driver  # noqa: E402


class Crashing:
    """One volume, attached and detached, with whoever does it killed and another to reconcile."""

    def __init__(self, info: dict, flows: Flows, moments: Moments):
        self.info = info
        self.flows = flows
        self.moments = moments
        self.before = self.state()
        self.attach()  # the first one makes the journal
        self.detach()

    def state(self):
        """What has to be the same afterwards."""
        return host_state()

    def assert_as_before(self) -> None:
        wait_for_host_state(self.before)

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
        self.assert_as_before()


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
