# SPDX-License-Identifier: Apache-2.0
"""Fibre Channel volumes on two fabrics, attached to a guest by the aiolos command."""

import contextlib
import pathlib
import shutil
import signal

import pytest
from exported import LOAD, Exported, scsi_disks, source_of, unchanged_host, verify_io
from harness import BAD_INPUT, DONE, FAILED, MIB, REFUSED, TRY_AGAIN, write_pattern
from targets import Volume as StorageVolume
from tools import SYS, in_time, size_of, wait_for, write

class Lun(Exported):
    """Shown by the array on both fabrics."""

    def __init__(self, fibre_channel, volume: StorageVolume, number: int | None = None):
        self.fibre_channel = fibre_channel
        self.number = fibre_channel.map(volume, number)
        super().__init__(volume, fibre_channel.connection_info(self.number))


@pytest.fixture
def lun(fibre_channel, volume):
    return Lun(fibre_channel, volume)


@pytest.fixture
def leaves_nothing(lun, aiolos):
    """After the test, and before the fixtures clean up, the host is as it was before."""
    with unchanged_host(aiolos):
        yield


# --- one path ---------------------------------------------------------------------------------------------------------


def test_attach_write_extend_detach(lun, other_volume, aiolos, guest, leaves_nothing):
    lun.fibre_channel.map(other_volume)
    first = aiolos.attach(lun, "--json").json()
    assert source_of(guest) == pathlib.Path(f"/dev/disk/by-id/scsi-{lun.volume.wwid}")
    assert first["aio"]["mode"] == "native"
    assert len(scsi_disks()) == 1, "one path is enough, and the other LUN is nobody's business"
    device = guest.wait_disk(lun.serial)
    verify_io(guest, device)
    write_pattern(guest, device)
    assert lun.volume.content(0, MIB) == b"Z" * MIB
    assert aiolos.attach(lun, "--json").json()["xml"] == first["xml"], "attaching again is another answer"

    too_early = aiolos.extend(96 * MIB, "--json", expect=FAILED).error()
    assert "less than the 100663296 asked for" in too_early["message"]
    lun.volume.grow(96 * MIB)
    aiolos.extend(96 * MIB)
    guest.wait_size(device, 96 * MIB)

    aiolos.detach()
    aiolos.detach()
    assert scsi_disks() == []


# --- several paths ----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_paths(lun, multipath, aiolos):
    """The volume is to be attached over both fabrics."""
    aiolos.configure("fibre_channel: {use_multipath: true, scan_attempts: 3}\n")
    return multipath


def test_multipath_goes_on_while_a_path_is_lost_and_extends_once_it_is_back(two_paths, lun, aiolos, guest, leaves_nothing):
    aiolos.attach(lun)
    assert source_of(guest) == pathlib.Path(f"/dev/disk/by-id/dm-uuid-mpath-{lun.volume.wwid}")
    two_paths.wait_map(lun.volume.wwid, paths=2)
    aiolos.attach(lun)
    device = guest.wait_disk(lun.serial)
    guest.check(f"rm -f /tmp/stop /tmp/stopped /tmp/bad; (while [ ! -e /tmp/stop ]; do {LOAD.format(device=device)} >/tmp/fio 2>&1 || "
                "cp /tmp/fio /tmp/bad; done; touch /tmp/stopped) >/dev/null 2>&1 &")
    lun.fibre_channel.pull(0)
    two_paths.wait_map(lun.volume.wwid, paths=1)
    lun.volume.grow(96 * MIB)
    refused = aiolos.extend(96 * MIB, "--json", expect=REFUSED).error()
    assert f"target port 0x{lun.fibre_channel.target_wwpn(0)} at" in refused["message"]
    lun.fibre_channel.plug(0)
    two_paths.wait_map(lun.volume.wwid, paths=2)
    # multipathd notices a path that is back in its own time.
    wait_for(lambda: aiolos.extend(96 * MIB, expect=None).status == DONE, "the path to be back", timeout=90)
    guest.wait_size(device, 96 * MIB)
    guest.check("touch /tmp/stop; while [ ! -e /tmp/stopped ]; do sleep 0.2; done", timeout=120)
    guest.check("[ ! -e /tmp/bad ] || { cat /tmp/bad; exit 1; }")
    write_pattern(guest, device)
    assert lun.volume.content(0, MIB) == b"Z" * MIB
    aiolos.detach()


def test_multipath_is_taken_down_while_a_path_is_lost(two_paths, lun, aiolos, guest, leaves_nothing):
    aiolos.attach(lun)
    lun.fibre_channel.pull(0)
    two_paths.wait_map(lun.volume.wwid, paths=1)
    with in_time(30):
        aiolos.detach()
    lun.fibre_channel.unmap(lun.number)
    lun.fibre_channel.plug(0)
    lun.fibre_channel.wait_online(0)


# --- another volume, or none ------------------------------------------------------------------------------------------


def test_another_volume_at_the_address_is_refused(lun, other_volume, aiolos, guest, leaves_nothing):
    aiolos.attach(lun)
    lun.fibre_channel.unmap(lun.number)
    lun.fibre_channel.map(other_volume, lun.number)
    for command in (aiolos.detach, lambda *more, **options: aiolos.extend(96 * MIB, *more, **options)):
        refused = command("--json", expect=REFUSED).error()["message"]
        assert lun.volume.wwid in refused and other_volume.wwid in refused
    aiolos.detach("--force")


def test_leftover_of_another_volume_is_replaced(lun, other_volume, aiolos, guest, leaves_nothing):
    """A volume that somebody else left on this host, and whose LUN number the array has given away."""
    lun.fibre_channel.unmap(lun.number)
    lun.fibre_channel.map(other_volume, lun.number)
    lun.fibre_channel.scan(0, lun.number)
    wait_for(scsi_disks, "the other volume's disk")
    lun.fibre_channel.unmap(lun.number)
    lun.fibre_channel.map(lun.volume, lun.number)
    aiolos.attach(lun)
    assert size_of(source_of(guest)) == lun.volume.size
    write_pattern(guest, guest.wait_disk(lun.serial))
    assert lun.volume.content(0, MIB) == b"Z" * MIB
    aiolos.detach()


def test_disk_in_use_by_others_stays(fibre_channel, lun, aiolos):
    fibre_channel.scan(0, lun.number)
    disk = fibre_channel.disk(0, lun.number)
    with open(disk, "rb"):
        aiolos.attach(lun)
        aiolos.detach()
        assert scsi_disks() == [disk.resolve().name]
    fibre_channel.delete(disk)


def test_lun_that_goes_during_io_is_detached_by_force(lun, aiolos, guest, leaves_nothing):
    aiolos.attach(lun)
    device = guest.wait_disk(lun.serial)
    guest.check(f"(while dd if=/dev/zero of={device} bs=64k count=64 oflag=direct; do :; done) >/dev/null 2>&1 &")
    lun.fibre_channel.unmap(lun.number)
    with in_time(60):
        # LUN 0 always answers: by now not for the volume, but for the target.
        assert lun.volume.wwid in aiolos.detach("--json", expect=REFUSED).error()["message"]
        aiolos.detach("--force")


@pytest.mark.parametrize(("changes", "status", "message"), [
    ({"target_wwn": ["50000000000000ff"], "initiator_target_map": None}, FAILED, "the HBA does not see it"),
    ({"target_lun": 99}, FAILED, "shows no LUN 99"),
    ({"initiator_target_map": {"50000000000000fe": ["50000000000000ff"]}}, BAD_INPUT, "for none of this host's HBAs"),
], ids=["port", "lun", "initiator"])
def test_what_is_not_there(lun, aiolos, leaves_nothing, changes, status, message):
    aiolos.configure("fibre_channel: {scan_attempts: 2}\n")
    with in_time(30):
        error = aiolos.attach(lun.other(**changes), "--json", expect=status).error()
    assert message in error["message"]


# --- links ------------------------------------------------------------------------------------------------------------


def test_no_hba_online(lun, aiolos, leaves_nothing):
    with links_down(lun.fibre_channel):
        with in_time(20):
            error = aiolos.attach(lun, "--json", expect=FAILED).error()
        assert f"(0x{lun.fibre_channel.host_wwpn(0)}) is Linkdown" in error["message"]
    wait_for_unasked_disks()
    aiolos.attach(lun)
    aiolos.detach()


def test_attach_waits_for_ports_that_are_blocked_after_a_lip(lun, aiolos, leaves_nothing):
    for fabric in (0, 1):
        write(SYS / "class/fc_host" / lun.fibre_channel.host(fabric) / "issue_lip", 1)
    assert not any(lun.fibre_channel.is_online(fabric) for fabric in (0, 1))
    with in_time(30):
        aiolos.attach(lun)
    wait_for_unasked_disks()
    aiolos.detach()


def test_blocked_path_is_detached_by_force(lun, aiolos, guest, leaves_nothing):
    aiolos.attach(lun)
    with links_down(lun.fibre_channel):
        with in_time(20):
            error = aiolos.detach("--json", expect=TRY_AGAIN).error()
        assert "bring a path back" in error["next"]
        with in_time(30):
            aiolos.detach("--force")
        assert scsi_disks() == []
        lun.fibre_channel.unmap(lun.number)


def wait_for_unasked_disks() -> None:
    """When a port comes back the kernel looks at all of its LUNs by itself."""
    wait_for(lambda: len(scsi_disks()) == 2, "the kernel to find the LUN on both fabrics")


@contextlib.contextmanager
def links_down(fibre_channel):
    """Without both fabrics."""
    for fabric in (0, 1):
        fibre_channel.pull(fabric)
    yield
    for fabric in (0, 1):
        fibre_channel.plug(fabric)
    for fabric in (0, 1):
        fibre_channel.wait_online(fabric)


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kill_at():
    """kill_at(tool, moment) has the next run of a tool kill the command that runs it, before or after its work."""
    shadows = []

    def arrange(tool: str, moment: str) -> None:
        shadow = pathlib.Path("/usr/local/sbin") / tool  # where the command looks first
        shadows.append(shadow)
        shadow.write_text(f'#!/bin/sh\nrm $0\n[ {moment} = before ] || {shutil.which(tool)} "$@"\nkill -9 $PPID\n')
        shadow.chmod(0o755)

    yield arrange
    for shadow in shadows:
        assert not shadow.exists(), f"{shadow.name} was not run"


# Here detach finishes what was begun; reconcile does at each moment in test_crash.py.
@pytest.mark.parametrize(("verb", "moment", "tool"), [("attach", "after", "tee"), ("detach", "before", "blockdev")])
def test_killed_command_is_finished_by_detach(lun, aiolos, leaves_nothing, kill_at, verb, moment, tool):
    kill(aiolos, lun, kill_at, verb, moment, tool)
    aiolos.detach()


def test_killed_at_the_map_is_finished_by_detach(two_paths, lun, aiolos, leaves_nothing, kill_at):
    kill(aiolos, lun, kill_at, "detach", "after", "multipath")
    aiolos.detach()


def test_killed_attach_is_done_by_attaching_again(lun, aiolos, guest, leaves_nothing, kill_at):
    kill(aiolos, lun, kill_at, "attach", "after", "tee")
    aiolos.attach(lun)
    guest.wait_disk(lun.serial)
    aiolos.detach()


def kill(aiolos, lun, kill_at, verb, moment, tool) -> None:
    if verb == "detach":
        aiolos.attach(lun)
    kill_at(tool, moment)
    killed = aiolos.attach(lun, expect=None) if verb == "attach" else aiolos.detach(expect=None)
    assert killed.status == -signal.SIGKILL, killed
