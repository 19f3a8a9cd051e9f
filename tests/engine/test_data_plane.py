# SPDX-License-Identifier: Apache-2.0
"""The aiolos command with `data_plane: engine`: volumes that it attaches are served by a real aiolos-engine."""

import grp
import hashlib
import os
import subprocess
import time

import pytest
from engine_process import Engine, EngineError
from guest import Guest
from harness import REFUSED, TRY_AGAIN, Aiolos, Volume, aiolos_binary, domain_disks, write_and_verify

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture(scope="module")
def running_guest():
    with Guest(shared_memory=True) as started:
        yield started


@pytest.fixture
def guest(running_guest):
    """What a test leaves attached is taken away."""
    yield running_guest
    for target in running_guest.disk_targets():
        running_guest.virsh("detach-disk", running_guest.name, target, "--live")


@pytest.fixture
def aiolos(guest, engine, folder):
    (folder / "aiolos").mkdir()
    made = Aiolos(aiolos_binary(), guest, folder / "aiolos")
    made.configure(f'data_plane: {{default: engine, admin: "{engine.admin}", sockets: "{folder}/disks"}}\n')
    return made


@pytest.fixture
def volume(folder):
    path = folder / "volume"
    with open(path, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, SIZE)
    info = {"driver_volume_type": "file", "serial": "engine-volume", "data": {"path": str(path)}}
    return Volume(path, "raw", info, SIZE)


def served(engine):
    return engine.ask("list")["disks"]


def held(aiolos):
    return aiolos.run("attachments", "--config", str(aiolos.config), "--json").json()["attachments"]


def assert_nothing_left(aiolos, engine, guest):
    assert served(engine) == [] and held(aiolos) == [] and domain_disks(guest) == {}
    assert list((engine.folder / "disks").glob("*")) == []


def test_a_volume_is_attached_used_extended_and_detached(aiolos, engine, guest, volume):
    aiolos.attach(volume)
    (disk,) = served(engine)
    assert disk["path"] == str(volume.path) and disk["aio"] == "native" and disk["direct"]
    assert domain_disks(guest)["vdb"].get("type") == "vhostuser"
    device = guest.wait_disk(volume.serial)
    write_and_verify(guest, device)
    assert engine.stats(disk["name"])["write"]["requests"] > 0

    aiolos.extend(2 * SIZE)
    guest.wait_size(device, 2 * SIZE)
    aiolos.attach(volume)  # again is the same answer
    assert len(served(engine)) == 1
    plan = aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name)
    assert "vdb: another process does the I/O" in plan.out
    aiolos.detach()
    assert_nothing_left(aiolos, engine, guest)


def test_one_disk_may_be_left_to_qemu(aiolos, engine, guest, volume):
    request = aiolos.request(volume.connection_info)
    aiolos.write("disk.json", {"bus": "virtio", "dev": "vdb", "data_plane": "qemu"})
    aiolos.run("attach", "--domain", guest.name, *request)
    assert domain_disks(guest)["vdb"].get("type") == "file" and served(engine) == []
    aiolos.detach()


def test_what_the_engine_cannot_serve_is_refused(aiolos, engine, guest, folder):
    path = folder / "volume.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE)], check=True)
    info = {"driver_volume_type": "file", "serial": "qcow2", "data": {"path": str(path), "format": "qcow2"}}
    error = aiolos.attach(Volume(path, "qcow2", info, SIZE), "--json", expect=REFUSED).error()
    assert "format is qcow2" in error["message"] and "data_plane" in error["next"]
    assert served(engine) == [] and held(aiolos) == []


def test_a_guest_without_shared_memory_is_refused(engine, folder, volume):
    with Guest() as other:
        (folder / "aiolos").mkdir()
        aiolos = Aiolos(aiolos_binary(), other, folder / "aiolos")
        aiolos.configure(f'data_plane: {{default: engine, admin: "{engine.admin}", sockets: "{folder}/disks"}}\n')
        error = aiolos.attach(volume, "--json", expect=REFUSED).error()
        assert "memory" in error["message"] and "memoryBacking" in error["next"]
        assert served(engine) == [] and held(aiolos) == []


def test_the_disks_sockets_are_for_the_group_that_is_configured(folder):
    path = folder / "disk"
    path.write_bytes(bytes(MIB))
    for group, problem in (("nogroup", None), ("no-such-group", "no-such-group")):
        settings = folder / "engine.yaml"
        settings.write_text(f"socket_group: {group}\n")
        engine = Engine(folder, "--config", str(settings)).start()
        try:
            if problem:
                with pytest.raises(EngineError, match=problem):
                    engine.add(path, "other", "threads")
                assert not (folder / "other").exists() and served(engine) == []
            else:
                status = engine.add(path, "disk.sock", "threads").stat()
                assert (status.st_gid, status.st_mode & 0o777) == (grp.getgrnam(group).gr_gid, 0o660)
                engine.ask("remove-disk", name="disk.sock")
        finally:
            engine.close()


def test_without_the_daemon_nothing_is_begun_and_nothing_left(aiolos, engine, guest, volume):
    engine.stop()
    error = aiolos.attach(volume, "--json", expect=TRY_AGAIN).error()
    assert str(engine.admin) in error["message"]
    assert domain_disks(guest) == {}
    engine.start()
    aiolos.run("reconcile", "--config", str(aiolos.config))
    assert held(aiolos) == [] and served(engine) == []


def test_a_daemon_that_was_killed_serves_again_what_it_served(aiolos, engine, guest, volume):
    """The guest gets the disk back by detach and attach: libvirt 9.0 has QEMU connect again only for disks that the
    guest was started with."""
    aiolos.attach(volume)
    write_and_verify(guest, guest.wait_disk(volume.serial))
    written = hashlib.sha256(volume.path.read_bytes()).digest()
    engine.kill()
    extend = ["extend", "--config", str(aiolos.config), "--domain", guest.name, "--target", "vdb", "--size",
              str(2 * SIZE), "--json"]
    assert str(engine.admin) in aiolos.run(*extend, expect=TRY_AGAIN).error()["message"]
    engine.start()
    assert [disk["path"] for disk in served(engine)] == [str(volume.path)]
    aiolos.run(*extend)
    aiolos.detach()
    assert_nothing_left(aiolos, engine, guest)
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    shown = guest.check(f"dd if={device} bs=1M count=16 iflag=direct 2>/dev/null | sha256sum")
    assert shown.split()[0] == written.hex()
    aiolos.detach()


@pytest.mark.parametrize("after", [0, 0.1, 0.4])
def test_attach_killed_once_the_volume_is_served_is_undone_or_finished(aiolos, engine, guest, volume, after):
    command = [*aiolos.command, "attach", "--domain", guest.name, *aiolos.request(volume.connection_info)]
    attaching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not served(engine):
        assert attaching.poll() is None and time.monotonic() < deadline, "it never came so far"
        time.sleep(0.01)
    time.sleep(after)
    attaching.kill()
    attaching.wait()
    aiolos.run("reconcile", "--config", str(aiolos.config))
    attached = "vdb" in domain_disks(guest)
    assert len(served(engine)) == len(held(aiolos)) == int(attached)
    aiolos.attach(volume)
    write_and_verify(guest, guest.wait_disk(volume.serial))
    aiolos.detach()
    assert_nothing_left(aiolos, engine, guest)
