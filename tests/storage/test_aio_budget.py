# SPDX-License-Identifier: Apache-2.0
"""The host's budget for Linux AIO, used up: here in the VM, for it is one number for all of a kernel."""

import json
import os
import pathlib
import subprocess
import uuid

import pytest
from guest import Guest, GuestError
from harness import MIB, PROJECT, domain_disks
from tools import load

EVENTS = 1024  # that one AioContext of QEMU takes
NR, MAX_NR = pathlib.Path("/proc/sys/fs/aio-nr"), pathlib.Path("/proc/sys/fs/aio-max-nr")


class IdleGuest(Guest):
    """A guest without a system: QEMU opens its disks all the same."""

    def start(self, timeout: float = 60):
        load("kvm_amd")
        self.root.mkdir(parents=True)
        definition = self.root / "domain.xml"
        definition.write_text(
            f"<domain type='{self.virt_type}'><name>{self.name}</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
            "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>")
        self.virsh("create", str(definition), timeout=timeout, one_cpu=True)
        return self


@pytest.fixture
def two_guests(libvirt):
    made = [IdleGuest(pathlib.Path(f"/run/idle{number}"), name=f"idle{number}", virt_type="kvm", libvirt=libvirt)
            for number in (1, 2)]
    try:
        yield [guest.start() for guest in made]
    finally:
        for guest in made:
            guest.destroy()


@pytest.fixture
def contexts_left():
    """Lowers fs.aio-max-nr so that as many are left."""
    before = MAX_NR.read_text()
    yield lambda count: MAX_NR.write_text(str(int(NR.read_text()) + count * EVENTS))
    MAX_NR.write_text(before)


class Commands:
    """The command for several guests, with one journal."""

    def __init__(self, folder: pathlib.Path):
        self.binary = os.environ.get("AIOLOS") or PROJECT / "build/dev/bin/aiolos"
        self.folder = folder
        self.config = folder / "aiolos.yaml"
        self.config.write_text(f'libvirt: {{virt_type: kvm}}\nstate: {{dir: "{folder}/state"}}\n')

    def start(self, command: str, guest: Guest, *more: str) -> subprocess.Popen:
        return subprocess.Popen([self.binary, command, "--config", self.config, "--uri", guest.uri, "--json", *more],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def answer(self, process: subprocess.Popen) -> dict:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"status {process.returncode}\n{out}{err}"
        return json.loads(out)

    def attach(self, guest: Guest, path: pathlib.Path, dev: str = "vdb") -> subprocess.Popen:
        info = {"driver_volume_type": "local", "serial": str(uuid.uuid4())[:20], "data": {"device_path": str(path)}}
        connection, disk = self.folder / f"{guest.name}.json", self.folder / f"{dev}.json"
        connection.write_text(json.dumps(info))
        disk.write_text(json.dumps({"bus": "virtio", "dev": dev, "type": "disk"}))
        return self.start("attach", guest, "--domain", guest.name, "--connection", str(connection), "--disk", str(disk))

    def host(self, guest: Guest) -> dict:
        return self.answer(self.start("host", guest))["aio"]


@pytest.fixture
def commands(tmp_path, two_guests):
    made = Commands(tmp_path)
    yield made
    for guest in two_guests:
        guest.destroy(remove_root=False)
    made.start("reconcile", two_guests[0]).communicate(timeout=60)


def test_last_context_is_not_taken_twice_and_who_has_one_needs_no_other(volume_group, two_guests, commands, contexts_left):
    paths = [volume_group.thick(name, 16 * MIB) for name in ("one", "two", "three", "four")]
    contexts_left(1)
    assert commands.host(two_guests[0])["contexts_left"] == 1

    both = [commands.attach(guest, path) for guest, path in zip(two_guests, paths)]
    answers = [commands.answer(process)["aio"] for process in both]

    modes = [answer["mode"] for answer in answers]
    assert modes.count("native") == 1, modes
    fallback = next(answer for answer in answers if answer["mode"] != "native")
    because = next(each["because"] for each in fallback["rejected"] if each["mode"] == "native")
    assert "fs.aio-max-nr" in because and f"sysctl fs.aio-max-nr={int(MAX_NR.read_text()) * 2}" in because
    for guest, answer in zip(two_guests, answers):
        assert domain_disks(guest)["vdb"].find("driver").get("io") == answer["mode"]
    native = two_guests[modes.index("native")]
    told = commands.host(native)
    assert told["contexts_left"] == 0 and told["reserved"] == []

    # What plain QEMU does then: the guest that fell back has no context, and another native disk fails.
    fell_back = two_guests[answers.index(fallback)]
    document = commands.folder / "native.xml"
    document.write_text(f"<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>"
                        f"<source dev='{paths[2]}'/><target dev='vdc' bus='virtio'/></disk>")
    with pytest.raises(GuestError, match="Resource temporarily unavailable"):
        fell_back.virsh("attach-device", fell_back.name, str(document), "--live")

    # A guest that has one needs no other for its next disk.
    held = [each for each in told["domains"] if each["name"] == native.name]
    assert [(each["contexts"], each["events"]) for each in held] == [(1, EVENTS)]
    second = commands.attach(native, paths[3], "vdc")
    assert commands.answer(second)["aio"]["mode"] == "native"
