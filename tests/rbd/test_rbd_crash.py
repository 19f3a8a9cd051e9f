# SPDX-License-Identifier: Apache-2.0
"""The RBD driver with QEMU's client, killed at every of its writes to the journal: no file of its stays behind."""

import pathlib

import pytest
from ceph import USER
from rbd_flows import RbdFlows
from crashing import Crashing, Moments, test_killed_while_attaching, test_killed_while_detaching  # noqa: F401  (tests)


class RbdCrashing(Crashing):
    def state(self) -> list[pathlib.Path]:
        return self.flows.confs()

    def assert_as_before(self) -> None:
        assert self.state() == self.before == []


@pytest.fixture
def crashing(ceph, libvirt, secret, rbd_image, folder):
    moments = Moments(folder, folder / "state/journal.sqlite")
    with RbdFlows(folder, ceph, libvirt, preload=moments.library) as flows:
        yield RbdCrashing(ceph.connection_info(rbd_image, USER, secret), flows, moments)
