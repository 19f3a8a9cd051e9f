# SPDX-License-Identifier: Apache-2.0
"""host/'s migrations with real guests: they move under load, are watched, steered and broken off."""

import json
import os
import pathlib
import signal
import time

import pytest
from guest import GuestError
from migrations import MigrationError, Migrations

MIB = 1 << 20
SLOW = {"bandwidth_mib_s": 8}  # the guest has 384 MiB, of which it takes some seconds to copy what is not zero


def attach_disk(guest, storage) -> tuple[pathlib.Path, str]:
    """A raw disk that both hosts have, its serial number and its name in the guest."""
    path = storage / "disk.raw"
    with open(path, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, 64 * MIB)
    xml = storage / "disk.xml"
    xml.write_text(f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='threads' iothread='1'/>"
                   f"<source file='{path}'/><target dev='vdb' bus='virtio'/><serial>moved</serial></disk>")
    guest.virsh("attach-device", guest.name, str(xml), "--live")
    return path, guest.wait_disk("moved")


def start_verifying_load(guest, device: str, seconds: int) -> None:
    guest.check(f"(fio --name=load --filename={device} --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 "
                f"--verify=crc32c --verify_backlog=256 --verify_fatal=1 --time_based --runtime={seconds} --output=/run/fio.out;"
                " echo $? >/run/fio.status) >/dev/null 2>&1 & rm -f /run/fio.status; sleep 1; pidof fio")


def check_load(guest, seconds: int) -> None:
    """Waits for the load to end, and for all that it has written to be right."""
    guest.check(f"for i in $(seq {seconds * 5}); do [ -s /run/fio.status ] && break; sleep 0.2; done; cat /run/fio.out;"
                " [ \"$(cat /run/fio.status)\" = 0 ]", timeout=seconds + 30)


def assert_runs_on(guest, host, other) -> None:
    assert (host.running(), other.running()) == ([guest.name], [])
    try:
        assert guest.moved(host).check("echo alive") == "alive\n"
    except GuestError as error:
        raise AssertionError(f"{error}\n{guest.log_tails()}") from error


def test_a_guest_moves_there_and_back_under_load_with_its_xml_changed_on_the_way(guest, there, migrations, storage):
    here = guest.host
    path, device = attach_disk(guest, storage)
    os.link(path, storage / "other-name.raw")
    start_verifying_load(guest, device, seconds=30)

    xml = migrations.ask("migratable-xml", guest)
    assert migrations.ask("persistent-xml", guest) is None
    result = migrations.migrate(guest, there, xml.replace(path.name, "other-name.raw")).result(60)
    assert result["total_ms"] > 0 and result["downtime_ms"] > 0 and result["iterations"] > 0
    assert_runs_on(guest, there, here)
    assert "other-name.raw" in guest.domain_xml() and path.name not in guest.domain_xml()

    with Migrations(there.uri) as back:
        back.migrate(guest, here, back.ask("migratable-xml", guest).replace("other-name.raw", path.name)).result(60)
    assert_runs_on(guest, here, there)
    assert path.name in guest.domain_xml()
    check_load(guest, seconds=40)


def test_a_defined_guest_is_defined_there_and_not_here_any_more(guest, there, migrations):
    here = guest.host
    try:
        here.virsh("define", "/dev/stdin", stdin=guest.domain_xml())
        persistent = migrations.ask("persistent-xml", guest)
        assert guest.uuid() in persistent
        migrations.migrate(guest, there, persistent_xml=persistent.replace("</name>", "</name><title>moved</title>")).result(60)
        assert here.virsh("list", "--all", "--name").split() == []
        assert "<title>moved</title>" in there.virsh("dumpxml", "--inactive", guest.name)
        assert_runs_on(guest, there, here)
    finally:
        for host in (here, there):
            if guest.name in host.virsh("list", "--all", "--persistent", "--name").split():
                host.virsh("undefine", guest.name)


def test_progress_is_seen_and_an_abort_leaves_the_guest_here(guest, there, migrations):
    here = guest.host
    assert migrations.progress(guest) is None
    running = migrations.migrate(guest, there, **SLOW)
    first = migrations.wait_until(guest, lambda now: now["total"] > 0 and now["remaining"] < now["total"])
    later = migrations.wait_until(guest, lambda now: now["remaining"] < first["remaining"])
    assert later["elapsed_ms"] > first["elapsed_ms"] and later["iterations"] >= 1
    migrations.ask("abort", guest)
    with pytest.raises(MigrationError) as error:
        running.result(30)
    assert error.value.kind == "hypervisor"
    assert migrations.progress(guest) is None
    assert_runs_on(guest, here, there)
    migrations.ask("abort", guest)  # none runs


def test_settings_reach_qemu(guest, there, migrations):
    running = migrations.migrate(guest, there, **SLOW, downtime_limit_ms=120, downtime_steps=3, connections=2,
                                 auto_converge=True, auto_converge_initial=30, auto_converge_increment=15)
    migrations.wait_until(guest, lambda now: now["total"] > 0)
    parameters, capabilities = qemu(guest, "query-migrate-parameters"), qemu(guest, "query-migrate-capabilities")
    assert {name: parameters[name] for name in ("downtime-limit", "max-bandwidth", "multifd-channels",
                                                "cpu-throttle-initial", "cpu-throttle-increment")} == {
        "downtime-limit": 40, "max-bandwidth": 8 * MIB, "multifd-channels": 2, "cpu-throttle-initial": 30,
        "cpu-throttle-increment": 15}
    on = {each["capability"] for each in capabilities if each["state"]}
    assert {"multifd", "auto-converge"} <= on
    migrations.ask("abort", guest)
    assert isinstance(running.exception(30), MigrationError)
    assert qemu(guest, "query-migrate-parameters")["downtime-limit"] == 300  # nothing of it stays


def qemu(guest, command: str):
    return json.loads(guest.virsh("qemu-monitor-command", guest.name, json.dumps({"execute": command})))["return"]


def test_compression_that_libvirt_does_not_know_is_refused(guest, there, migrations):
    with pytest.raises(MigrationError, match="no-such-method") as error:
        migrations.migrate(guest, there, compression=["no-such-method"]).result(30)
    assert error.value.kind == "refused"


def test_bandwidth_and_downtime_limit_change_on_the_way(guest, there, migrations):
    here = guest.host
    running = migrations.migrate(guest, there, bandwidth_mib_s=1)
    migrations.wait_until(guest, lambda now: now["total"] > 0)
    assert qemu(guest, "query-migrate-parameters")["max-bandwidth"] == MIB
    migrations.ask("bandwidth", guest, mib_s=2000)
    migrations.ask("downtime-limit", guest, ms=250)
    assert running.result(30)["total_ms"] < 30_000
    assert_runs_on(guest, there, here)


def test_a_held_idle_guest_stays_and_goes_at_once_when_let_go(guest, there, migrations):
    here = guest.host
    running = migrations.migrate(guest, there, bandwidth_mib_s=32, downtime_limit_ms=1)
    migrations.wait_until(guest, lambda now: 0 < now["remaining"] < 64 * MIB)
    migrations.ask("hold", guest)
    time.sleep(1)  # QEMU finishes the 100 ms that it is in
    held = migrations.progress(guest)
    time.sleep(8)
    still = migrations.progress(guest)
    assert not running.done()
    assert 8 * 5 * 4096 < held["remaining"] - still["remaining"] < 2 * MIB, (held, still)  # it trickles
    assert_runs_on(guest, here, there)
    let_go = time.monotonic()
    migrations.ask("downtime-limit", guest, ms=300)
    migrations.ask("bandwidth", guest, mib_s=2000)
    running.result(30)
    print(f"let go with {still['remaining'] / MIB:.1f} MiB left: over after {time.monotonic() - let_go:.2f} s")
    assert time.monotonic() - let_go < 5
    assert_runs_on(guest, there, here)


def test_post_copy_takes_the_guest_over_before_its_memory(guest, there, migrations, storage):
    here = guest.host
    guest.check("dd if=/dev/urandom of=/tmp/much bs=1M count=48 2>&1 && sha256sum </tmp/much >/tmp/sum")
    running = migrations.migrate(guest, there, post_copy=True, bandwidth_mib_s=4)
    try:
        migrations.wait_until(guest, lambda now: now["iterations"] >= 1 and now["remaining"] < now["total"])
        migrations.ask("post-copy", guest)
        running.result(60)
        assert_runs_on(guest, there, here)
        guest.check("sha256sum </tmp/much | cmp - /tmp/sum")
    finally:
        guest.check("rm -f /tmp/much")


def test_a_destination_that_nobody_listens_at_leaves_the_guest_here(guest, there, migrations, storage):
    with pytest.raises(MigrationError) as error:
        migrations.migrate(guest, f"qemu+unix:///system?socket={storage}/nobody").result(30)
    assert error.value.kind == "configuration"
    assert "destination" in error.value.next
    assert_runs_on(guest, guest.host, there)


def test_disks_that_are_not_known_to_be_shared_need_to_be_allowed(guest, there, migrations, storage):
    attach_disk(guest, storage)
    with pytest.raises(MigrationError, match="(?i)unsafe") as error:
        migrations.migrate(guest, there, unsafe=False).result(30)
    assert error.value.kind == "refused"
    assert_runs_on(guest, guest.host, there)


@pytest.mark.parametrize("what", ["libvirtd", "QEMU"])
def test_a_destination_that_dies_leaves_the_guest_here(guest, there, migrations, storage, what):
    here = guest.host
    _, device = attach_disk(guest, storage)
    start_verifying_load(guest, device, seconds=15)
    running = migrations.migrate(guest, there, **SLOW)
    migrations.wait_until(guest, lambda now: 0 < now["remaining"] < now["total"])
    if what == "libvirtd":
        there.kill_libvirt()
    else:
        os.kill(guest.on(there).qemu_pid(), signal.SIGKILL)
    with pytest.raises(MigrationError) as error:
        running.result(60)
    assert error.value.kind in ("hypervisor", "configuration"), error.value
    if what == "libvirtd":
        there.libvirt.start()
    wait_for_no_guest_on(there)
    assert_runs_on(guest, here, there)
    check_load(guest, seconds=25)


def wait_for_no_guest_on(host) -> None:
    deadline = time.monotonic() + 20
    while host.virsh("list", "--all", "--name").split() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert host.virsh("list", "--all", "--name").split() == []


def test_a_lost_daemon_here_leaves_it_open_where_the_guest_is(guest, there, migrations):
    here = guest.host
    running = migrations.migrate(guest, there, **SLOW)
    migrations.wait_until(guest, lambda now: now["total"] > 0)
    here.kill_libvirt()
    with pytest.raises(MigrationError, match="not known on which host") as error:
        running.result(60)
    assert error.value.kind == "retry"
    here.libvirt.start()
    wait_for_no_guest_on(there)
    assert_runs_on(guest, here, there)


def test_a_migration_goes_on_without_the_process_that_asked(guest, there, migrations):
    here = guest.host
    migrations.migrate(guest, there, bandwidth_mib_s=32)
    migrations.wait_until(guest, lambda now: now["total"] > 0)
    migrations.kill()
    deadline = time.monotonic() + 60
    while (here.running(), there.running()) != ([], [guest.name]):
        assert time.monotonic() < deadline, "it did not move"
        time.sleep(0.2)
    assert_runs_on(guest, there, here)
