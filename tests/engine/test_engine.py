# SPDX-License-Identifier: Apache-2.0
"""aiolos-engine under a real QEMU and its guest's own driver."""

import socket
import time

import pytest
from engine_process import Engine, EngineError, disk_xml
from guest import Guest

MODES = ["threads", "native", "io_uring"]
SIZE = 32 << 20


def make_disks(engine, count, size=SIZE, modes=MODES):
    """Disks of these AIO modes in turn: [(name, socket)]."""
    made = []
    for i in range(count):
        path = engine.folder / f"disk{i}.img"
        with open(path, "wb") as file:
            file.truncate(size)
        name = f"d{i}"
        made.append((name, engine.add(path, name, modes[i % len(modes)], group="vm", serial=f"serial-{i}")))
    return made


def guest_with(disks, **options):
    devices = "".join(disk_xml(at, f"vd{chr(ord('a') + i)}") for i, (_, at) in enumerate(disks))
    return Guest(shared_memory=True, devices=devices, **options)


def verify_script(disks, seconds, depth=16):
    """A verifying load on all disks at once that ends by itself: fio's own checksums, written and read again."""
    jobs = "\n".join(f"[{disk.rsplit('/', 1)[1]}]\nfilename={disk}" for disk in disks)
    return f"""cat >/tmp/verify.fio <<END
[global]
ioengine=libaio
direct=1
rw=randwrite
bs=4k
iodepth={depth}
verify=crc32c
verify_backlog=256
verify_fatal=1
time_based=1
runtime={seconds}
{jobs}
END
"""


def start_verify(guest, disks, seconds, depth=16):
    guest.check(verify_script(disks, seconds, depth) + "rm -f /tmp/verify.status\n"
                "(fio /tmp/verify.fio >/tmp/verify.out 2>&1; echo $? >/tmp/verify.status) </dev/null >/dev/null 2>&1 &")


def plug(guest, folder, at, target):
    xml = folder / f"{target}.xml"
    xml.write_text(disk_xml(at, target))
    guest.virsh("attach-device", guest.name, str(xml), "--live")


WHERE_IT_HANGS = "cat /tmp/verify.out; ps; grep . /sys/block/vd*/inflight; cat /proc/interrupts; dmesg | tail -5"


def end_verify(guest, timeout=120):
    """Waits until the load has ended, and has found every block as it wrote it."""
    deadline = time.monotonic() + timeout
    while guest.run("cat /tmp/verify.status 2>/dev/null").status != 0:
        assert time.monotonic() < deadline, f"fio hangs: {guest.run(WHERE_IT_HANGS).output}"
        time.sleep(0.2)
    output = guest.check("cat /tmp/verify.status /tmp/verify.out")
    assert output.split()[0] == "0" and "verify:" not in output, output


def guest_disks(guest, disks):
    return [guest.wait_disk(f"serial-{i}") for i in range(len(disks))]


@pytest.mark.parametrize("mode", MODES)
def test_one_disk_and_then_four_in_one_guest(engine, folder, mode):
    disks = make_disks(engine, 4, modes=[mode])
    with guest_with(disks[:1]) as guest:
        start_verify(guest, guest_disks(guest, disks[:1]), seconds=3)
        end_verify(guest)
        for i, (_, at) in enumerate(disks[1:], start=1):
            plug(guest, folder, at, f"vd{chr(ord('a') + i)}")
        start_verify(guest, guest_disks(guest, disks), seconds=4)
        end_verify(guest)
        for name, _ in disks:
            figures = engine.stats(name)
            assert figures["connected"] and figures["write"]["requests"] > 100, figures
            assert figures["write"]["errors"] == figures["read"]["errors"] == 0


def test_sixteen_disks_in_one_guest(engine):
    disks = make_disks(engine, 16, size=8 << 20)
    with guest_with(disks) as guest:
        start_verify(guest, guest_disks(guest, disks), seconds=6, depth=4)
        end_verify(guest)


def test_nothing_is_lost_when_the_daemon_is_killed_and_started_again(engine):
    disks = make_disks(engine, 3)
    with guest_with(disks) as guest:
        start_verify(guest, guest_disks(guest, disks), seconds=15)
        for _ in range(4):
            time.sleep(2)
            engine.kill()
            engine.start()
        end_verify(guest)
        assert all(engine.stats(name)["connected"] for name, _ in disks)


def test_nothing_is_lost_when_the_guest_is_stopped_and_goes_on(engine):
    disks = make_disks(engine, 3)
    with guest_with(disks) as guest:
        start_verify(guest, guest_disks(guest, disks), seconds=12)
        for _ in range(10):
            time.sleep(0.5)
            guest.virsh("suspend", guest.name)
            guest.virsh("resume", guest.name)
        end_verify(guest)
        for name, _ in disks:
            assert engine.stats(name)["drains"]["count"] >= 10


def test_disks_come_and_go_under_load(engine, folder):
    disks = make_disks(engine, 2)
    with guest_with(disks[:1]) as guest:
        start_verify(guest, [guest.wait_disk("serial-0")], seconds=12)
        xml = folder / "disk.xml"
        xml.write_text(disk_xml(disks[1][1], "vdb"))
        for _ in range(2):
            guest.virsh("attach-device", guest.name, str(xml), "--live")
            plugged = guest.wait_disk("serial-1")
            guest.check(f"dd if=/dev/zero of={plugged} bs=1M count=4 oflag=direct")
            guest.virsh("detach-device", guest.name, str(xml), "--live")
            guest.wait_no_disk("serial-1")
        end_verify(guest)
        engine.ask("remove-disk", name=disks[1][0])
        assert [disk["name"] for disk in engine.ask("list")["disks"]] == [disks[0][0]]


def test_the_guest_sees_a_new_size(engine, folder):
    disks = make_disks(engine, 1)
    with guest_with(disks) as guest:
        device = guest.wait_disk("serial-0")
        with open(folder / "disk0.img", "r+b") as file:
            file.truncate(2 * SIZE)
        assert engine.ask("resize-disk", name="d0") == {"size": 2 * SIZE}
        guest.wait_size(device, 2 * SIZE)


def test_a_new_qemu_finds_what_a_killed_one_wrote(engine):
    disks = make_disks(engine, 3)
    pattern = "yes aiolos | head -c 1048576"
    with guest_with(disks) as guest:
        for disk in guest_disks(guest, disks):
            guest.check(f"{pattern} | dd of={disk} bs=64k oflag=direct")
        start_verify(guest, [guest.wait_disk("serial-0")], seconds=60)
        time.sleep(1)   # and destroy() kills QEMU in the middle of it
    with guest_with(disks) as guest:
        wanted = guest.check(f"{pattern} | md5sum").split()[0]
        for disk in guest_disks(guest, disks)[1:]:
            assert guest.check(f"dd if={disk} bs=1M count=1 2>/dev/null | md5sum").split()[0] == wanted
        start_verify(guest, [guest.wait_disk("serial-0")], seconds=3)
        end_verify(guest)


def test_a_removed_disk_is_its_own_guests_trouble_alone(engine):
    disks = make_disks(engine, 2)
    with guest_with(disks) as guest:
        found = guest_disks(guest, disks)
        start_verify(guest, found[:1], seconds=6)
        engine.ask("remove-disk", name=disks[1][0])
        end_verify(guest)


def test_ends_by_sigterm_and_goes_on_where_it_was(engine):
    disks = make_disks(engine, 3)
    with guest_with(disks) as guest:
        start_verify(guest, guest_disks(guest, disks), seconds=12)
        for _ in range(5):
            time.sleep(1.5)
            assert engine.stop() == 0
            engine.start()
        end_verify(guest)
        assert all(engine.stats(name)["broken_rings"] == 0 for name, _ in disks)


def test_tells_the_service_manager_when_it_serves_and_when_it_ends(folder, monkeypatch):
    """As its systemd unit, of type notify, has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        started = Engine(folder).start()
        try:
            assert manager.recv(64) == b"READY=1"
            assert started.stop() == 0
            assert manager.recv(64) == b"STOPPING=1"
        finally:
            started.close()


def test_refuses_what_makes_no_sense(engine, folder):
    with pytest.raises(EngineError, match="unknown setting 'sereal'") as refused:
        engine.ask("add-disk", disk={"path": "/dev/null", "socket": "s", "sereal": "1"})
    assert "serial" in refused.value.next
    with pytest.raises(EngineError, match="cannot open '/nonexistent'"):
        engine.ask("add-disk", disk={"path": "/nonexistent", "socket": str(folder / "s")})
    with pytest.raises(EngineError, match="neither a file nor a block device"):
        engine.ask("add-disk", disk={"path": "/dev/null", "socket": str(folder / "s"), "direct": "off"})
    with pytest.raises(EngineError, match="no disk is called 'x'"):
        engine.ask("remove-disk", name="x")
    with pytest.raises(EngineError, match="no command is called 'nope'"):
        engine.ask("nope")
    make_disks(engine, 1)
    with pytest.raises(EngineError, match="called 'd0' already"):
        engine.add(folder / "disk0.img", "d0", "threads")
