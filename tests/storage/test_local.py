# SPDX-License-Identifier: Apache-2.0
"""Logical volumes, thick and thin: activated, attached to a running guest, and as before afterwards."""

import uuid

import pytest
from exported import verify_io
from harness import FAILED, domain_disks
from tools import MIB, run, wait_for


def volume_at(path) -> dict:
    return {"driver_volume_type": "local", "serial": str(uuid.uuid4())[:20], "data": {"device_path": str(path)}}


def attach(aiolos, info: dict, *more: str, dev: str = "vdb", **options):
    return aiolos.run("attach", "--json", "--domain", aiolos.guest.name, *aiolos.request(info, dev), *more, **options)


def is_active(group, name: str) -> bool:
    return run("lvs", "--noheadings", "-o", "lv_active", f"{group.name}/{name}").stdout.strip() == "active"


@pytest.fixture
def volumes(volume_group):
    """One that is thick."""
    volume_group.thick("thick", 32 * MIB)
    return volume_group


def add_thin(volumes) -> None:
    volumes.pool("pool", 64 * MIB)
    volumes.thin("pool", "thin", 32 * MIB)


@pytest.mark.parametrize("name, native", [("thick", True), ("thin", False)])
def test_an_active_volume_is_attached_and_stays_active(host_as_before, aiolos, volumes, name, native):
    if name == "thin":
        add_thin(volumes)
    info = volume_at(volumes.device(name))
    answer = attach(aiolos, info).json()
    assert (answer["aio"]["mode"] == "native") == native, answer["aio"]
    verify_io(aiolos.guest, aiolos.guest.wait_disk(info["serial"]))
    aiolos.detach()
    assert is_active(volumes, name)


@pytest.mark.parametrize("path", ["/dev/vg0/thick", "/dev/mapper/vg0-thick"])
def test_an_inactive_volume_is_activated_for_as_long_as_it_is_attached(host_as_before, aiolos, volumes, path):
    run("lvchange", "-a", "n", "vg0/thick")
    info = volume_at(path)
    attach(aiolos, info)
    assert is_active(volumes, "thick")
    verify_io(aiolos.guest, aiolos.guest.wait_disk(info["serial"]))
    aiolos.detach()
    assert not is_active(volumes, "thick")
    run("lvchange", "-a", "y", "vg0/thick")


def test_a_thin_snapshot_is_activated_though_it_says_skip(host_as_before, aiolos, volumes):
    add_thin(volumes)
    run("lvcreate", "-y", "-s", "-n", "copy", "vg0/thin")
    assert not is_active(volumes, "copy")
    info = volume_at(volumes.device("copy"))
    assert attach(aiolos, info).json()["aio"]["mode"] != "native"
    verify_io(aiolos.guest, aiolos.guest.wait_disk(info["serial"]))
    aiolos.detach()
    assert not is_active(volumes, "copy")


def test_a_volume_that_somebody_uses_stays_active(aiolos, volumes):
    run("lvchange", "-a", "n", "vg0/thick")
    attach(aiolos, volume_at(volumes.device("thick")))
    with open(volumes.device("thick"), "rb"):
        aiolos.detach()
        assert is_active(volumes, "thick")


def test_a_volume_grows_under_the_guest(aiolos, volumes):
    info = volume_at(volumes.device("thick"))
    attach(aiolos, info)
    refused = aiolos.extend(48 * MIB, "--json", expect=FAILED).error()
    assert "lvextend" in refused["next"]
    volumes.grow("thick", 48 * MIB)
    aiolos.extend(48 * MIB)
    device = aiolos.guest.wait_disk(info["serial"])
    aiolos.guest.wait_size(device, 48 * MIB)
    aiolos.detach()


def test_a_thin_pool_that_fills_up_pauses_the_guest_which_goes_on_once_it_has_grown(host_as_before, aiolos, volumes):
    volumes.pool("pool", 32 * MIB)
    volumes.thin("pool", "thin", 64 * MIB)
    run("lvchange", "--errorwhenfull", "y", "vg0/pool")  # by itself it keeps writes for 60 s first
    info = volume_at(volumes.device("thin"))
    attach(aiolos, info)
    guest, device = aiolos.guest, aiolos.guest.wait_disk(info["serial"])
    guest.check("dd if=/dev/urandom of=/tmp/wrote bs=1M count=48 2>&1")
    guest.check("rm -f /tmp/status; (dd if=/tmp/wrote of={device} bs=1M oflag=direct conv=notrunc >/tmp/dd 2>&1; "
                "echo $? >/tmp/status) >/dev/null 2>&1 &".replace("{device}", device))
    wait_for(lambda: guest.virsh("domstate", "--reason", guest.name).strip() == "paused (I/O error)", "the guest to pause")
    assert [held["state"] for held in aiolos.run("attachments", "--config", str(aiolos.config), "--json").json()["attachments"]] \
        == ["attached"]
    run("lvextend", "-L", f"{64 * MIB}b", "vg0/pool")
    guest.virsh("resume", guest.name)
    guest.check("while [ ! -e /tmp/status ]; do sleep 0.2; done; cat /tmp/dd; [ $(cat /tmp/status) = 0 ]", timeout=120)
    guest.check(f"dd if={device} of=/tmp/read bs=1M count=48 iflag=direct 2>&1 && cmp /tmp/wrote /tmp/read && rm /tmp/wrote /tmp/read",
                timeout=120)
    aiolos.detach()


def test_a_volume_that_is_not_there_is_named(aiolos, volumes):
    error = attach(aiolos, volume_at("/dev/vg0/missing"), expect=FAILED).error()
    assert "vg0/missing" in error["message"]
    assert "lvs" in error["next"]
    assert domain_disks(aiolos.guest) == {}
