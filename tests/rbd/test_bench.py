# SPDX-License-Identifier: Apache-2.0
"""What the RBD tests stand on: a cluster that authenticates, fails when told to, and a libvirtd whose guests reach it."""

import contextlib
import json
import pathlib
import subprocess
import threading
import time
import uuid

import pytest
from ceph import MIB, USER, V1_PORT, CephCluster
from guest import GuestError

PATIENCE = 2  # seconds that the configuration for QEMU gives each wait


def attach(guest, info: dict, conf: pathlib.Path | None = None) -> str:
    """Attach what the connection_info names as vdb, with XML written by hand; its serial number."""
    data = info["data"]
    hosts = "".join(f"<host name='{host}' port='{port}'/>" for host, port in zip(data["hosts"], data["ports"], strict=True))
    xml = f"""<disk type='network' device='disk'>
  <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
  <auth username='{data["auth_username"]}'><secret type='{data["secret_type"]}' uuid='{data["secret_uuid"]}'/></auth>
  <source protocol='rbd' name='{data["name"]}'>{hosts}{f"<config file='{conf}'/>" if conf else ""}</source>
  <target dev='vdb' bus='virtio'/>
  <serial>{info["serial"]}</serial>
</disk>"""
    (guest.root / "disk.xml").write_text(xml)
    guest.virsh("attach-device", guest.name, str(guest.root / "disk.xml"), "--live")
    return info["serial"]


def qemu_img_info(ceph, rbd_image: str, key: str, *, hosts=None, conf=None, user=USER) -> subprocess.CompletedProcess:
    """Ask QEMU's own client about an image; the key goes in by standard input."""
    pool, name = rbd_image.split("/")
    options = [f"driver=rbd,pool={pool},image={name},user={user},key-secret=key"]
    options += [f"server.{n}.host={host},server.{n}.port={V1_PORT}" for n, host in enumerate(hosts or ceph.monitors)]
    options += [f"conf={conf}"] if conf else []
    return ceph.network.run("qemu-img", "info", "--output=json", "--object", "secret,id=key,format=base64,file=/dev/stdin",
                            "--image-opts", ",".join(options), stdin=key, check=False)


def test_what_a_guest_writes_is_in_the_image(ceph, guest, secret, rbd_image):
    serial = attach(guest, ceph.connection_info(rbd_image, USER, secret))
    device = guest.wait_disk(serial)
    assert guest.size(device) == 64 * MIB
    guest.check(f"fio --name=verify --filename={device} --rw=randwrite --bs=64k --size=16M --iodepth=16 --ioengine=libaio "
                "--direct=1 --verify=crc32c --do_verify=1 --verify_fatal=1", timeout=180)
    guest.check(f"tr '\\0' Z </dev/zero | dd of={device} bs=64k count=16 seek=512 iflag=fullblock conv=fsync 2>&1")
    assert ceph.content(rbd_image, 32 * MIB, MIB) == b"Z" * MIB
    assert ceph.content(rbd_image, 33 * MIB, MIB) == bytes(MIB)


def test_guest_reads_what_is_in_the_image(ceph, guest, secret, rbd_image):
    ceph.write(rbd_image, 5 * MIB, b"from outside")
    device = guest.wait_disk(attach(guest, ceph.connection_info(rbd_image, USER, secret)))
    assert guest.check(f"dd if={device} bs=1M skip=5 count=1 2>/dev/null | head -c 12") == "from outside"


def test_libvirt_passes_on_the_key_that_its_secret_has(ceph, libvirt, guest, rbd_image):
    wrong = libvirt.define_secret("ceph", "wrong", ceph.user("somebody-else"))
    with pytest.raises(GuestError, match="error connecting: Permission denied"):
        attach(guest, ceph.connection_info(rbd_image, USER, wrong))
    libvirt.set_secret(wrong, ceph.user(USER))
    attach(guest, ceph.connection_info(rbd_image, USER, wrong))


def test_secret_that_libvirt_does_not_have(ceph, libvirt, guest, rbd_image):
    with pytest.raises(GuestError, match="Secret not found: no secret with matching uuid"):
        attach(guest, ceph.connection_info(rbd_image, USER, str(uuid.uuid4())))
    empty = libvirt.define_secret("ceph", "empty", None)
    with pytest.raises(GuestError, match="does not have a value"):
        attach(guest, ceph.connection_info(rbd_image, USER, empty))


@pytest.mark.parametrize(("change", "complaint"), [
    ({"key": "QVFEeHh4eHgAAAAAEAAxMjM0NTY3ODkwMTIzNDU2"}, "error connecting: "),
    ({"user": "nobody"}, "error connecting: Permission denied"),
    ({"rbd_image": "none/volume"}, "error opening pool none: No such file or directory"),
    ({"rbd_image": "volumes/none"}, "error reading header from none: No such file or directory"),
])
def test_what_is_wrong_is_told_at_once(ceph, key, rbd_image, change, complaint):
    begun = time.monotonic()
    done = qemu_img_info(ceph, **{"rbd_image": rbd_image, "key": key, **change})
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
    assert time.monotonic() - begun < 5


def test_stopped_monitor_is_found_again_when_it_is_back(ceph, key, rbd_image):
    conf = ceph.client_conf(PATIENCE)
    ceph.stop_monitor()
    done = qemu_img_info(ceph, rbd_image, key, conf=conf)
    assert done.returncode == 1 and "error connecting: Connection timed out" in done.stderr
    ceph.start_monitor()
    assert json.loads(qemu_img_info(ceph, rbd_image, key, conf=conf).stdout)["virtual-size"] == 64 * MIB


@pytest.mark.parametrize("dead", [CephCluster.refusing, CephCluster.black_hole])
def test_one_dead_address_does_no_harm_and_only_dead_ones_time_out(ceph, key, rbd_image, dead):
    conf = ceph.client_conf(PATIENCE)
    alive = qemu_img_info(ceph, rbd_image, key, conf=conf, hosts=[dead, *ceph.monitors])
    assert alive.returncode == 0, alive.stderr
    done = qemu_img_info(ceph, rbd_image, key, conf=conf, hosts=[dead])
    assert done.returncode == 1 and "error connecting: Connection timed out" in done.stderr


def test_addresses_are_dead_in_two_ways(ceph):
    def connect(address: str) -> str:
        script = f"import socket; socket.create_connection(({address!r}, {V1_PORT}), timeout=2)"
        return ceph.network.run("/usr/bin/python3", "-c", script, check=False).stderr

    assert "ConnectionRefusedError" in connect(ceph.refusing)
    assert "TimeoutError: timed out" in connect(ceph.black_hole)


def test_guest_is_frozen_no_longer_than_its_configuration_says(ceph, guest, secret, rbd_image):
    info = ceph.connection_info(rbd_image, USER, secret, hosts=[ceph.black_hole])
    failures = []

    def try_to_attach() -> None:
        try:
            attach(guest, info, ceph.client_conf(PATIENCE))
        except GuestError as error:
            failures.append(str(error))

    attaching = threading.Thread(target=try_to_attach)
    attaching.start()
    time.sleep(0.5)
    begun = time.monotonic()
    guest.check("true")
    frozen = time.monotonic() - begun
    attaching.join()
    assert "error connecting: Connection timed out" in failures[0]
    assert frozen < PATIENCE + 5


def test_guest_goes_on_without_a_monitor(ceph, guest, secret, rbd_image):
    device = guest.wait_disk(attach(guest, ceph.connection_info(rbd_image, USER, secret)))
    guest.check(f"dd if={device} of=/dev/null bs=64k count=16 iflag=direct 2>&1")
    ceph.stop_monitor()
    guest.check(f"dd if=/dev/zero of={device} bs=64k count=16 oflag=direct 2>&1")


def test_osd_that_stands_still_holds_io_until_it_goes_on(ceph, guest, secret, rbd_image):
    device = guest.wait_disk(attach(guest, ceph.connection_info(rbd_image, USER, secret)))
    ceph.freeze_osd()
    assert guest.run(f"dd if={device} of=/dev/null bs=4k count=1 iflag=direct 2>&1", timeout=2).status != 0
    ceph.thaw_osd()
    guest.check(f"dd if={device} of=/dev/null bs=4k count=1 iflag=direct 2>&1")


def test_two_of_three_monitors_are_enough_and_nothing_of_a_cluster_stays():
    with CephCluster(monitors=3) as ceph:
        image = ceph.create_image("volume", 4 * MIB)
        key = ceph.user(USER)
        ceph.stop_monitor(0)
        assert qemu_img_info(ceph, image, key, conf=ceph.client_conf(20)).returncode == 0
        assert processes_with(ceph.folder)
    assert not ceph.folder.exists()
    assert not processes_with(ceph.folder)
    assert str(ceph.folder) not in pathlib.Path("/proc/self/mounts").read_text()


def processes_with(folder: pathlib.Path) -> list[str]:
    """The command lines of processes with this path in them."""
    found = []
    for command_line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(command_line.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [each for each in found if str(folder) in each]
