# SPDX-License-Identifier: Apache-2.0
"""A guest whose BIOS boots from a disk of aiolos-engine: only the first of its rings is ready then."""

import pathlib
import subprocess
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SECTOR = 512
TEXT = b"read by SeaBIOS through aiolos-engine\n"


@pytest.fixture
def bootable(folder):
    """A disk with a boot sector and the text that it prints."""
    built, linked, disk = folder / "boot.o", folder / "boot", folder / "disk"
    subprocess.run(["as", "--32", "-o", built, HERE / "boot_sector.s"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", linked, built], check=True)
    with open(disk, "wb") as image:
        image.write(linked.read_bytes().ljust(SECTOR, b"\0")[:SECTOR] + TEXT.ljust(SECTOR, b"\0"))
        image.truncate(1 << 20)
    return disk


@pytest.mark.parametrize("mode", ["threads", "native", "io_uring"])
def test_the_bios_boots_reads_and_writes(engine, folder, bootable, mode):
    socket = engine.add(bootable, "bios-disk", mode)
    serial = folder / "serial"
    qemu = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc,memory-backend=ram",
         "-object", "memory-backend-memfd,id=ram,size=64M,share=on", "-m", "64M", "-smp", "1,maxcpus=2", "-nodefaults",
         "-display", "none", "-serial", f"file:{serial}", "-chardev", f"socket,id=disk,path={socket}",
         "-device", "vhost-user-blk-pci,chardev=disk,num-queues=4,bootindex=1"], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (serial.exists() and TEXT in serial.read_bytes()):
            assert qemu.poll() is None and time.monotonic() < deadline, serial.read_bytes() if serial.exists() else ""
            time.sleep(0.1)
    finally:
        qemu.kill()
        qemu.wait()
    assert bootable.read_bytes()[2 * SECTOR:3 * SECTOR] == TEXT.ljust(SECTOR, b"\0")
    assert engine.stats("bios-disk")["broken_rings"] == 0
