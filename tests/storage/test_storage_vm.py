# SPDX-License-Identifier: Apache-2.0
"""The storage VM's own parts work: each kind of storage is connected, written, changed and taken away for real."""

import errno
import os
import pathlib
import socket

import pytest
from exported import verify_io
from host_state import host_state, state_difference
from tools import MIB, StorageError, run, size_of, wait_for, write_direct


def test_runs_in_the_vm():
    assert os.uname().nodename == "storage-vm"


def test_difference_of_host_states_names_what_changed():
    before = {"mounts": ["a", "b"], "SCSI devices": []}
    after = {"mounts": ["b", "c"], "SCSI devices": ["2:0:0:0"]}
    assert state_difference(before, after).splitlines() == ["- mounts: a", "+ mounts: c", "+ SCSI devices: 2:0:0:0"]
    assert state_difference(before, before) == ""


# --- iSCSI ------------------------------------------------------------------------------------------------------------


def test_iscsi_lun_is_written_and_grows(iscsi, initiator, volume, host_as_before):
    lun = iscsi.map(volume)
    initiator.login(iscsi, paths=[0])
    disk = initiator.disk(iscsi, 0, lun)
    write_direct(disk, byte=0x5A)
    assert volume.content(0, MIB) == b"\x5a" * MIB

    volume.grow(96 * MIB)
    initiator.rescan(iscsi)
    wait_for(lambda: size_of(disk) == 96 * MIB, "the new size")
    assert state_difference(host_as_before, host_state()), "the host's state does not show the session"
    initiator.logout(iscsi)


def test_iscsi_login_with_a_wrong_secret_is_refused(iscsi, initiator, volume):
    iscsi.map(volume)
    iscsi.chap = (iscsi.chap[0], "wrong-secret")
    with pytest.raises(StorageError, match="status 24"):
        initiator.login(iscsi, paths=[0])


def test_iscsi_lun_number_gets_another_volume(iscsi, initiator, volume, other_volume):
    lun = iscsi.map(volume)
    initiator.login(iscsi, paths=[0])
    disk = initiator.disk(iscsi, 0, lun)
    assert size_of(disk) == volume.size
    iscsi.unmap(lun)
    iscsi.map(other_volume, lun)
    shown = run("/lib/udev/scsi_id", "--page=0x83", "--whitelisted", disk).stdout.strip()
    assert shown == other_volume.wwid
    initiator.logout(iscsi)


def test_iscsi_closed_portal_refuses(iscsi, initiator, volume):
    iscsi.map(volume)
    iscsi.close_portal(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((iscsi.network.portals[1], iscsi.port), timeout=5)
    iscsi.open_portal(1)
    initiator.login(iscsi)


# --- multipath --------------------------------------------------------------------------------------------------------


def test_multipath_survives_the_loss_of_a_path(iscsi, initiator, multipath, volume, host_as_before):
    iscsi.map(volume)
    initiator.login(iscsi)
    disk = multipath.wait_map(volume.wwid, paths=2)
    write_direct(disk)
    iscsi.network.pull(0)
    write_direct(disk, offset=MIB)
    multipath.wait_map(volume.wwid, paths=1)
    iscsi.network.plug(0)
    multipath.wait_map(volume.wwid, paths=2)

    volume.grow(80 * MIB)
    initiator.rescan(iscsi)
    multipath.resize(volume.wwid)
    assert size_of(disk) == 80 * MIB
    multipath.flush(volume.wwid)
    initiator.logout(iscsi)


# --- Fibre Channel ----------------------------------------------------------------------------------------------------


def test_fibre_channel_lun_on_two_fabrics(fibre_channel, volume):
    before = host_state()
    lun = fibre_channel.map(volume)
    for fabric in (0, 1):
        fibre_channel.scan(fabric, lun)
    disks = [fibre_channel.disk(fabric, lun) for fabric in (0, 1)]
    write_direct(disks[0], byte=0x3C)
    with open(disks[1], "rb") as other:
        assert other.read(16) == b"\x3c" * 16

    volume.grow(72 * MIB)
    run("sh", "-c", f"echo 1 >/sys/class/block/{disks[0].resolve().name}/device/rescan")
    assert size_of(disks[0]) == 72 * MIB
    for disk in disks:
        fibre_channel.delete(disk)
    fibre_channel.unmap(lun)
    assert state_difference(before, host_state()) == ""


def test_fibre_channel_link_goes_and_comes_back(fibre_channel):
    fibre_channel.pull(0)
    wait_for(lambda: not fibre_channel.is_online(0), "the remote port to be blocked")
    fibre_channel.plug(0)
    fibre_channel.wait_online(0)


# --- NVMe/TCP ---------------------------------------------------------------------------------------------------------


def test_nvme_namespace_on_two_paths(nvme, volume, host_as_before):
    namespace = nvme.map(volume)
    nvme.connect()
    disk = nvme.disk(namespace)
    write_direct(disk, byte=0x77)
    assert volume.content(0, MIB) == b"\x77" * MIB
    nvme.grow(volume, 96 * MIB)
    wait_for(lambda: size_of(disk) == 96 * MIB, "the new size")
    nvme.close_port(0)
    write_direct(disk, offset=MIB)
    nvme.disconnect()


# --- NFS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(nfs):
    folder = pathlib.Path("/mnt/storage-test")
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "nfs", "-o", "vers=4.2", nfs.export, folder)
    yield folder
    run("umount", folder)


def test_nfs_file_is_written_preallocated_and_survives_a_restart(nfs, mounted):
    file = mounted / "volume.raw"
    run("qemu-img", "create", "-f", "raw", "-o", "preallocation=falloc", file, 16 * MIB)
    assert file.stat().st_blocks * 512 >= 16 * MIB
    write_direct(file)
    nfs.stop()
    nfs.start()
    write_direct(file, offset=MIB)
    assert (nfs.folder / file.name).stat().st_size == 16 * MIB


def test_nfs_full_disk_says_so(nfs, mounted):
    nfs.fill(leave=4 * MIB)
    with pytest.raises(OSError) as raised, open(mounted / "large", "wb") as stream:
        stream.write(bytes(16 * MIB))
        os.fsync(stream.fileno())
    assert raised.value.errno == errno.ENOSPC
    nfs.empty()


# --- LVM --------------------------------------------------------------------------------------------------------------


def test_lvm_thick_thin_and_snapshot(host_as_before, volume_group):
    thick = volume_group.thick("thick", 64 * MIB)
    write_direct(thick)
    volume_group.grow("thick", 96 * MIB)
    assert size_of(thick) == 96 * MIB

    volume_group.pool("pool", 128 * MIB)
    thin = volume_group.thin("pool", "thin", 1024 * MIB)
    assert volume_group.data_percent("thin") == 0
    write_direct(thin, length=16 * MIB)
    assert volume_group.data_percent("thin") > 1
    snapshot = volume_group.snapshot("thin", "before")
    write_direct(thin, byte=0x11)
    with open(snapshot, "rb") as stream:
        assert stream.read(16) == b"\xa5" * 16


# --- a guest on it ----------------------------------------------------------------------------------------------------


def test_guest_writes_to_an_iscsi_lun(guest, iscsi, initiator, volume, tmp_path):
    lun = iscsi.map(volume)
    initiator.login(iscsi, paths=[0])
    definition = tmp_path / "disk.xml"
    definition.write_text(f"""<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>
      <source dev='{initiator.disk(iscsi, 0, lun)}'/><target dev='vdb' bus='virtio'/><serial>lun</serial></disk>""")
    guest.virsh("attach-device", guest.name, str(definition), "--live")
    device = guest.wait_disk("lun")
    verify_io(guest, device)
    guest.check(f"tr '\\0' Z </dev/zero | dd of={device} bs=64k count=16 iflag=fullblock conv=fsync 2>&1")
    assert volume.content(0, MIB) == b"Z" * MIB
    guest.virsh("detach-device", guest.name, str(definition), "--live")
    guest.wait_no_disk("lun")
