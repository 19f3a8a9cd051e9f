# SPDX-License-Identifier: Apache-2.0
"""RBD images that the VM's kernel maps to block devices (rbd.client: kernel), of a Ceph cluster beside the VM."""

import contextlib
import json
import pathlib
from typing import NamedTuple

import pytest
from ceph import MIB, connection_info
from crashing import Crashing, Moments, test_killed_while_attaching, test_killed_while_detaching  # noqa: F401  (tests)
from flows import Flows
from harness import REFUSED, aiolos_binary, domain_disks
from in_vm import CLUSTER
from rbd_aiolos import RbdAiolos, Volume, held, kill_while, reconcile
from storage_vm import OUT_ADDRESS, OUT_GATEWAY, OUT_MAC, SHARE
from targets import interface
from tools import run, wait_for

pytestmark = pytest.mark.ceph

SETTINGS = "client: kernel, connect_timeout: 60"  # an emulated processor needs seconds for what takes 0.1 s
MAPPED = pathlib.Path("/sys/bus/rbd/devices")


def mapped() -> list[str]:
    """The images that the kernel has, as pool/image."""
    found = []
    for each in MAPPED.glob("*"):
        with contextlib.suppress(OSError):  # it may go while it is looked at
            found.append(f"{(each / 'pool').read_text().strip()}/{(each / 'name').read_text().strip()}")
    return found


class Cluster(NamedTuple):
    """The one outside, as it is used from in here."""

    monitors: list[str]
    conf: str  # the administrator's
    pool: str
    user: str
    key: str

    def rbd(self, *command: object) -> str:
        return run("rbd", "--conf", self.conf, *command, timeout=120).stdout

    def create_image(self, name: str, size: int) -> str:
        self.rbd("create", "--size", f"{size}B", f"{self.pool}/{name}")
        return f"{self.pool}/{name}"

    def begins_with(self, image: str, expected: str) -> bool:
        """Whether Ceph's own client reads that at the image's beginning."""
        count = len(expected)
        return run("sh", "-c", f"rbd --conf {self.conf} export --no-progress {image} - | head -c {count}",
                   timeout=120).stdout == expected


@pytest.fixture(scope="module")
def cluster():
    told = json.loads((SHARE / CLUSTER).read_text())
    if "impossible" in told:
        pytest.skip(told["impossible"])
    nic = interface(OUT_MAC)
    run("ip", "address", "add", OUT_ADDRESS, "dev", nic)
    run("ip", "link", "set", nic, "up")
    for monitor in told["monitors"]:
        run("ip", "route", "add", monitor, "via", OUT_GATEWAY)
    yield Cluster(**told)
    run("ip", "link", "set", nic, "down")
    run("ip", "address", "flush", "dev", nic)


@pytest.fixture(scope="module")
def secret(cluster, libvirt):
    return libvirt.define_secret("ceph", f"client.{cluster.user} secret", cluster.key)


@pytest.fixture
def volume(cluster, secret, request):
    image = cluster.create_image(request.node.name, 32 * MIB)
    return Volume(connection_info(cluster.monitors, image, cluster.user, secret))


class MapCrashing(Crashing):
    """The image's mapping, killed at every of the driver's writes to the journal."""

    def state(self) -> list[str]:
        return mapped()

    def assert_as_before(self) -> None:
        wait_for(lambda: mapped() == self.before == [], "the image to be mapped no more")


@pytest.fixture
def crashing(libvirt, volume, tmp_path):
    moments = Moments(tmp_path, tmp_path / "state/journal.sqlite")
    configuration = f"libvirt: {{uri: '{libvirt.uri}'}}\nrbd: {{{SETTINGS}}}\n"
    with Flows(tmp_path, configuration, preload=moments.library) as flows:
        yield MapCrashing(volume.connection_info, flows, moments)


@pytest.fixture
def aiolos(guest, tmp_path):
    made = RbdAiolos(aiolos_binary(), guest, tmp_path)
    made.configure(SETTINGS)
    yield made
    for target in domain_disks(guest):
        made.detach("--force", dev=target)


def test_guest_works_on_a_mapped_image_that_grows(aiolos, cluster, guest, volume):
    name = volume.connection_info["data"]["name"]
    shown = aiolos.attach(volume, "--json").json()
    device = domain_disks(guest)["vdb"].find("source").get("dev")
    assert device.startswith("/dev/rbd") and mapped() == [name]
    assert shown["aio"]["mode"] == "native"
    inside = guest.wait_disk(volume.serial)
    guest.check(f"tr '\\0' Z </dev/zero | dd of={inside} bs=64k count=4 iflag=fullblock conv=fsync 2>&1", timeout=180)
    assert cluster.begins_with(name, "Z" * 4 * 65536)

    refused = aiolos.extend(16 * MIB, "--json", expect=REFUSED).error()
    assert f"{name} has {32 * MIB} bytes" in refused["message"]
    cluster.rbd("resize", "--size", "48M", name)
    aiolos.extend(48 * MIB)
    guest.wait_size(inside, 48 * MIB)

    aiolos.detach()
    assert mapped() == [] and held(aiolos) == []
    aiolos.detach()


def test_mapping_of_somebody_else_is_used_and_left(aiolos, cluster, guest, volume):
    name = volume.connection_info["data"]["name"]
    device = cluster.rbd("map", "-o", "noudev", name).strip()
    aiolos.attach(volume)
    assert domain_disks(guest)["vdb"].find("source").get("dev") == device
    aiolos.detach()
    assert mapped() == [name]
    cluster.rbd("unmap", device)


def test_killed_attach_leaves_no_mapping(aiolos, guest, volume):
    attach = ["attach", "--domain", guest.name, *aiolos.request(volume.connection_info)]
    kill_while(aiolos, attach, lambda: mapped() != [])
    reconcile(aiolos)
    if held(aiolos):  # the guest had the disk already
        aiolos.detach()
    assert mapped() == [] and domain_disks(guest) == {}
