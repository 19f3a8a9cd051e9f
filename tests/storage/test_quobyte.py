# SPDX-License-Identifier: Apache-2.0
"""Quobyte volumes on a FUSE file system of our own with the marks of Quobyte's, which is not free; see mount.quobyte."""

import json
import os
import pathlib
import signal
import subprocess

import pytest
from exported import verify_io
from harness import DONE, FAILED, REFUSED, TRY_AGAIN
from shares import Attaching, StandIn, killer, mounted_at, preallocated, qcow2, sparse
from tools import MIB, in_time, run

SYSTEMD = pathlib.Path("/run/systemd/system")
pytestmark = pytest.mark.any_kernel


@pytest.fixture
def host(host_as_before, aiolos, quobyte, tmp_path):
    made = Attaching(aiolos, quobyte, tmp_path / "mnt")
    yield made
    made.close()


def test_file_is_attached_native_written_and_detached(host):
    preallocated(host.share.folder / "full")
    assert host.attach(host.volume("full")).json()["aio"]["mode"] == "native"
    assert "fuse.quobyte" in mounted_at(host.place())[0]
    verify_io(host.guest, host.disk("full"))
    host.detach()
    host.assert_nothing_left()
    host.share.wait_for_no_client()


def test_two_files_share_a_mount_and_the_last_one_unmounts(host):
    sparse(host.share.folder / "holes")
    qcow2(host.share.folder / "image")
    assert host.attach(host.volume("holes"), "vdb").json()["aio"]["mode"] != "native"
    host.attach(host.volume("image", "qcow2"), "vdc")
    assert len(mounted_at(host.place())) == 1
    host.aiolos.extend(24 * MIB, dev="vdb")
    host.aiolos.extend(24 * MIB, dev="vdc")
    assert (host.share.folder / "holes").stat().st_size == 24 * MIB
    host.detach("vdb")
    assert len(mounted_at(host.place())) == 1
    host.detach("vdc")
    host.assert_nothing_left()


def test_full_file_that_cannot_be_preallocated_further_stays_as_it_is(host):
    file = preallocated(host.share.folder / "full")
    host.attach(host.volume("full"))
    error = host.aiolos.extend(24 * MIB, "--json", expect=FAILED).error()
    assert "cannot be grown" in error["message"] and "preallocate" in error["next"]
    assert file.stat().st_size == 16 * MIB


def test_failed_validation_is_a_failed_connect(host, tmp_path):
    sparse(host.share.folder / "v")
    configuration = tmp_path / "client.cfg"
    configuration.write_text(json.dumps({"root_size": 4096}))
    host.configure(client_cfg=str(configuration))
    error = host.attach(host.volume("v"), expect=FAILED).error()
    assert "size 4096 instead of 0" in error["message"]
    host.assert_nothing_left()
    host.share.wait_for_no_client()


def test_unknown_volume_is_what_the_client_says(host):
    error = host.attach(host.volume("v", export="quobyte://registry.example/gone"), expect=FAILED).error()
    assert "registry.example/gone cannot be mounted: not found" in error["message"]
    host.assert_nothing_left()


def test_file_system_that_is_no_quobyte_is_refused(host):
    place = host.place()
    place.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "tmpfs", place)
    try:
        assert "tmpfs" in host.attach(host.volume("v"), expect=REFUSED).error()["message"]
        assert mounted_at(place)
    finally:
        run("umount", place)
        place.rmdir()


def test_client_that_died_is_replaced_once_nobody_uses_its_mount(host):
    sparse(host.share.folder / "v")
    sparse(host.share.folder / "w")
    host.attach(host.volume("v"))
    host.share.kill_clients()
    with in_time():
        error = host.attach(host.volume("w"), "vdc", expect=TRY_AGAIN).error()
    assert "not connected" in error["message"] and "1 other volume" in error["message"]
    host.detach("vdb", "--force")
    host.assert_nothing_left()

    host.place().mkdir(parents=True)
    run("mount.quobyte", host.share.export.removeprefix("quobyte://"), host.place())  # somebody else's
    host.share.kill_clients()
    host.attach(host.volume("w"))
    verify_io(host.guest, host.disk("w"))
    host.detach()
    host.assert_nothing_left()


def test_client_that_hangs_is_an_error_while_the_mount_is_used(host):
    """Nobody's disk hangs with it here, only another process does."""
    sparse(host.share.folder / "v")
    host.place().mkdir(parents=True)
    run("mount.quobyte", host.share.export.removeprefix("quobyte://"), host.place())
    user = subprocess.Popen(["sleep", "600"], cwd=host.place())  # an open file would hold up whoever closes it
    try:
        host.share.signal_clients(signal.SIGSTOP)
        with in_time(60):
            error = host.attach(host.volume("v"), expect=TRY_AGAIN).error()
        assert "does not answer" in error["message"] and "sleep" in error["message"], error
    finally:
        host.share.signal_clients(signal.SIGCONT)  # whoever looks at the mount would wait for ever
        user.kill()
        user.wait()
    host.attach(host.volume("v"))
    verify_io(host.guest, host.disk("v"))
    host.detach()
    run("umount", host.place())
    host.place().rmdir()
    host.assert_nothing_left()


def test_client_that_hangs_is_replaced_where_nobody_uses_the_mount(host):
    sparse(host.share.folder / "v")
    host.place().mkdir(parents=True)
    run("mount.quobyte", host.share.export.removeprefix("quobyte://"), host.place())
    hanging = host.share.clients()
    host.share.signal_clients(signal.SIGSTOP)
    try:
        with in_time(60):
            host.attach(host.volume("v"))
    finally:
        for pid in hanging:
            os.kill(pid, signal.SIGKILL)  # the first mount is gone from the table, but not its client
    verify_io(host.guest, host.disk("v"))
    host.detach()
    host.assert_nothing_left()


def test_client_gets_a_scope_of_its_own_under_systemd(host, tmp_path):
    sparse(host.share.folder / "v")
    log = tmp_path / "systemd-run.log"
    SYSTEMD.mkdir(parents=True)
    try:
        with StandIn("systemctl", "echo degraded; exit 1"), StandIn("systemd-run", f'echo "$@" >{log}; shift; exec "$@"'):
            host.attach(host.volume("v"))
    finally:
        SYSTEMD.rmdir()
    assert log.read_text().startswith("--scope mount.quobyte --disable-xattrs registry.example/volume ")
    host.detach()
    host.assert_nothing_left()


@pytest.mark.parametrize("program", ["mount.quobyte", "umount"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_mounting_or_unmounting_is_undone_by_detach(host, program, when):
    sparse(host.share.folder / "v")
    if program == "umount":
        host.attach(host.volume("v"))
        with killer(program, when):
            assert host.detach(expect=None).status == -9
    else:
        with killer(program, when):
            assert host.attach(host.volume("v"), expect=None).status == -9
        assert len(host.held()) == 1
    assert host.detach().status == DONE
    host.assert_nothing_left()
    host.share.wait_for_no_client()
