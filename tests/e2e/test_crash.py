# SPDX-License-Identifier: Apache-2.0
"""Killed at any moment of attach and detach, `aiolos reconcile` finishes or undoes what was begun."""

import sys

import pytest
from harness import MIB, PROJECT, domain_disks, write_pattern

sys.path.insert(0, str(PROJECT / "tests/crash"))
from crash import KILLED, Moments  # noqa: E402


class Crashing:
    """One volume and one guest; every command is killed at a moment, reconciled, and looked at."""

    def __init__(self, aiolos, guest, volume):
        self.aiolos = aiolos
        self.guest = guest
        self.volume = volume
        self.moments = Moments(aiolos.folder, aiolos.folder / "state/journal.sqlite")
        self.attach()  # the first one makes the journal, which are moments that no other has
        self.detach()

    def attach(self, environment=None, expect=0):
        return self.aiolos.attach(self.volume, env=environment, expect=expect)

    def detach(self, environment=None, expect=0):
        return self.aiolos.detach(env=environment, expect=expect)

    def reconcile(self):
        return self.aiolos.run("reconcile", "--config", str(self.aiolos.config))

    def check_consistent(self) -> bool:
        """The guest has the disk if and only if the journal holds it as attached, with nothing unfinished."""
        held = self.aiolos.run("attachments", "--config", str(self.aiolos.config), "--json").json()["attachments"]
        has_it = "vdb" in domain_disks(self.guest)
        states = [(each["state"], each["unfinished"], each["unfinished_effects"]) for each in held]
        assert states == ([("attached", [], [])] if has_it else []), f"guest has the disk: {has_it}, journal: {held}"
        return has_it


@pytest.fixture
def crashing(aiolos, guest, volumes):
    return Crashing(aiolos, guest, volumes.raw_fallocated())


def test_attach_killed_at_every_moment(crashing, guest):
    moments = crashing.moments.of(crashing.attach)
    crashing.detach()
    outcomes = set()
    for moment in moments:
        crashing.attach(crashing.moments.environment(moment), expect=KILLED)
        crashing.reconcile()
        outcomes.add(crashing.check_consistent())
        # Whatever it was, the volume can be attached and works.
        crashing.attach()
        write_pattern(guest, guest.wait_disk(crashing.volume.serial))
        assert crashing.volume.has_pattern(ord("Z"), 0, MIB)
        crashing.detach()
        assert not crashing.check_consistent()
    assert outcomes == {True, False}, "the moments are on one side of the attach only"


def test_detach_killed_at_every_moment(crashing):
    crashing.attach()
    moments = crashing.moments.of(crashing.detach)
    outcomes = set()
    for moment in moments:
        crashing.attach()
        crashing.detach(crashing.moments.environment(moment), expect=KILLED)
        crashing.reconcile()
        outcomes.add(crashing.check_consistent())
    crashing.detach()
    assert outcomes == {True, False}, "the moments are on one side of the detach only"
