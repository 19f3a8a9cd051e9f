# SPDX-License-Identifier: Apache-2.0
"""NVMe-oF volumes over TCP, by two portals: the driver under the conformance suite, and attached to a guest."""

import json
import os
import pathlib
import subprocess
import time

import pytest
from exported import Exported, unchanged_host, verify_io
from harness import BAD_INPUT, FAILED, MIB, PROJECT, REFUSED, TRY_AGAIN, write_pattern
from host_state import host_state, wait_for_host_state
from tools import SYS, read, size_of, wait_for

AIOLOS = pathlib.Path(os.environ.get("AIOLOS") or PROJECT / "build/dev/bin/aiolos")
PLUGIN = AIOLOS.parent.parent / "lib/aiolos/plugins/aiolos-nvmeof.so"
class Namespace(Exported):
    def __init__(self, nvme, volume, number: int = 1):
        self.nvme = nvme
        self.uuid = nvme.map(volume, number)
        super().__init__(volume, nvme.connection_info(self.uuid))


@pytest.fixture
def namespace(nvme, volume):
    return Namespace(nvme, volume)


@pytest.fixture
def leaves_nothing(namespace, aiolos):
    """After the test, and before the fixtures clean up, the host is as it was before."""
    with unchanged_host(aiolos):
        yield


def controllers() -> list[str]:
    """Addresses of the controllers of this host."""
    return sorted(read(path / "address").partition(",")[0].removeprefix("traddr=")
                  for path in (SYS / "class/nvme").glob("*"))


def source_of(outcome) -> pathlib.Path:
    return pathlib.Path(outcome.json()["xml"].partition("<source dev='")[2].partition("'")[0])


# --- the conformance suite --------------------------------------------------------------------------------------------


def conformance(namespace, folder: pathlib.Path) -> list[dict]:
    """The checks of the whole suite, killed processes included, on a real namespace."""
    (folder / "volume.json").write_text(json.dumps(namespace.connection_info))
    done = subprocess.run([AIOLOS.parent / "aiolos-conformance", PLUGIN, "--connection", folder / "volume.json", "--connect",
                           "--json"], capture_output=True, text=True, timeout=280)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["checks"]


def test_conformance(namespace, host_as_before, tmp_path):
    checks = conformance(namespace, tmp_path)
    assert [check for check in checks if check["result"] == "FAIL"] == []
    points = [check["name"] for check in checks if check["name"].startswith("crash-points.")]
    assert any("connect " + namespace.nvme.nqn in point for point in points), points
    assert any("disconnect " + namespace.nvme.nqn in point for point in points), points


# --- attached to a guest ----------------------------------------------------------------------------------------------


def test_attach_write_extend_detach(namespace, aiolos, guest, leaves_nothing):
    first = aiolos.attach(namespace, "--json")
    assert first.json()["aio"]["mode"] == "native"
    assert controllers() == list(namespace.nvme.network.portals)
    device = guest.wait_disk(namespace.serial)
    verify_io(guest, device)
    write_pattern(guest, device)
    assert namespace.volume.content(0, MIB) == b"Z" * MIB
    assert source_of(aiolos.attach(namespace, "--json")) == source_of(first), "attaching again is another answer"

    assert "grow the volume at the storage first" in aiolos.extend(96 * MIB, expect=FAILED).err
    namespace.nvme.grow(namespace.volume, 96 * MIB)
    aiolos.extend(96 * MIB)
    assert size_of(source_of(first)) == 96 * MIB
    guest.wait_size(device, 96 * MIB)

    aiolos.detach()
    aiolos.detach()
    assert controllers() == []


def test_two_namespaces_share_the_subsystem(namespace, other_volume, aiolos, guest, leaves_nothing):
    second = Namespace(namespace.nvme, other_volume, 2)
    aiolos.attach(namespace)
    aiolos.attach(second, dev="vdc")
    assert controllers() == list(namespace.nvme.network.portals)
    aiolos.detach()
    write_pattern(guest, guest.wait_disk(second.serial))
    assert second.volume.content(0, MIB) == b"Z" * MIB
    aiolos.detach(dev="vdc")


def test_a_subsystem_that_was_connected_before_stays(namespace, aiolos, guest):
    namespace.nvme.connect(paths=[0])
    before = host_state()
    aiolos.attach(namespace)
    assert controllers() == [namespace.nvme.network.portals[0]]
    aiolos.detach()
    wait_for_host_state(before)


def test_a_dead_portal_costs_seconds_and_not_the_volume(namespace, aiolos, guest, leaves_nothing):
    namespace.nvme.network.swallow(1)
    begun = time.monotonic()
    aiolos.attach(namespace)
    assert time.monotonic() - begun < 30  # 3 s of them for the portal; the rest is the guest's, emulated twice
    assert controllers() == [namespace.nvme.network.portals[0]]
    write_pattern(guest, guest.wait_disk(namespace.serial))
    aiolos.detach()


def test_no_portal_at_all(namespace, aiolos, guest, leaves_nothing):
    for path in (0, 1):
        namespace.nvme.network.swallow(path)
    error = aiolos.attach(namespace, "--json", expect=TRY_AGAIN).json()["error"]
    for portal in namespace.nvme.network.portals:
        assert f"{portal} port 4420: Connection timed out" in error["message"]


def test_a_path_is_lost_and_comes_back(namespace, aiolos, guest, leaves_nothing):
    aiolos.attach(namespace)
    device = guest.wait_disk(namespace.serial)
    namespace.nvme.network.pull(0)
    verify_io(guest, device)
    namespace.nvme.network.plug(0)
    wait_for(lambda: {read(path / "state") for path in (SYS / "class/nvme").glob("*")} == {"live"}, "both paths", 60)
    verify_io(guest, device)
    aiolos.detach()


def test_another_volume_at_the_old_number_is_refused(namespace, other_volume, aiolos, guest, leaves_nothing):
    numbered = namespace.other(ns_id=1)
    aiolos.attach(numbered)
    namespace.nvme.unmap()
    other = Namespace(namespace.nvme, other_volume)
    wait_for(lambda: pathlib.Path(f"/dev/disk/by-id/nvme-uuid.{other.uuid}").exists(), "the kernel to see it")
    aiolos.extend(64 * MIB, expect=REFUSED)
    aiolos.detach()
    error = aiolos.attach(numbered, "--json", expect=REFUSED).json()["error"]
    assert namespace.uuid in error["message"] and other.uuid in error["message"], error


def test_a_disk_in_use_stays(namespace, aiolos, guest, leaves_nothing):
    source = source_of(aiolos.attach(namespace, "--json"))
    with open(source, "rb"):
        refused = aiolos.detach(expect=REFUSED)
        assert f"in use by process {os.getpid()}" in refused.err
        assert controllers() == list(namespace.nvme.network.portals)
    aiolos.detach()


@pytest.mark.parametrize("changes, status, text", [
    ({"dhchap_key": "DHHC-1:00:not-to-be-seen:"}, REFUSED, "DH-HMAC-CHAP"),
    ({"portals": [["10.1.0.1", 4420, "RoCEv2"]]}, REFUSED, "only tcp"),
    ({"portals": [["storage.example", 4420, "tcp"]]}, BAD_INPUT, "/data/portals/0/0"),
    ({"vol_uuid": None}, BAD_INPUT, "/data/vol_uuid"),
])
def test_what_is_refused_before_anything_is_connected(namespace, aiolos, guest, leaves_nothing, changes, status, text):
    refused = aiolos.attach(namespace.other(**changes), expect=status)
    assert text in refused.err
    assert "not-to-be-seen" not in refused.err


def test_the_older_form_of_one_portal(namespace, aiolos, guest, leaves_nothing):
    older = namespace.other(target_nqn=None, portals=None, vol_uuid=None, nqn=namespace.nvme.nqn, transport_type="tcp",
                            target_portal=namespace.nvme.network.portals[0], target_port=4420, ns_id=1)
    aiolos.attach(older)
    assert controllers() == [namespace.nvme.network.portals[0]]
    aiolos.detach()
