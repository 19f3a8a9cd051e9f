# SPDX-License-Identifier: Apache-2.0
"""What goes wrong says so once and clearly, has the documented exit status, and leaves nothing half attached."""

import json
import socket
import subprocess
import time

import pytest
from harness import BAD_INPUT, FAILED, REFUSED, TRY_AGAIN, domain_disks


@pytest.fixture
def nothing_attached(guest):
    yield
    assert domain_disks(guest) == {}, "the failed command left a disk in the domain"


# --- input, without a guest -------------------------------------------------------------------------------------------


def explain(aiolos, connection_info: object, *more: str, expect: int | None = BAD_INPUT):
    return aiolos.run("explain", *aiolos.request(connection_info), *more, expect=expect)


def file_volume(path: str = "/nonexistent/volume.raw", **data: object) -> dict:
    return {"driver_volume_type": "file", "serial": "s", "data": {"path": path, "format": "raw", **data}}


def test_json_error_names_the_position(aiolos_alone):
    shown = explain(aiolos_alone, '{"driver_volume_type": "file",\n "data": {"path": }}')
    assert "line 2" in shown.err or ":2:" in shown.err, shown
    assert "connection.json" in shown.err, shown


def test_missing_key_is_named_by_its_pointer(aiolos_alone):
    info = file_volume()
    del info["data"]["path"]
    assert "/data/path" in explain(aiolos_alone, info).err
    del info["data"]
    found = explain(aiolos_alone, info, "--json").error()
    assert (found["where"], found["next"]) == ("/data/path", "add /data/path")


def test_mistyped_key_is_named_by_its_pointer(aiolos_alone):
    assert "/data/path" in explain(aiolos_alone, file_volume(path=7)).err


def test_unknown_driver_gets_the_nearest_one_named(aiolos_alone):
    shown = explain(aiolos_alone, {**file_volume(), "driver_volume_type": "fiel"})
    assert "fiel" in shown.err and "file" in shown.err.replace("fiel", ""), shown


def test_invalid_access_mode(aiolos_alone):
    shown = explain(aiolos_alone, file_volume(access_mode="rx"))
    assert "access_mode" in shown.err and "rx" in shown.err, shown


def test_unknown_configuration_key_is_named_with_its_line_and_the_nearest_one(aiolos_alone):
    aiolos_alone.configure("imagse: {preallocate: none}\n")
    shown = explain(aiolos_alone, file_volume())
    line = aiolos_alone.config.read_text().splitlines().index("imagse: {preallocate: none}") + 1
    assert "imagse" in shown.err and "images" in shown.err and str(line) in shown.err, shown


def test_missing_input_file_is_named(aiolos_alone):
    shown = aiolos_alone.run("explain", "--config", str(aiolos_alone.config), "--connection", "/nonexistent/c.json",
                             "--disk", "/nonexistent/d.json", expect=BAD_INPUT)
    assert "/nonexistent/c.json" in shown.err, shown


@pytest.mark.parametrize("arguments", [["no-such-command"], ["attach"], ["attach", "--no-such-option"],
                                       ["detach", "--domain", "d"], []])
def test_wrong_usage(aiolos_alone, arguments):
    shown = aiolos_alone.run(*arguments, expect=BAD_INPUT)
    assert shown.err and not shown.out
    as_json = aiolos_alone.run(*arguments, "--json", expect=BAD_INPUT)
    assert as_json.error()["kind"] == "bad_input"
    assert as_json.err


@pytest.mark.parametrize("arguments", [["explain", "--connection", "/tmp", "--disk", "/tmp"],
                                       ["xml", "reformat", "/tmp"], ["drivers", "--config", "/tmp"],
                                       ["xml", "reformat", "--config", "/tmp", "-"]])
def test_directory_as_a_file(aiolos_alone, arguments):
    shown = aiolos_alone.run(*arguments, expect=BAD_INPUT)
    assert "cannot read" in shown.err and "/tmp: Is a directory" in shown.err


@pytest.mark.parametrize("name", ["drivers", "host", "disk-xml", "xml", "explain"])
def test_configuration_that_is_not_there(aiolos_alone, name):
    more = {"xml": ["reformat", "/nonexistent.xml"], "disk-xml": ["--batch"],
            "explain": aiolos_alone.request(file_volume())[2:]}.get(name, [])
    shown = aiolos_alone.run(name, *more, "--config", "/nonexistent.yaml", "--json", expect=BAD_INPUT)
    assert shown.error()["kind"] == "configuration"
    assert "/nonexistent.yaml" in shown.error()["message"]


def test_configuration_whose_alias_holds_itself(aiolos_alone):
    aiolos_alone.configure("a: &x [*x]\n")
    shown = aiolos_alone.run("drivers", "--config", str(aiolos_alone.config), expect=BAD_INPUT)
    assert f"{aiolos_alone.config}:3:4" in shown.err, shown


@pytest.mark.parametrize("arguments", [["drivers"], ["drivers", "--json"], ["--help"], ["--version"]])
def test_standard_output_that_is_full(aiolos_alone, arguments):
    more = ["--config", str(aiolos_alone.config)] if arguments[0] == "drivers" else []
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([str(aiolos_alone.binary), *arguments, *more], stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == FAILED, done
    assert "standard output" in done.stderr


def test_folder_of_plugins_that_cannot_be_used_costs_no_other_driver(aiolos_alone):
    plugins = aiolos_alone.binary.parent.parent / "lib/aiolos/plugins"
    aiolos_alone.configure(f"plugins: {{path: [/nonexistent/plugins, {plugins}]}}\n")
    listed = aiolos_alone.run("drivers", "--config", str(aiolos_alone.config), "--json").json()["drivers"]
    assert {"local", "nfs"} <= {driver.get("name") for driver in listed}
    rejected, = [driver for driver in listed if "rejected" in driver]
    assert rejected["file"] == "/nonexistent/plugins"
    assert "/nonexistent/volume.raw" in aiolos_alone.run("disk-xml", *aiolos_alone.request(file_volume())).out


def test_error_as_json(aiolos_alone):
    found = explain(aiolos_alone, {**file_volume(), "driver_volume_type": "fiel"}, "--json").error()
    assert "fiel" in found["message"]
    assert found["next"]


def test_volume_that_does_not_exist(aiolos_alone):
    shown = explain(aiolos_alone, file_volume(), expect=FAILED)
    assert "/nonexistent/volume.raw" in shown.err, shown


# --- the hypervisor ---------------------------------------------------------------------------------------------------


def test_unknown_domain(aiolos, volumes, nothing_attached):
    volume = volumes.raw_written()
    shown = aiolos.run("attach", "--domain", "no-such-domain", *aiolos.request(volume.connection_info),
                       expect=BAD_INPUT)
    assert "no-such-domain" in shown.err, shown


def test_detach_of_what_is_not_attached(aiolos):
    shown = aiolos.detach(expect=BAD_INPUT)
    assert "vdb" in shown.err, shown


def test_target_in_use_is_refused_and_the_first_disk_stays(aiolos, guest, volumes):
    first, second = volumes.raw_written(), volumes.raw_sparse()
    aiolos.attach(first)
    shown = aiolos.attach(second, expect=REFUSED)
    assert "vdb" in shown.err, shown
    assert domain_disks(guest)["vdb"].find("serial").text == first.serial
    aiolos.detach()
    guest.wait_no_disk(first.serial)
    aiolos.attach(second)
    guest.wait_disk(second.serial)


def test_libvirt_refusal_is_shown_and_nothing_stays(aiolos, guest, volumes, nothing_attached):
    """libvirt cannot hot plug an IDE disk."""
    volume = volumes.raw_written()
    shown = aiolos.attach(volume, dev="hda", bus="ide", expect=FAILED)
    assert "ide" in shown.err.lower(), shown
    # Nothing of it stands in the way of a proper one.
    aiolos.attach(volume)
    guest.wait_disk(volume.serial)
    aiolos.detach()


def test_qemu_refusal_leaves_nothing(aiolos, guest, volumes, nothing_attached):
    """A raw file named as qcow2: QEMU, at the latest, cannot open it."""
    volume = volumes.raw_written()
    volume.connection_info["data"]["format"] = "qcow2"
    shown = aiolos.attach(volume, expect=BAD_INPUT)
    assert "qcow2" in shown.err, shown
    volume.connection_info["data"]["format"] = "raw"
    aiolos.attach(volume)
    guest.wait_disk(volume.serial)
    aiolos.detach()


def test_disk_that_aiolos_did_not_attach_stays_without_force(aiolos, guest, volumes):
    volume = volumes.raw_written()
    definition = aiolos.write("disk.xml", f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='"
                                          f"{volume.path}'/><target dev='vdb' bus='virtio'/></disk>")
    guest.virsh("attach-device", guest.name, definition, "--live")
    shown = aiolos.detach(expect=REFUSED)
    assert "vdb" in domain_disks(guest)
    aiolos.detach("--force")
    assert "vdb" not in domain_disks(guest)


def test_disk_in_use_by_the_guest_goes_all_the_same(aiolos, guest, volumes):
    """virtio has no way to say no: the guest's open file gets errors and the detach completes."""
    volume = volumes.raw_written()
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    guest.check(f"(dd if=/dev/zero of={device} bs=64k oflag=direct >/dev/null 2>&1; true) >/dev/null 2>&1 & sleep 0.2")
    aiolos.detach()
    guest.wait_no_disk(volume.serial)


class RootHolder:
    """Another process that is the driver of the guest's embedded root."""

    def __init__(self, uri: str, seconds: float):
        self.process = subprocess.Popen(["virsh", "-c", uri, "event", "--all", "--loop", "--timeout", str(int(seconds))],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        assert self.process.poll() is None, "virsh does not hold the root"

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def unplug_behind_libvirts_back(guest, device: str) -> None:
    """Have QEMU unplug a device while nobody is the driver of the root: what a guest does that answers late."""
    path, = guest.root.glob("lib/qemu/domain-*/monitor.sock")
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(str(path))
        with monitor.makefile("rw") as lines:
            for request in ({"execute": "qmp_capabilities"}, {"execute": "device_del", "arguments": {"id": device}}):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
            while "DEVICE_DELETED" not in (line := lines.readline()):
                assert line and "error" not in json.loads(line), line


def test_disk_that_went_while_nobody_was_connected_is_attached_anew(aiolos, guest, volumes):
    volume = volumes.raw_written()
    aiolos.attach(volume, dev="sda", bus="scsi")
    guest.wait_disk(volume.serial)
    unplug_behind_libvirts_back(guest, "scsi0-0-0-0")
    guest.wait_no_disk(volume.serial)
    shown = aiolos.attach(volume, dev="sda", bus="scsi")
    assert "attached already" not in shown.out, shown
    guest.wait_disk(volume.serial)
    aiolos.detach(dev="sda")


def test_attach_waits_for_another_process_to_leave_the_root(aiolos, guest, volumes):
    volume = volumes.raw_written()
    holder = RootHolder(guest.uri, 2)
    try:
        aiolos.attach(volume)
    finally:
        holder.end()
    guest.wait_disk(volume.serial)


def test_root_that_stays_taken_is_tried_again_later(aiolos, guest, volumes, nothing_attached):
    volume = volumes.raw_written()
    holder = RootHolder(guest.uri, 120)
    try:
        shown = aiolos.attach(volume, "--json", expect=TRY_AGAIN, timeout=110)
        assert shown.error()["kind"] == "retry"
    finally:
        holder.end()


def test_full_life_after_failures(aiolos, guest, volumes):
    """The journal holds nothing of a failed attach that would stop the next one."""
    volume = volumes.raw_written()
    for _ in range(2):
        aiolos.attach(volume, dev="hda", bus="ide", expect=FAILED)
    aiolos.attach(volume)
    guest.wait_disk(volume.serial)
    aiolos.detach()
    assert domain_disks(guest) == {}
