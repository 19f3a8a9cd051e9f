# SPDX-License-Identifier: Apache-2.0
"""Limits of an attached disk are replaced while the guest uses it, and limit it."""

import json
import re

import pytest
from harness import BAD_INPUT, MIB, domain_disks

# Every limit that libvirt knows. A total excludes its read and write, and each has its own burst.
TOTALS = {"total_bytes_sec": 8 * MIB, "total_iops_sec": 400, "total_bytes_sec_max": 16 * MIB, "total_iops_sec_max": 800,
          "total_bytes_sec_max_length": 2, "total_iops_sec_max_length": 3, "size_iops_sec": 65536}
PARTS = {f"{way}_{what}_sec{suffix}": value * factor
         for way, factor in (("read", 1), ("write", 2))
         for what, suffix, value in (("bytes", "", 4 * MIB), ("iops", "", 200), ("bytes", "_max", 12 * MIB), ("iops", "_max", 600),
                                     ("bytes", "_max_length", 2), ("iops", "_max_length", 2))}


def set_limits(aiolos, limits: dict, **options):
    return aiolos.run("qos", "--config", str(aiolos.config), "--domain", aiolos.guest.name, "--target", "vdb",
                      "--specs", aiolos.write("specs.json", limits), **options)


def limits_of(guest) -> dict[str, int]:
    """As libvirt shows them, without those that limit nothing: the length of a burst that there is not."""
    iotune = domain_disks(guest)["vdb"].find("iotune")
    shown = {} if iotune is None else {limit.tag: int(limit.text) for limit in iotune}
    return {name: value for name, value in shown.items()
            if not name.endswith("_max_length") or name.removesuffix("_length") in shown}


def limits_of_qemu(guest) -> dict[str, int]:
    """As QEMU applies them."""
    shown = guest.virsh("blkdeviotune", guest.name, "vdb", "--live")
    return {name: int(value) for name, value in re.findall(r"^(\w+)\s*: (\d+)$", shown, re.M) if int(value)}


def test_every_limit_is_changed_on_the_running_guest(aiolos, guest, volumes):
    volume = volumes.raw_fallocated()
    volume.connection_info["data"]["qos_specs"] = {"total_iops_sec": 1000}
    aiolos.attach(volume)
    assert limits_of(guest) == {"total_iops_sec": 1000}
    for limits in (TOTALS, PARTS, {"read_iops_sec": 100}, {}):
        set_limits(aiolos, limits)
        assert limits_of(guest) == limits
        applied = limits_of_qemu(guest)
        assert {name: applied.get(name) for name in limits} == limits
    aiolos.detach()


def test_a_limit_limits(aiolos, guest, volumes):
    """Without one the guest reads thousands of blocks in that time."""
    limit, seconds = 50, 3
    volume = volumes.raw_fallocated()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    set_limits(aiolos, {"read_iops_sec": limit})
    report = guest.check(f"fio --name=limit --filename={device} --rw=randread --bs=4k --iodepth=4 --ioengine=libaio "
                         f"--direct=1 --time_based --runtime={seconds} --output-format=json", timeout=60)
    assert json.loads(report[report.index("{"):])["jobs"][0]["read"]["total_ios"] <= limit * seconds * 1.5
    set_limits(aiolos, {})
    assert limits_of_qemu(guest) == {}
    aiolos.detach()


@pytest.mark.parametrize("limits", [{"read_iop_sec": 1}, {"read_iops_sec": -1}, {"read_iops_sec": "x"}, [], "none"])
def test_what_is_no_limit_is_refused(aiolos, guest, volumes, limits):
    aiolos.attach(volumes.raw_fallocated())
    error = set_limits(aiolos, limits, expect=BAD_INPUT)
    assert "next:" in error.err
    assert limits_of(guest) == {}
    aiolos.detach()
