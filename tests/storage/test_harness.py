# SPDX-License-Identifier: Apache-2.0
"""The host's end of the storage VM: commands are answered, bounded in time, and a VM that fails says why."""

import time

import pytest
from storage_vm import Result, StorageVm, StorageVmError

pytestmark = pytest.mark.on_host


@pytest.fixture(scope="module")
def vm():
    with StorageVm(memory_mib=1024, disks={"data": "64M"}) as booted:
        yield booted


def test_command_is_answered_with_status_and_both_outputs(vm):
    assert vm.run("echo out; echo err >&2; exit 3") == Result(3, "out\n", "err\n")
    assert len(vm.check("head -c 1000000 /dev/zero | tr '\\0' x")) == 1000000
    with pytest.raises(StorageVmError, match="status 1: ls /nonexistent || false"):
        vm.check("ls /nonexistent || false")


def test_command_is_killed_when_its_time_is_over(vm):
    begun = time.monotonic()
    assert vm.run("echo begun; sleep 1000", timeout=1) == Result(124, "begun\n", "")
    assert time.monotonic() - begun < 10


def test_commands_run_side_by_side(vm):
    waiting = vm.send("while ! [ -e /run/go ]; do sleep 0.1; done; echo gone", timeout=30)
    assert vm.answer(waiting, 0.5) is None
    vm.check("touch /run/go")
    assert vm.answer(waiting, 30) == Result(0, "gone\n", "")


def test_root_is_the_hosts_and_read_only_to_it(vm, tmp_path):
    (tmp_path / "mine").write_text("from the host")
    assert vm.check(f"cat {tmp_path}/mine") == "from the host"
    vm.check(f"echo changed >{tmp_path}/mine && echo shared >/run/share/file")
    assert (tmp_path / "mine").read_text() == "from the host"
    assert (vm.share / "file").read_text() == "shared\n"


def test_disks_are_found_by_name(vm):
    assert vm.check("blockdev --getsize64 /dev/disk/by-id/virtio-data") == f"{64 << 20}\n"


def test_vm_that_dies_shows_its_console(vm):
    with pytest.raises(StorageVmError, match="sysrq triggered crash"):
        vm.run("sleep 0.5; echo c >/proc/sysrq-trigger")


def test_vm_that_does_not_start_shows_what_qemu_said():
    with pytest.raises(StorageVmError, match="did not start(.|\\n)*QEMU's output\\n.+"):
        StorageVm(memory_mib=1 << 40).start()
