# SPDX-License-Identifier: Apache-2.0
"""tests/storage/rounds.py for RBD with QEMU's client. `bench/run rounds` runs it, and `./test` does not."""

from ceph import USER
from rbd_flows import RbdFlows
from rounds import run_rounds


def test_rounds(ceph, libvirt, secret, rbd_image, folder, capsys):
    with RbdFlows(folder, ceph, libvirt, stay=True) as flows:

        def assert_same(before: list) -> None:
            assert flows.confs() == before == []

        run_rounds(flows, ceph.connection_info(rbd_image, USER, secret), "rbd", capsys, flows.confs, assert_same)
