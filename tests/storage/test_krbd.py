# SPDX-License-Identifier: Apache-2.0
"""RBD images that the kernel's client maps to block devices: rbd.client is `kernel`. A cluster and libvirtd run in the VM."""

import pathlib

import pytest
from ceph import MIB, USER, CephCluster
from guest import Guest
from harness import REFUSED, aiolos_binary, domain_disks
from libvirt_daemon import LibvirtDaemon
from rbd_aiolos import RbdAiolos, Volume, held, kill_while, reconcile
from tools import load, wait_for

pytestmark = pytest.mark.ceph

MAPPED = pathlib.Path("/sys/bus/rbd/devices")


def mapped() -> list[str]:
    """The images that the kernel has, as pool/image."""
    return [f"{(each / 'pool').read_text().strip()}/{(each / 'name').read_text().strip()}" for each in MAPPED.glob("*")]


@pytest.fixture(scope="module")
def ceph():
    with CephCluster() as made:
        yield made


@pytest.fixture(scope="module")
def libvirt(ceph):
    with LibvirtDaemon(network=ceph.network) as made:
        yield made


@pytest.fixture(scope="module")
def secret(ceph, libvirt):
    return libvirt.define_secret("ceph", f"client.{USER} secret", ceph.user(USER))


@pytest.fixture(scope="module")
def guest(libvirt):
    load("kvm_amd")
    made = Guest(libvirt=libvirt, virt_type="kvm")
    made.start(timeout=240)
    yield made
    made.destroy()


@pytest.fixture
def aiolos(ceph, guest, tmp_path):
    made = RbdAiolos(aiolos_binary(), guest, tmp_path, within=ceph.network)
    made.configure("client: kernel, connect_timeout: 60")  # an emulated processor needs seconds for what takes 0.1 s
    return made


@pytest.fixture
def volume(ceph, secret, request):
    return Volume(ceph.connection_info(ceph.create_image(request.node.name, 32 * MIB), USER, secret))


def test_guest_works_on_a_mapped_image_that_grows(aiolos, ceph, guest, volume):
    name = volume.connection_info["data"]["name"]
    shown = aiolos.attach(volume, "--json").json()
    device = domain_disks(guest)["vdb"].find("source").get("dev")
    assert device.startswith("/dev/rbd") and mapped() == [name]
    assert shown["aio"]["mode"] == "native"
    inside = guest.wait_disk(volume.serial)
    guest.check(f"tr '\\0' Z </dev/zero | dd of={inside} bs=64k count=16 iflag=fullblock conv=fsync 2>&1", timeout=180)
    assert ceph.content(name, 0, MIB) == b"Z" * MIB

    refused = aiolos.extend(16 * MIB, "--json", expect=REFUSED).error()
    assert f"{name} has {32 * MIB} bytes" in refused["message"]
    ceph.rbd("resize", "--size", "48M", name)
    aiolos.extend(48 * MIB)
    wait_for(lambda: guest.check(f"blockdev --getsize64 {inside}") == f"{48 * MIB}\n", "the guest to see the new size")

    aiolos.detach()
    assert mapped() == [] and held(aiolos) == []
    aiolos.detach()


def test_mapping_of_somebody_else_is_used_and_left(aiolos, ceph, guest, volume):
    name = volume.connection_info["data"]["name"]
    device = ceph.rbd("map", "-o", "noudev", name).decode().strip()
    aiolos.attach(volume)
    assert domain_disks(guest)["vdb"].find("source").get("dev") == device
    aiolos.detach()
    assert mapped() == [name]
    ceph.rbd("unmap", "-o", "noudev", device)


def test_killed_attach_leaves_no_mapping(aiolos, guest, volume):
    attach = ["attach", "--domain", guest.name, *aiolos.request(volume.connection_info)]
    kill_while(aiolos, attach, lambda: mapped() != [])
    reconcile(aiolos)
    if held(aiolos):  # the guest had the disk already
        aiolos.detach()
    assert mapped() == [] and domain_disks(guest) == {}
