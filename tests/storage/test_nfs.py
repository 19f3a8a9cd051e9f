# SPDX-License-Identifier: Apache-2.0
"""NFS volumes: files of a real export, mounted, attached to a running guest, grown, and taken away; and what goes wrong."""

import contextlib
import pathlib
import xml.etree.ElementTree as ElementTree

import pytest
from exported import verify_io
from harness import BAD_INPUT, FAILED, REFUSED, TRY_AGAIN, domain_disks
from shares import Attaching, killer, mounted_at, preallocated, qcow2, sparse
from tools import MIB, in_time, run


@pytest.fixture
def host(host_as_before, aiolos, nfs, tmp_path):
    made = Attaching(aiolos, nfs, tmp_path / "mnt")
    yield made
    made.close()


@contextlib.contextmanager
def mounted(source: str, place: pathlib.Path, *options: str):
    """A mount that somebody else made."""
    place.mkdir(parents=True)
    run("mount", "-t", "nfs", *options, source, place)
    try:
        yield
    finally:
        run("umount", "--lazy", place, check=False)
        with contextlib.suppress(FileNotFoundError):
            place.rmdir()


def driver_of(host: Attaching, dev: str = "vdb") -> ElementTree.Element:
    return domain_disks(host.guest)[dev].find("driver")


# --- what works -------------------------------------------------------------------------------------------------------


def test_preallocated_file_is_attached_native_written_and_detached(host):
    preallocated(host.share.folder / "full")
    answer = host.attach(host.volume("full")).json()
    assert answer["aio"]["mode"] == "native"
    assert driver_of(host).get("io") == "native"
    verify_io(host.guest, host.disk("full"))
    assert host.attach(host.volume("full")).json()["xml"] == answer["xml"]  # again: the same answer
    host.detach()
    host.assert_nothing_left()


def test_two_files_share_a_mount_and_the_last_one_unmounts(host):
    preallocated(host.share.folder / "full")
    sparse(host.share.folder / "holes")
    host.attach(host.volume("full"), "vdb")
    sparse_answer = host.attach(host.volume("holes"), "vdc").json()
    assert sparse_answer["aio"]["mode"] != "native"
    assert len(mounted_at(host.place())) == 1
    host.detach("vdb")
    assert len(mounted_at(host.place())) == 1
    host.detach("vdc")
    host.assert_nothing_left()


def test_mount_that_was_there_is_used_and_stays(host):
    sparse(host.share.folder / "v")
    with mounted(host.share.export, host.place()):
        host.attach(host.volume("v"))
        assert len(mounted_at(host.place())) == 1
        host.detach()
        assert len(mounted_at(host.place())) == 1


def test_mount_options_of_configuration_and_volume(host):
    sparse(host.share.folder / "v")
    host.configure(mount_options="vers=4.2,nconnect=2")
    info = host.volume("v")
    info["data"]["options"] = "-o vers=4.1,noac"
    host.attach(info)
    options = run("findmnt", "-n", "-o", "OPTIONS", host.place()).stdout
    assert "vers=4.1" in options and "nconnect=2" in options and "noac" in options
    host.detach()
    info["data"]["options"] = "--move /"
    assert host.attach(info, expect=BAD_INPUT).error()["where"] == "/data/options"


def test_qcow2_with_a_backing_chain_on_the_share(host):
    qcow2(host.share.folder / "base")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0xb5 1M 1M", host.share.folder / "base")
    qcow2(host.share.folder / "middle", backing_file="base", backing_fmt="qcow2")
    qcow2(host.share.folder / "top", backing_file="middle", backing_fmt="qcow2")
    answer = host.attach(host.volume("top", "qcow2")).json()
    assert [pathlib.Path(layer["path"]).name for layer in answer["facts"]["storage"]["chain"]] == ["top", "middle", "base"]
    device = host.disk("top")
    assert host.guest.check(f"dd if={device} bs=1M skip=1 count=1 2>/dev/null | tr -d '\\265' | wc -c").strip() == "0"
    host.detach()
    host.assert_nothing_left()


# --- growing ----------------------------------------------------------------------------------------------------------


def test_extend_keeps_full_full_sparse_sparse_and_leaves_qcow2_to_qemu(host):
    files = {"vdb": preallocated(host.share.folder / "full"), "vdc": sparse(host.share.folder / "holes"),
             "vdd": qcow2(host.share.folder / "image")}
    for dev, file in files.items():
        host.attach(host.volume(file.name, "qcow2" if dev == "vdd" else "raw"), dev)
        host.aiolos.extend(24 * MIB, dev=dev)
        host.guest.wait_size(host.disk(file.name), 24 * MIB)
    assert files["vdb"].stat().st_blocks * 512 >= 24 * MIB
    assert files["vdc"].stat().st_blocks * 512 < MIB
    assert host.aiolos.extend(8 * MIB, "--json", dev="vdb", expect=REFUSED).error()["message"]


def test_extend_of_a_full_file_on_a_full_disk_changes_nothing(host):
    file = preallocated(host.share.folder / "full")
    host.attach(host.volume("full"))
    host.share.fill(leave=4 * MIB)
    error = host.aiolos.extend(64 * MIB, "--json", expect=FAILED).error()
    host.share.empty()
    assert "bytes more" in error["message"]
    assert file.stat().st_size == 16 * MIB


# --- what is refused --------------------------------------------------------------------------------------------------


def test_another_export_at_the_mount_point_is_refused(host):
    sparse(host.share.folder / "v")
    other = f"{host.share.network.portals[1]}:/"
    with mounted(other, host.place()):
        error = host.attach(host.volume("v"), expect=REFUSED).error()
        assert host.share.export in error["message"] and other in error["message"]
        assert mounted_at(host.place())


def test_file_that_is_not_there(host):
    error = host.attach(host.volume("gone"), expect=FAILED).error()
    assert error["where"] == "/data/name" and "gone" in error["message"] and "No such file" in error["message"]
    host.assert_nothing_left()


def test_folder_and_wrong_format_are_no_volumes(host):
    (host.share.folder / "folder").mkdir()
    assert "no regular file" in host.attach(host.volume("folder"), expect=BAD_INPUT).error()["message"]
    sparse(host.share.folder / "raw")
    assert "is not a qcow2 image" in host.attach(host.volume("raw", "qcow2"), expect=BAD_INPUT).error()["message"]
    host.assert_nothing_left()


def test_files_outside_of_the_share_are_refused(host, tmp_path):
    outside = sparse(tmp_path / "outside")
    (host.share.folder / "link").symlink_to("/etc")
    error = host.attach(host.volume("link/passwd"), expect=REFUSED).error()
    assert "/etc/passwd" in error["message"]
    qcow2(host.share.folder / "top", backing_file=str(outside), backing_fmt="raw")
    assert str(outside) in host.attach(host.volume("top", "qcow2"), expect=REFUSED).error()["message"]
    host.assert_nothing_left()


def test_missing_backing_image_is_named(host):
    qcow2(host.share.folder / "top", backing_file="gone", backing_fmt="qcow2")
    error = host.attach(host.volume("top", "qcow2"), expect=FAILED).error()
    assert "backing image" in error["message"] and "/gone" in error["message"]
    host.assert_nothing_left()


def test_file_that_another_has_replaced_is_not_taken_for_the_volume(host):
    preallocated(host.share.folder / "v")
    host.attach(host.volume("v"))
    sparse(host.place() / "new").rename(host.place() / "v")
    assert "inode" in host.detach(expect=REFUSED).error()["message"]
    assert "inode" in host.aiolos.extend(24 * MIB, "--json", expect=REFUSED).error()["message"]
    host.detach("vdb", "--force")
    host.assert_nothing_left()


# --- servers that fail ------------------------------------------------------------------------------------------------


def test_wrong_path_and_export_to_others(host):
    error = host.attach(host.volume("v", export=f"{host.share.network.portals[0]}:/nowhere"), expect=FAILED).error()
    assert "no such path" in error["message"] and error["where"] == "/data/export"
    host.share.network.inside("exportfs", "-ua")
    error = host.attach(host.volume("v"), expect=FAILED).error()
    assert "does not export it" in error["message"] or "no such path" in error["message"]
    host.assert_nothing_left()


def test_stopped_server_is_an_error_in_time(host):
    host.share.stop()
    with in_time():
        error = host.attach(host.volume("v"), expect=TRY_AGAIN).error()
    assert host.share.export in error["message"]
    host.assert_nothing_left()


def test_server_that_swallows_packets_is_an_error_in_time(host):
    host.share.network.swallow(0)
    with in_time():
        error = host.attach(host.volume("v"), expect=TRY_AGAIN).error()
    assert "does not answer" in error["message"]
    host.assert_nothing_left()


def test_mount_whose_server_stopped_is_left_to_who_uses_it_and_else_taken_away(host):
    # Not with a guest on it, whose QEMU would wait for the server as well.
    sparse(host.share.folder / "v")
    with mounted(host.share.export, host.place()):
        with open(host.place() / "v", "rb"):
            host.share.stop()
            with in_time():
                error = host.attach(host.volume("v"), expect=TRY_AGAIN).error()
            assert "does not answer" in error["message"] and "python" in error["message"]
            assert mounted_at(host.place())
            host.share.start()
        host.share.stop()
        with in_time():
            error = host.attach(host.volume("v"), expect=TRY_AGAIN).error()
        assert error.get("where") == "/data/export", error
        assert not mounted_at(host.place())
        host.share.start()
    host.assert_nothing_left()


def test_server_that_stops_under_a_guest_and_comes_back_loses_nothing(host):
    """The guest's writes wait for it; others are told in time that the mount does not answer."""
    preallocated(host.share.folder / "v")
    preallocated(host.share.folder / "other")
    host.attach(host.volume("v"))
    host.guest.check("rm -f /run/fio.*; (fio --name=j --rw=randwrite --bs=4k --iodepth=4 --ioengine=libaio --direct=1 --time_based "
                     f"--runtime=8 --verify=crc32c --filename={host.disk('v')} --output=/run/fio.out; echo $? >/run/fio.status) "
                     ">/dev/null 2>&1 & sleep 1; pidof fio")
    host.share.stop()
    with in_time():
        error = host.attach(host.volume("other"), "vdc", expect=TRY_AGAIN).error()
    assert "does not answer" in error["message"]
    host.share.start()
    host.guest.check("until [ -s /run/fio.status ]; do sleep 0.5; done; cat /run/fio.out; [ $(cat /run/fio.status) = 0 ]", timeout=120)
    host.detach()
    host.assert_nothing_left()


@pytest.fixture
def folder_share(host):
    """An export whose folder can be replaced, which makes every mount of it stale."""
    folder = host.share.folder / "share"

    def replace() -> None:
        if folder.exists():
            run("rm", "-r", folder)
        folder.mkdir()
        sparse(folder / "v")
        sparse(folder / "w")

    replace()
    return f"{host.share.export}share", replace


def test_stale_mount_that_nobody_uses_is_replaced(host, folder_share):
    export, replace = folder_share
    with mounted(export, host.place(export)):
        replace()
        assert "Stale" in run("stat", "-f", host.place(export), check=False).stderr
        host.attach(host.volume("v", export=export))
        verify_io(host.guest, host.disk("v"))
        host.detach()
        assert not mounted_at(host.place(export))
    host.assert_nothing_left()


def test_stale_mount_that_is_used_is_an_error_and_goes_with_its_last_user(host, folder_share):
    export, replace = folder_share
    host.attach(host.volume("v", export=export))
    host.share.stop()  # or the server goes on to serve the folder that is gone, for the sake of the file that is open in it
    replace()
    host.share.start()
    error = host.attach(host.volume("w", export=export), "vdc", expect=TRY_AGAIN).error()
    assert "Stale" in error["message"] and "1 other volume" in error["message"]
    host.detach("vdb", "--force")
    host.assert_nothing_left()
    host.attach(host.volume("w", export=export), "vdc")
    host.detach("vdc")


def test_mount_that_others_use_stays(host):
    sparse(host.share.folder / "v")
    host.attach(host.volume("v"))
    with open(host.place() / "v", "rb"):
        host.detach()
        assert mounted_at(host.place())
    assert host.held() == []
    run("umount", host.place())
    host.place().rmdir()


# --- cut off ----------------------------------------------------------------------------------------------------------


# Here detach finishes it; reconcile does at each moment in test_crash.py.
def test_killed_while_mounting_is_undone_by_detach(host):
    sparse(host.share.folder / "v")
    with killer("mount.nfs", "after"):
        assert host.attach(host.volume("v"), expect=None).status == -9
    assert len(host.held()) == 1
    host.detach()
    host.assert_nothing_left()
    host.attach(host.volume("v"))
    host.detach()


def test_killed_while_unmounting_is_finished_by_detach(host):
    sparse(host.share.folder / "v")
    host.attach(host.volume("v"))
    with killer("umount", "before"):
        assert host.detach(expect=None).status == -9
    host.detach()
    host.assert_nothing_left()


def test_wrong_mount_option_is_named(host):
    host.configure(mount_options="no_such_option")
    error = host.attach(host.volume("v"), expect=BAD_INPUT).error()
    assert error["kind"] == "configuration" and "option" in error["message"]
    host.assert_nothing_left()
