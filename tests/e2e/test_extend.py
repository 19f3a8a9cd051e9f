# SPDX-License-Identifier: Apache-2.0
"""A volume grows while the guest uses it."""

import pytest
from harness import MIB, command


@pytest.mark.parametrize("kind", ["raw_written", "raw_sparse", "qcow2_sparse"])
def test_guest_sees_the_new_size_and_uses_it(aiolos, guest, volumes, kind):
    volume = getattr(volumes, kind)()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    aiolos.extend(volume.size + 16 * MIB)
    guest.wait_size(device, volume.size + 16 * MIB)
    guest.check(f"printf new-end | dd of={device} bs=1 seek={volume.size + 16 * MIB - 7} conv=fsync 2>&1")
    aiolos.detach()
    guest.wait_no_disk(volume.serial)
    shown = command("qemu-img", "info", "--output", "json", "-f", volume.format, volume.path)
    assert f'"virtual-size": {volume.size + 16 * MIB}' in shown


def test_smaller_size_is_refused(aiolos, guest, volumes):
    volume = volumes.raw_written()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    aiolos.extend(volume.size - MIB, expect=3)
    assert guest.size(device) == volume.size
    assert volume.path.stat().st_size == volume.size


def test_full_qcow2_is_grown_while_it_is_detached(aiolos, guest, volumes, direct_io):
    """QEMU would leave its new space unallocated, under a disk that uses native."""
    volume = volumes.qcow2_preallocated()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    refused = aiolos.extend(volume.size + 16 * MIB, "--json", expect=3).error()
    assert str(volume.path) in refused["message"] and "qemu-img resize --preallocation=falloc" in refused["next"]
    assert guest.size(device) == volume.size
    aiolos.detach()
    guest.wait_no_disk(volume.serial)
    command("qemu-img", "resize", "-f", "qcow2", "--preallocation=falloc", volume.path, volume.size + 16 * MIB)
    assert aiolos.attach(volume, "--json").json()["aio"]["mode"] == "native"
    device = guest.wait_disk(volume.serial)
    assert guest.size(device) == volume.size + 16 * MIB


@pytest.mark.parametrize("size", ["0", "-1", "-512", "many", "", "1e6", "512x", "9223372036854775808",
                                  "18446744073709551104"])
def test_size_that_is_no_size(aiolos, guest, size):
    assert f"'{size}'" in aiolos.extend(size, expect=2).err


def test_target_that_is_not_attached(aiolos):
    assert "vdb" in aiolos.extend(64 * MIB, expect=2).err
