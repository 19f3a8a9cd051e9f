# SPDX-License-Identifier: Apache-2.0
"""A volume grows while the guest uses it."""

import pytest
from harness import MIB, command


def size_in_guest(guest, device: str) -> int:
    return int(guest.check(f"blockdev --getsize64 {device}"))


@pytest.mark.parametrize("kind", ["raw_written", "raw_sparse", "qcow2_sparse", "qcow2_preallocated"])
def test_guest_sees_the_new_size_and_uses_it(aiolos, guest, volumes, kind):
    volume = getattr(volumes, kind)()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    aiolos.extend(volume.size + 16 * MIB)
    # The guest learns it by an interrupt, some moments later.
    guest.check(f"for i in $(seq 100); do [ $(blockdev --getsize64 {device}) = {volume.size + 16 * MIB} ] && exit 0;"
                " sleep 0.1; done; exit 1")
    guest.check(f"printf new-end | dd of={device} bs=1 seek={volume.size + 16 * MIB - 7} conv=fsync 2>&1")
    aiolos.detach()
    guest.wait_no_disk(volume.serial)
    shown = command("qemu-img", "info", "--output", "json", "-f", volume.format, volume.path)
    assert f'"virtual-size": {volume.size + 16 * MIB}' in shown


def test_smaller_size_is_refused(aiolos, guest, volumes):
    volume = volumes.raw_written()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    refused = aiolos.extend(volume.size - MIB, expect=None)
    assert refused.status in (2, 3), refused
    assert size_in_guest(guest, device) == volume.size
    assert volume.path.stat().st_size == volume.size


@pytest.mark.parametrize("size", ["0", "-1", "many", ""])
def test_size_that_is_no_size(aiolos, guest, size):
    aiolos.extend(size, expect=2)


def test_target_that_is_not_attached(aiolos):
    failed = aiolos.extend(64 * MIB, expect=None)
    assert failed.status in (1, 2), failed
    assert "vdb" in failed.err
