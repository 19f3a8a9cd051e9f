# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one Ceph cluster, one libvirtd beside it and one guest under that for the whole session; images per test."""

import itertools
import pathlib
import shutil
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "guest"), str(HERE.parent / "e2e")]
import image  # noqa: E402
from ceph import MIB, USER, CephCluster  # noqa: E402
from guest import Guest  # noqa: E402
from harness import aiolos_binary  # noqa: E402
from libvirt_daemon import LibvirtDaemon  # noqa: E402
from namespaces import why_impossible  # noqa: E402
from rbd_aiolos import RbdAiolos  # noqa: E402

image_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def namespaces():
    """All tests here need them: skips where the machine gives none."""
    if reason := why_impossible():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(namespaces):
    with CephCluster() as made:
        yield made


@pytest.fixture
def ceph(cluster):
    """A cluster that answers, whatever the test before has stopped."""
    yield cluster
    cluster.restore()


@pytest.fixture(scope="session")
def libvirt(cluster):
    """libvirtd in the cluster's network."""
    with LibvirtDaemon(network=cluster.network) as made:
        yield made


@pytest.fixture(scope="session")
def key(cluster):
    """What USER authenticates with."""
    return cluster.user(USER)


@pytest.fixture(scope="session")
def secret(libvirt, key):
    """The UUID of the libvirt secret that has the key."""
    return libvirt.define_secret("ceph", f"client.{USER} secret", key)


@pytest.fixture(scope="session")
def running_guest(libvirt):
    with Guest(libvirt=libvirt) as made:
        yield made


@pytest.fixture
def guest(running_guest, ceph):
    """A running guest without disks; what a test leaves attached is taken away."""
    yield running_guest
    ceph.restore()  # a disk that waits for its storage does not go
    for target in running_guest.disk_targets():
        running_guest.virsh("detach-disk", running_guest.name, target, "--live")
    deadline = time.monotonic() + 30
    while running_guest.disk_targets() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running_guest.disk_targets(), "the guest does not give its disks up"


@pytest.fixture
def rbd_image(ceph):
    """An image of 64 MiB, as "pool/name". It goes with the cluster, and takes the memory of what is written."""
    return ceph.create_image(f"volume-{next(image_numbers)}", 64 * MIB)


@pytest.fixture
def folder(request):
    """Of one test, in the state folder, as each part of the tests has it."""
    path = image.state_folder() / "rbd" / request.node.name.translate(str.maketrans("[]/ ", "----"))[:60]
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def aiolos(guest, cluster, folder):
    return RbdAiolos(aiolos_binary(), guest, folder, within=cluster.network)
