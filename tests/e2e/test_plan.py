# SPDX-License-Identifier: Apache-2.0
"""The queue plan on a running guest: engines grow with the disks that share them, and what is real is told."""

import json
import time
import xml.etree.ElementTree as ElementTree

import pytest
from harness import Aiolos, aiolos_binary, domain_disks

from guest import Guest

POOL = "thread_pool_max of main loop"


@pytest.fixture
def fresh_guest():
    """A guest of its own: engines that were set stay so as long as a QEMU lives."""
    with Guest(iothreads=1) as made:
        yield made


@pytest.fixture
def fresh_aiolos(fresh_guest, folder):
    return Aiolos(aiolos_binary(), fresh_guest, folder)


def qmp(guest, command: str, **arguments) -> object:
    answer = json.loads(guest.virsh("qemu-monitor-command", guest.name,
                                    json.dumps({"execute": command, "arguments": arguments})))
    assert "return" in answer, f"{command}: {answer}"
    return answer["return"]


def pool_max(guest, engine: str) -> int:
    return qmp(guest, "qom-get", path=f"/objects/{engine}", property="thread-pool-max")


def plan(aiolos, guest, *more: str, **options) -> dict:
    return aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name, "--json", *more, **options).json()


def unplug(guest, dev: str) -> None:
    """Take a disk away, and wait until the guest has released it."""
    guest.virsh("detach-disk", guest.name, dev, "--live")
    deadline = time.monotonic() + 60
    while dev in domain_disks(guest):
        assert time.monotonic() < deadline, f"the guest keeps {dev}"
        time.sleep(0.2)


@pytest.fixture
def plug_in(folder):
    """Attaches disks as somebody else than Aiolos does; they go at the end, if the guest is there still."""
    made = []

    def plug(guest, dev: str, io: str, iothread: int | None = None) -> None:
        path = folder / f"{dev}.raw"
        path.write_bytes(bytes(1 << 20))
        document = folder / f"{dev}.xml"
        on = f" iothread='{iothread}'" if iothread else ""
        document.write_text(f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='{io}'{on}/>"
                            f"<source file='{path}'/><target dev='{dev}' bus='virtio'/></disk>")
        guest.virsh("attach-device", guest.name, str(document), "--live")
        made.append((guest, dev))

    yield plug
    for guest, dev in made:
        if dev in domain_disks(guest):
            unplug(guest, dev)


def changes(answer: dict, when: str = "live") -> dict:
    return {each["what"]: (each["from"], each["to"]) for each in answer["plan"]["changes"] if each["when"] == when}


def test_plan_sizes_engines_by_the_disks_that_share_them(fresh_aiolos, fresh_guest, plug_in):
    for dev in ("vdb", "vdc", "vdd"):
        plug_in(fresh_guest, dev, "threads")
    for dev in ("vde", "vdf"):
        plug_in(fresh_guest, dev, "threads", iothread=1)

    planned = plan(fresh_aiolos, fresh_guest)
    assert changes(planned) == {POOL: (64, 192), "thread_pool_max of iothread 1": (64, 128)}
    assert changes(planned, "restart").keys() == {f"iothread of {dev}" for dev in ("vdb", "vdc", "vdd")}
    assert planned["applied"] == []
    assert pool_max(fresh_guest, "iothread1") == 64, "a plan alone changed something"

    done = plan(fresh_aiolos, fresh_guest, "--apply")
    assert {(each["what"], each["to"]) for each in done["applied"]} == {
        (POOL, 192), ("thread_pool_max of iothread 1", 128)}
    assert changes(done) == {}, "after --apply something is left to be applied"
    assert pool_max(fresh_guest, "main-loop") == 192
    assert pool_max(fresh_guest, "iothread1") == 128
    kept = ElementTree.fromstring(fresh_guest.domain_xml()).find("iothreadids/iothread[@id='1']")
    assert kept.get("thread_pool_max") == "128", "libvirt does not know of it"
    # Going down, the minimum goes before the maximum.
    qmp(fresh_guest, "qom-set", path="/objects/main-loop", property="thread-pool-min", value=100)
    for dev in ("vdc", "vdd"):
        unplug(fresh_guest, dev)
    done = plan(fresh_aiolos, fresh_guest, "--apply")
    assert [each["what"] for each in done["applied"]] == ["thread_pool_min of main loop", POOL]
    assert pool_max(fresh_guest, "main-loop") == 64


def test_plan_adds_an_iothread_and_text_says_why(aiolos, guest, plug_in):
    for dev in ("vdb", "vdc"):
        plug_in(guest, dev, "threads")
    shown = aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name, "--apply").out
    assert "done: iothread 1: not set -> 1" in shown
    assert "share this pool" in shown
    assert "only a restart" in shown
    assert ElementTree.fromstring(guest.domain_xml()).find("iothreadids/iothread[@id='1']") is not None
    aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name, "--apply")
    guest.virsh("iothreaddel", guest.name, "1", "--live")


def test_plan_obeys_the_limits_of_the_configuration(aiolos, guest, plug_in):
    aiolos.configure("plan: {max_iothreads: 0, max_threads: 100}\n")
    for dev in ("vdb", "vdc"):
        plug_in(guest, dev, "threads")
    planned = plan(aiolos, guest)
    assert {what: to for what, (_, to) in changes(planned).items()} in ({POOL: 100}, {})
    assert planned["plan"]["engines"][0]["after"]["thread_pool_max"] == 100


def test_what_is_real_is_compared_with_what_is_wanted(fresh_aiolos, fresh_guest, plug_in):
    real = plan(fresh_aiolos, fresh_guest)["real"]
    assert (real["aio_contexts"], real["aio_contexts_wanted"]) == (0, 0)
    plug_in(fresh_guest, "vdb", "native", iothread=1)
    fresh_guest.check("i=0; while [ ! -e /dev/vda ] && [ $i -lt 50 ]; do sleep 0.2; i=$((i+1)); done;"
                      " dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    answer = plan(fresh_aiolos, fresh_guest)
    assert (answer["real"]["aio_contexts"], answer["real"]["aio_contexts_wanted"]) == (2, 2)
    assert answer["differences"] == []
    assert answer["plan"]["aio_contexts"] == 2


def test_unknown_guest_is_named(aiolos, guest):
    missing = aiolos.run("plan", "--config", str(aiolos.config), "--domain", "nobody", "--json", expect=2).error()
    assert "nobody" in missing["message"]


def test_attach_and_detach_size_the_engine_of_their_disk(fresh_aiolos, fresh_guest, volumes):
    """Disks on threads, one after the other, onto the guest's one iothread; and away again."""
    sizes = []
    targets = ("vdb", "vdc", "vdd")
    for dev in targets:
        volume = volumes.qcow2(f"{dev}.qcow2")
        attached = fresh_aiolos.attach(volume, "--json", dev=dev).json()
        assert "iothread='1'" in attached["xml"]
        fresh_guest.wait_disk(volume.serial)
        sizes.append(pool_max(fresh_guest, "iothread1"))
    assert sizes == [64, 128, 192]
    assert any("raised from 128 to 192" in note for note in attached["notes"])
    for dev in targets:
        fresh_aiolos.detach(dev=dev)
        sizes.append(pool_max(fresh_guest, "iothread1"))
    assert sizes[3:] == [128, 64, 64]


def test_host_shows_who_holds_what(fresh_aiolos, fresh_guest, volumes, direct_io):
    volume = volumes.raw_written()
    attached = fresh_aiolos.attach(volume, "--json").json()
    assert attached["aio"]["mode"] == "native"
    fresh_guest.check(f"dd if={fresh_guest.wait_disk(volume.serial)} of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    told = fresh_aiolos.run("host", "--config", str(fresh_aiolos.config), "--json").json()["aio"]
    assert [(each["name"], each["contexts"], each["events"]) for each in told["domains"]] == [
        (fresh_guest.name, 2, 2048)], "the main loop's and the iothread's"
    assert told["reserved"] == []
    shown = fresh_aiolos.run("host", "--config", str(fresh_aiolos.config)).out
    assert f"{fresh_guest.name} (" in shown and "holds 2" in shown
