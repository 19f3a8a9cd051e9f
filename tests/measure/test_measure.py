# SPDX-License-Identifier: Apache-2.0
"""`aiolos measure` on real files, through a real qemu-storage-daemon and fio."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from measure_command import checksum, children, image, left_in_tmp, wait_for

ONE_READ = ("--operations", "read", "--patterns", "random", "--depths", "4", "--disks", "1")


def daemon_of(pid: int) -> int | None:
    """The qemu-storage-daemon that serves; not one that was only asked for its version."""
    for child in children(pid):
        try:
            if b"vhost-user-blk" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        except OSError:
            pass
    return None


def test_a_folder_is_measured_with_images_of_all_kinds_and_left_empty(aiolos, folder):
    before = left_in_tmp()
    report = aiolos.measure("--path", folder, "--patterns", "random", "--depths", "1,4", "--disks", "1,2")
    subjects = {each["name"]: each for each in report["subjects"]}
    assert list(subjects) == ["raw, preallocated", "raw, sparse", "qcow2, preallocated", "qcow2, sparse"]
    for name, subject in subjects.items():
        # Holes are not read.
        assert len(subject["cases"]) == (8 if "preallocated" in name else 4), name
        assert subject["storage"]["allocation"] == ("full" if "preallocated" in name else "sparse")
        for case in subject["cases"]:
            assert set(case["modes"]) == {"threads", "native", "io_uring"}
            for mode in case["modes"].values():
                assert mode["iops"]["low"] <= mode["iops"]["median"] <= mode["iops"]["high"]
                assert mode["iops"]["median"] > 10
                assert 0 < mode["p50_us"]["median"] <= mode["p99_us"]["median"]
            assert (case["limit"] is not None) == name.startswith("raw")
    assert len(report["event_loop"]) == 9
    for row in report["event_loop"]:
        assert 0 < row["p50_us"]["median"] <= row["p99_us"]["median"] <= row["max_us"]["median"]
        assert (row["written_iops"]["median"] > 0) == (row["neighbour"] != "none")
    assert list(folder.iterdir()) == []
    assert left_in_tmp() == before


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_an_image_is_only_read(aiolos, folder, kind):
    file = image(folder, kind)
    before = (checksum(file), file.stat().st_mtime_ns)
    report = aiolos.measure("--path", file, "--format", kind, "--patterns", "random", "--depths", "4")
    assert (checksum(file), file.stat().st_mtime_ns) == before
    subject, = report["subjects"]
    assert {case["operation"] for case in subject["cases"]} == {"read"}
    assert any("--write" in note for note in subject["notes"])
    assert list(folder.iterdir()) == [file]


def test_an_image_is_written_where_that_is_allowed(aiolos, folder):
    file = image(folder)
    before = checksum(file)
    report = aiolos.measure("--path", file, "--write", "--operations", "write", "--depths", "4", "--disks", "1")
    assert checksum(file) != before
    assert file.stat().st_size == 16 << 20
    assert {case["operation"] for case in report["subjects"][0]["cases"]} == {"write"}


def test_a_sparse_image_is_not_filled(aiolos, folder):
    file = folder / "sparse"
    file.touch()
    os.truncate(file, 16 << 20)
    report = aiolos.measure("--path", file, "--write", "--patterns", "random", "--depths", "4", "--disks", "1")
    assert {case["operation"] for case in report["subjects"][0]["cases"]} == {"read"}
    assert any("not written: it would be allocated" in note for note in report["subjects"][0]["notes"])
    assert file.stat().st_blocks == 0


def test_nothing_is_left_to_measure_of_an_image_that_is_only_written(aiolos, folder):
    error = aiolos.run("measure", "--path", image(folder), "--operations", "write", expect=2)
    assert "--write" in error


def test_a_block_device_is_a_class_of_its_own(aiolos, folder):
    made = subprocess.run(["losetup", "--find", "--show", image(folder)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no loop devices: {made.stderr.strip()}")
    try:
        report = aiolos.measure("--path", made.stdout.strip(), *ONE_READ)
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)
    storage = report["subjects"][0]["storage"]
    assert (storage["volume_type"], storage["filesystem"]) == ("local", "block device")


@pytest.mark.parametrize("mode, contexts", [("threads", 0), ("native", 1), ("io_uring", 0)])
def test_the_mode_is_the_one_that_qemu_really_uses(aiolos, folder, mode, contexts):
    process = aiolos.start("measure", "--path", image(folder), *ONE_READ, "--modes", mode, "--seconds", "2", "--repetitions",
                           "1", "--no-limit")
    daemon = wait_for(lambda: daemon_of(process.pid))

    def is_busy():
        fields = pathlib.Path(f"/proc/{daemon}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12]) > 20  # ticks
    wait_for(is_busy)
    maps = pathlib.Path(f"/proc/{daemon}/maps").read_text()
    # The kernel's own workers of io_uring are threads of the process as well.
    threads = [at.read_text() for at in pathlib.Path(f"/proc/{daemon}/task").glob("*/comm")]
    of_qemu = [name for name in threads if not name.startswith("iou-")]
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert maps.count("/[aio]") == contexts
    assert (len(of_qemu) > 4) == (mode == "threads"), threads  # QEMU's pool has one for each request in flight


def test_disks_are_spread_over_iothreads(aiolos, folder):
    process = aiolos.start("measure", "--path", folder, "--modes", "native", "--operations", "read", "--patterns", "random",
                           "--depths", "4", "--disks", "3", "--iothreads", "2", "--seconds", "2", "--size", "16M",
                           "--repetitions", "1", "--no-limit", "--no-event-loop", "--json")
    daemon = wait_for(lambda: daemon_of(process.pid))
    # The main loop opens a context with the disk, each iothread when it is given one.
    wait_for(lambda: pathlib.Path(f"/proc/{daemon}/maps").read_text().count("/[aio]") == 3)
    report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert report["conditions"]["iothreads"] == 2
    case, = report["subjects"][0]["cases"]
    assert case["disks"] == 3 and case["modes"]["native"]["iops"]["median"] > 10


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["making images", "running"])
def test_a_signal_leaves_nothing_behind(aiolos, folder, how, when):
    before = left_in_tmp()
    process = aiolos.start("measure", "--path", folder, "--seconds", "5", "--size", "16M" if when == "running" else "1G")
    started = wait_for(lambda: daemon_of(process.pid) if when == "running" else children(process.pid))
    begun = time.monotonic()
    process.send_signal(how)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == -how, (out, errors)
    assert time.monotonic() - begun < 8
    assert list(folder.iterdir()) == []
    assert left_in_tmp() == before
    if when == "running":
        assert not pathlib.Path(f"/proc/{started}").exists()


def test_not_even_sigkill_leaves_a_daemon(aiolos, folder):
    before = left_in_tmp()
    process = aiolos.start("measure", "--path", folder, "--seconds", "5", "--size", "16M")
    daemon = wait_for(lambda: daemon_of(process.pid))
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not pathlib.Path(f"/proc/{daemon}").exists())
    for made in left_in_tmp() - before:
        subprocess.run(["rm", "-r", made], check=True)


def test_what_a_guest_uses_is_not_written(aiolos, folder):
    file = image(folder)
    before = checksum(file)
    guest = subprocess.Popen(["qemu-system-x86_64", "-S", "-display", "none", "-monitor", "stdio", "-nodefaults", "-drive",
                              f"file={file},if=virtio,format=raw"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        guest.stdout.readline()  # the monitor's greeting comes when the disk is open
        error = aiolos.run("measure", "--path", file, "--write", *ONE_READ[2:], "--seconds", "0.1", "--repetitions", "1",
                           "--operations", "write", expect=1)
    finally:
        guest.kill()
        guest.communicate()
    assert "lock" in error
    assert checksum(file) == before


def test_what_was_measured_decides_how_such_a_volume_is_attached(aiolos, folder):
    file = image(folder)
    connection, disk = folder / "connection.json", folder / "disk.json"
    connection.write_text(json.dumps({"driver_volume_type": "file", "serial": "1", "data": {"path": str(file), "format": "raw"}}))
    disk.write_text(json.dumps({"bus": "virtio", "dev": "vdb", "type": "disk"}))
    explain = ("explain", "--connection", connection, "--disk", disk)
    assert "nothing was measured on its class of storage (file, raw, full" in json.dumps(aiolos.json(*explain)["aio"])
    report = aiolos.measure("--connection", connection, *ONE_READ, "--save")
    saved, = report["saved"]
    assert pathlib.Path(saved).parent == aiolos.state / "measured"
    first = report["subjects"][0]["profile"]["modes"][0]["mode"]
    explained = aiolos.json(*explain)["aio"]
    assert f"profile measured: measured {report['date']}" in json.dumps(explained)
    # The fastest, or the next if this host's QEMU may not use io_uring.
    rejected = {each["mode"]: each["because"] for each in explained["rejected"]}
    assert explained["mode"] == first or "io_uring" in rejected[first] or "QEMU" in rejected[first], explained


def test_people_get_a_table(aiolos, folder):
    shown = aiolos.run("measure", "--path", image(folder), *ONE_READ, "--seconds", "0.1")
    for part in ("threads", "native", "io_uring", "fio", "random read 4 KiB, depth 4, 1 disk", "measured 20"):
        assert part in shown


def test_progress_is_shown_on_a_terminal_alone(aiolos, folder):
    ours, theirs = os.openpty()
    command = aiolos.start("measure", "--path", image(folder), *ONE_READ, "--seconds", "0.1")
    assert command.communicate(timeout=60)[1] == ""
    process = subprocess.run(command.args, stdout=subprocess.DEVNULL, stderr=theirs, timeout=60, check=True)
    assert process.returncode == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert "100 %" not in shown.splitlines()[0] and "left" in shown and shown.endswith("\r\x1b[K")


@pytest.mark.parametrize("arguments, says", [
    ((), "--path PATH and --connection FILE"),
    (("--path", "/no/such/place"), "'/no/such/place'"),
    (("--path", "/tmp", "--size", "1000"), "--size: 1000"),
    (("--path", "/tmp", "--block-sizes", "100"), "--block-sizes: 100"),
    (("--path", "/tmp", "--modes", "fast"), "fast"),
    (("--path", "/tmp", "--modes", "native", "--save"), "--save: native alone"),
    (("--path", "/tmp", "--depths", "0"), "0"),
    (("--path", "/tmp", "--html", "/no/such/folder/page.html"), "'/no/such/folder'"),
    (("--path", "/tmp", "--iothreads", "65"), "65"),
    (("--path", "/tmp", "--guest", "--guest-image", "/no/such/image"), "scripts/guest-image /no/such/image"),
    (("--path", "/tmp", "--guest-image", "/no/such/image"), "--guest"),
    (("--path", "/tmp", "--guest", "--block-sizes", "16M", "--depths", "256"), "MiB of memory"),
])
def test_wrong_usage_names_what_is_wrong(aiolos, arguments, says):
    assert says in aiolos.run("measure", *arguments, expect=2)


def test_images_that_do_not_fit_are_not_begun(aiolos, folder):
    error = aiolos.run("measure", "--path", folder, "--size", "100T", expect=1)
    assert str(folder) in error and "bytes free" in error and "--size" in error
    assert list(folder.iterdir()) == []
