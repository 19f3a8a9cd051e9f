# SPDX-License-Identifier: Apache-2.0
"""Two running guests, each under a hypervisor of its own, on one volume: shared if it may be, refused if not."""

import types

import pytest
from harness import MIB, REFUSED, domain_disks, write_pattern

from guest import Guest


class OnGuest:
    """The aiolos command for one of the guests; both have one configuration and journal."""

    def __init__(self, aiolos, guest):
        self.aiolos = aiolos
        self.guest = guest
        self.arguments = ["--uri", guest.uri, "--domain", guest.name]

    def attach(self, info: dict, *more: str, **options):
        return self.aiolos.run("attach", *self.arguments, *self.aiolos.request(info), *more, **options)

    def detach(self) -> None:
        self.aiolos.run("detach", *self.arguments, "--config", str(self.aiolos.config), "--target", "vdb")

    def reads(self, device: str, character: str) -> bool:
        """Whether the first MiB is full of it, on the disk and not in the guest's memory."""
        others = self.guest.check(f"dd if={device} bs=64k count=16 iflag=direct 2>/dev/null | tr -d {character} | wc -c")
        return others.strip() == "0"


@pytest.fixture(scope="module")
def second_guest():
    with Guest(name="second-guest") as made:
        yield made


@pytest.fixture
def both(aiolos, guest, second_guest):
    made = types.SimpleNamespace(first=OnGuest(aiolos, guest), second=OnGuest(aiolos, second_guest))
    yield made
    if "vdb" in domain_disks(second_guest):
        second_guest.virsh("detach-disk", second_guest.name, "vdb", "--live")


@pytest.fixture
def attachments(aiolos):
    return lambda: aiolos.run("attachments", "--config", str(aiolos.config), "--json").json()["attachments"]


@pytest.mark.parametrize("kind", ["block_device", "raw_fallocated"])
def test_a_multiattach_volume_is_shared(both, volumes, attachments, loop_devices, kind):
    volume = getattr(volumes, kind)()
    info = {**volume.connection_info, "multiattach": True}
    for each in (both.first, both.second):
        each.attach(info)
        disk = domain_disks(each.guest)["vdb"]
        assert disk.find("shareable") is not None
        assert disk.find("driver").get("cache") == "none", "a page cache between them would hide what the other writes"
    first, second = (each.guest.wait_disk(volume.serial) for each in (both.first, both.second))

    write_pattern(both.first.guest, first, "Y")
    assert both.second.reads(second, "Y")
    write_pattern(both.second.guest, second, "Z")
    assert both.first.reads(first, "Z")

    both.first.detach()
    assert len(attachments()) == 1
    write_pattern(both.second.guest, second, "X")
    assert volume.has_pattern(ord("X"), 0, MIB)
    both.second.detach()
    assert attachments() == []


@pytest.mark.parametrize(("of_first", "of_second"), [(False, False), (False, True), (True, False)])
def test_a_volume_that_may_not_be_shared_is_refused_to_the_second(both, volumes, attachments, of_first, of_second):
    info = volumes.raw_fallocated().connection_info
    both.first.attach({**info, "multiattach": of_first})
    error = both.second.attach({**info, "multiattach": of_second}, "--json", expect=REFUSED).error()
    assert info["serial"] in error["message"] and both.first.guest.name in error["message"]
    assert "vdb" in domain_disks(both.first.guest) and domain_disks(both.second.guest) == {}
    both.first.detach()
    assert attachments() == []
    both.second.attach({**info, "multiattach": of_second})
    both.second.detach()
