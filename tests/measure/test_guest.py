# SPDX-License-Identifier: Apache-2.0
"""`aiolos measure --guest`: the same through a guest that really boots."""

from __future__ import annotations

import pathlib
import signal

import pytest

import image as guest_image
from guest import virt_type
from measure_command import checksum, children, image, left_in_tmp, wait_for

ONE_CASE = ("--patterns", "random", "--depths", "4", "--disks", "1", "--repetitions", "1")
SHORT = (*ONE_CASE, "--seconds", "0.2")


@pytest.fixture(scope="module")
def in_guest():
    """Options for the guest that the other tests use."""
    return "--guest", "--guest-image", guest_image.build().kernel.parent


def guest_of(pid: int) -> int | None:
    """The QEMU whose guest has a disk; not one that was asked for its version, or tried KVM."""
    for child in children(pid):
        try:
            arguments = pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"qemu-system" in arguments and b"virtio-blk-pci" in arguments:
            return child
    return None


def test_a_guest_loads_the_disk_in_each_mode(aiolos, folder, in_guest):
    before = left_in_tmp()
    file = image(folder)
    content = checksum(file)
    report = aiolos.json("measure", "--path", file, "--write", "--operations", "write", "--modes", "threads,native",
                         "--iothreads", "1", *SHORT, *in_guest)
    assert checksum(file) != content
    assert report["conditions"]["guest"] == {"kvm": "kvm", "qemu": "tcg"}[virt_type()]
    assert report["conditions"]["iothreads"] == 1
    case, = report["subjects"][0]["cases"]
    assert set(case["modes"]) == {"threads", "native"}
    for mode in case["modes"].values():
        assert mode["in_guest"] is True
        assert mode["iops"]["median"] > 10
        assert 0 < mode["p50_us"]["median"] <= mode["p99_us"]["median"]
    assert case["limit"]["iops"]["median"] > 10
    assert "1 iothread of" in report["subjects"][0]["profile"]["through"]
    assert report["event_loop"] == []
    assert list(folder.iterdir()) == [file]
    assert left_in_tmp() == before


def test_a_signal_ends_the_guest_and_leaves_nothing_behind(aiolos, folder, in_guest):
    before = left_in_tmp()
    file = image(folder)
    content = checksum(file)
    process = aiolos.start("measure", "--path", file, *ONE_CASE, "--seconds", "30", *in_guest)
    guest = wait_for(lambda: guest_of(process.pid), seconds=60)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, (out, errors)
    assert not pathlib.Path(f"/proc/{guest}").exists()
    assert list(folder.iterdir()) == [file] and checksum(file) == content
    assert left_in_tmp() == before


def test_an_emulated_guest_does_not_decide(aiolos, folder, in_guest):
    if virt_type() == "kvm":
        pytest.skip("KVM boots a guest here")
    error = aiolos.run("measure", "--path", image(folder), *SHORT, "--save", *in_guest, expect=3)
    assert "KVM" in error
    assert not (aiolos.state / "measured").exists()
