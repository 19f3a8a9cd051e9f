# SPDX-License-Identifier: Apache-2.0
"""A volume's whole way: explained, attached to the running guest, written and verified there, detached."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from harness import MIB, domain_disks, uses_linux_aio, write_and_verify, write_pattern

# Each kind of volume, and whether Linux AIO (`native`) is right for it: only where a write never has to allocate.
KINDS = {
    "raw_written": "native",
    "raw_fallocated": "native",
    "raw_sparse": "not native",
    "qcow2_preallocated": "native",
    "qcow2_sparse": "not native",
    "qcow2_backed": "not native",
    "block_device": "native",
}


@pytest.fixture(params=KINDS)
def kind(request, direct_io):
    if request.param == "block_device":
        request.getfixturevalue("loop_devices")
    return request.param


def assert_mode(kind: str, mode: str | None) -> None:
    if KINDS[kind] == "native":
        assert mode == "native"
    else:
        assert mode in ("threads", "io_uring")


def test_volume_is_attached_used_and_detached(aiolos, guest, volumes, kind):
    volume = getattr(volumes, kind)()

    attached = aiolos.attach(volume, "--json").json()
    disk = domain_disks(guest)["vdb"]
    driver = disk.find("driver")
    assert_mode(kind, driver.get("io"))
    assert driver.get("io") == attached["aio"]["mode"]
    assert driver.get("cache") in ("none", "directsync")
    assert driver.get("type") == volume.format
    assert disk.find("serial").text == volume.serial
    source = disk.find("source")
    assert (source.get("file") or source.get("dev")) == str(volume.path)
    assert disk.get("type") == ("block" if kind == "block_device" else "file")

    held = aiolos.run("attachments", "--config", str(aiolos.config), "--json").json()["attachments"]
    assert [(each["target"], each["serial"], each["state"], each["unfinished"]) for each in held] == [
        ("vdb", volume.serial, "attached", [])]

    device = guest.wait_disk(volume.serial)
    assert guest.size(device) == volume.size
    write_and_verify(guest, device)
    write_pattern(guest, device)
    if driver.get("io") == "native":
        assert uses_linux_aio(guest), "the XML says native, but QEMU holds no Linux AIO context"

    aiolos.detach()
    guest.wait_no_disk(volume.serial)
    assert "vdb" not in domain_disks(guest)
    assert aiolos.run("attachments", "--config", str(aiolos.config)).out == ""
    assert volume.has_pattern(ord("Z"), 0, MIB), "what the guest wrote is not what the host reads"


def test_explanation_is_the_same_as_what_attach_does(aiolos, guest, volumes, kind):
    volume = getattr(volumes, kind)()
    explained = aiolos.explain(volume, "--json").json()
    assert domain_disks(guest) == {}, "explain attached something"

    attached = aiolos.attach(volume, "--json").json()
    assert attached["aio"] == explained["aio"]
    assert_mode(kind, explained["aio"]["mode"])
    assert explained["aio"]["reasons"], "a decision without a reason"
    for alternative in explained["aio"]["rejected"]:
        assert set(alternative) >= {"mode", "because"}
        assert alternative["mode"] != explained["aio"]["mode"]
    assert isinstance(explained["facts"], dict) and explained["facts"]
    assert ElementTree.fromstring(explained["xml"]).tag == "disk"


def test_backing_file_is_read_through_the_overlay(aiolos, guest, volumes):
    volume = volumes.qcow2_backed()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    # 0xb5 is octal 265; the overlay has nothing at the second MiB.
    assert guest.check(f"dd if={device} bs=1M skip=1 count=1 2>/dev/null | tr -d '\\265' | wc -c").strip() == "0"


def test_scsi_disk(aiolos, guest, volumes):
    volume = volumes.raw_written()
    aiolos.attach(volume, dev="sda", bus="scsi")
    device = guest.wait_disk(volume.serial)
    assert device.startswith("/dev/sd")
    write_and_verify(guest, device)
    aiolos.detach(dev="sda")
    guest.wait_no_disk(volume.serial)


def test_two_volumes_at_once(aiolos, guest, volumes):
    first, second = volumes.raw_written(), volumes.qcow2_sparse()
    aiolos.attach(first, dev="vdb")
    aiolos.attach(second, dev="vdc")
    assert set(domain_disks(guest)) == {"vdb", "vdc"}
    aiolos.detach(dev="vdb")
    guest.wait_no_disk(first.serial)
    write_and_verify(guest, guest.wait_disk(second.serial))
    aiolos.detach(dev="vdc")
    assert domain_disks(guest) == {}


def test_attached_again_after_detach(aiolos, guest, volumes):
    volume = volumes.raw_written()
    for _ in range(3):
        aiolos.attach(volume)
        guest.wait_disk(volume.serial)
        aiolos.detach()
        guest.wait_no_disk(volume.serial)


def test_dry_run_says_the_same_and_changes_nothing(aiolos, guest, volumes):
    volume = volumes.raw_written()
    planned = aiolos.attach(volume, "--dry-run", "--json").json()
    assert domain_disks(guest) == {}
    attached = aiolos.attach(volume, "--json").json()
    assert planned["aio"] == attached["aio"]
    assert planned["xml"] == attached["xml"]


def test_text_for_people_names_mode_and_reason(aiolos, volumes):
    volume = volumes.raw_sparse()
    told = json.loads(aiolos.explain(volume, "--json").out)["aio"]
    shown = aiolos.explain(volume).out
    assert told["mode"] in shown
    assert "native" in shown, "the rejected alternative is not named"


def test_request_on_standard_input(aiolos, guest, volumes):
    volume = volumes.raw_written()
    disk = aiolos.write("disk.json", {"bus": "virtio", "dev": "vdb", "type": "disk"})
    aiolos.run("attach", "--config", str(aiolos.config), "--domain", guest.name, "--connection", "-", "--disk", disk,
               stdin=json.dumps(volume.connection_info))
    guest.wait_disk(volume.serial)
