# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests on real storage. Tests of this folder run in the storage VM; see in_vm.py."""

import contextlib
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("guest", "e2e", "rbd"))]
import host_state  # noqa: E402
import in_vm  # noqa: E402
import shares  # noqa: E402
import targets  # noqa: E402
from guest import Guest, GuestError  # noqa: E402
from harness import PROJECT, Aiolos, domain_disks  # noqa: E402
from libvirt_daemon import LibvirtDaemon  # noqa: E402
from tools import MIB, load  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_host: this test of tests/storage runs on the host, not in the VM")
    config.addinivalue_line("markers", "any_kernel: this test needs nothing that the host's kernel lacks, and runs beside the VM")
    config.addinivalue_line("markers", "ceph: this test needs a Ceph cluster beside the VM")
    config.pluginmanager.register(in_vm.VmSide(config) if in_vm.is_inside() else in_vm.HostSide(config))


class SystemLibvirt(LibvirtDaemon):
    """In the place of the VM's own, so that it has the URI that everybody uses, by which Aiolos knows QEMU's processes."""

    uri = "qemu:///system"

    def open(self) -> None:
        place = pathlib.Path("/run/libvirt")
        place.symlink_to(self.folder / "run")
        self.undo(place.unlink)
        super().open()


@pytest.fixture
def host_as_before():
    """For tests that must leave nothing: compares the host with what it was. Name it before what has to go first."""
    before = host_state.host_state()
    yield before
    host_state.wait_for_host_state(before)


@pytest.fixture(scope="session")
def wires():
    with targets.Network() as made:
        yield made


@pytest.fixture
def network(wires):
    yield wires
    wires.restore()


@pytest.fixture(scope="session")
def initiator():
    with targets.Initiator() as made:
        yield made


@pytest.fixture
def volume():
    with targets.Volume(64 * MIB) as made:
        yield made


@pytest.fixture
def other_volume():
    with targets.Volume(32 * MIB) as made:
        yield made


@pytest.fixture
def iscsi(network, initiator):
    """A target that wants CHAP."""
    with targets.IscsiTarget(network, initiator, chap=("volume-user", "volume-secret")) as made:
        yield made
        initiator.forget_all()


@pytest.fixture
def multipath():
    with targets.Multipath() as made:
        yield made


@pytest.fixture(scope="session")
def fabrics():
    with targets.FibreChannel() as made:
        yield made


@pytest.fixture
def fibre_channel(fabrics):
    """Two fabrics, both online, without LUNs."""
    fabrics.restore()
    yield fabrics
    fabrics.restore()


@pytest.fixture
def nvme(network):
    with targets.NvmeTcpTarget(network) as made:
        yield made


@pytest.fixture
def nfs(network):
    with targets.NfsServer(network, "/dev/disk/by-id/virtio-nfs") as made:
        yield made


@pytest.fixture
def quobyte():
    with shares.Quobyte() as made:
        yield made


@pytest.fixture
def volume_group():
    with targets.VolumeGroup("/dev/disk/by-id/virtio-lvm") as made:
        yield made


@pytest.fixture(scope="session")
def libvirt():
    """A daemon: an embedded driver is loaded anew by each command, which takes an emulated processor seconds."""
    with SystemLibvirt("/run/daemon") as made:
        yield made


@pytest.fixture(scope="session")
def guest(libvirt):
    """A running guest. In the VM under KVM, as its processor has SVM; ten times as fast as emulation in emulation."""
    if in_vm.in_the_vm():
        load("kvm_amd")
    made = Guest(pathlib.Path("/run/guest"), virt_type="kvm" if in_vm.in_the_vm() else None, libvirt=libvirt)
    made.start(timeout=240)  # 15 s are usual, but a busy host makes all of them many
    yield made
    made.destroy()


@pytest.fixture
def aiolos(guest, tmp_path):
    """The command with a journal of its own, configured for the guest. What a test leaves attached is taken from the guest
    and from the host; name it after the storage, so that this comes first."""
    command = Aiolos(pathlib.Path(os.environ.get("AIOLOS") or PROJECT / "build/dev/bin/aiolos"), guest, tmp_path)
    yield command
    for target in domain_disks(guest):
        if command.detach("--force", dev=target, expect=None).status != 0:
            with contextlib.suppress(GuestError):
                guest.virsh("detach-disk", guest.name, target, "--live")
