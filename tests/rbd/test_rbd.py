# SPDX-License-Identifier: Apache-2.0
"""RBD volumes by the aiolos command: a guest's disk on a real cluster, and what goes wrong told before the guest feels it."""

import contextlib
import os
import pathlib
import signal
import threading
import time
import uuid

import pytest
from ceph import MIB, USER, CephCluster
from guest import Guest, GuestError
from harness import BAD_INPUT, FAILED, REFUSED, TRY_AGAIN, aiolos_binary, domain_disks, write_and_verify, write_pattern
from libvirt_daemon import LibvirtDaemon
from rbd_aiolos import RbdAiolos, Volume, held, kill_while, reconcile

QUICK = 10  # seconds within which every failure has to be told
BEAT = 3    # seconds in which a guest that is not frozen answers, on a busy machine too


@pytest.fixture
def volume(ceph, secret, rbd_image) -> Volume:
    return Volume(ceph.connection_info(rbd_image, USER, secret))


def changed(volume: Volume, **data: object) -> Volume:
    return Volume({**volume.connection_info, "data": {**volume.connection_info["data"], **data}})


@contextlib.contextmanager
def heart_beats(guest):
    """Fails if the guest stops answering meanwhile. It is the only one to talk to the guest's shell then."""
    done, gaps, failures = threading.Event(), [], []

    def beat() -> None:
        try:
            while not done.is_set():
                begun = time.monotonic()
                guest.check("true")
                gaps.append(time.monotonic() - begun)
                done.wait(0.1)
        except GuestError as error:
            failures.append(error)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
    assert not failures
    assert max(gaps) < BEAT


def refused(aiolos, guest, volume: Volume, expect: int) -> dict:
    """The error of an attach that must fail quickly, leave nothing, and not be felt by the guest."""
    before = guest.domain_xml()
    with heart_beats(guest):
        begun = time.monotonic()
        error = aiolos.attach(volume, "--json", expect=expect).error()
        assert time.monotonic() - begun < QUICK
    assert guest.domain_xml() == before
    assert held(aiolos) == []
    assert aiolos.confs() == []
    return error


# --- what works -----------------------------------------------------------------------------------------------------


def test_guest_works_on_the_image_and_detaching_leaves_nothing(aiolos, ceph, guest, volume, rbd_image):
    shown = aiolos.attach(volume, "--json").json()
    assert shown["aio"]["mode"] is None
    source = domain_disks(guest)["vdb"].find("source")
    conf = pathlib.Path(source.find("config").get("file"))
    assert conf.parent == aiolos.conf_dir
    assert "[client.cinder]\nclient_mount_timeout = 5\nrados_mon_op_timeout = 5\n" in conf.read_text()
    assert "osd" not in conf.read_text()  # an OSD that stalls must not become an I/O error of the guest
    device = guest.wait_disk(volume.serial)
    write_and_verify(guest, device)
    write_pattern(guest, device)
    assert ceph.content(rbd_image, 0, MIB) == b"Z" * MIB
    assert aiolos.attach(volume, "--json").json()["xml"] == shown["xml"]  # again is the same
    aiolos.detach()
    guest.wait_no_disk(volume.serial)
    assert held(aiolos) == []
    assert aiolos.confs() == []
    aiolos.detach()


def test_disk_xml_has_no_file_of_ours_and_asks_nobody(aiolos, ceph, volume):
    ceph.stop_monitor()
    shown = aiolos.run("disk-xml", *aiolos.request(volume.connection_info)).out
    assert "<config" not in shown and "protocol='rbd'" in shown
    assert aiolos.confs() == []


def test_volumes_share_a_file_until_the_last_one_goes(aiolos, ceph, guest, secret, volume):
    other = Volume(ceph.connection_info(ceph.create_image(f"other-{uuid.uuid4()}", MIB), USER, secret))
    aiolos.attach(volume)
    aiolos.attach(other, dev="vdc")
    assert len(aiolos.confs()) == 1
    aiolos.detach()
    assert len(aiolos.confs()) == 1
    aiolos.detach(dev="vdc")
    assert aiolos.confs() == []


def test_dead_monitors_beside_a_living_one_do_no_harm(aiolos, ceph, guest, volume):
    hosts = [ceph.refusing, ceph.black_hole, *ceph.monitors]
    among_dead = changed(volume, hosts=hosts, ports=["6789"] * len(hosts))
    with heart_beats(guest):
        aiolos.attach(among_dead)
    write_pattern(guest, guest.wait_disk(volume.serial))


def test_osd_that_stands_still_holds_the_guests_io_and_gives_no_error(aiolos, ceph, guest, volume):
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    ceph.freeze_osd()
    thaw = threading.Timer(8, ceph.thaw_osd)  # longer than the client waits for a monitor
    thaw.start()
    begun = time.monotonic()
    guest.check(f"dd if=/dev/zero of={device} bs=4k count=1 oflag=direct 2>&1")
    assert time.monotonic() - begun > 5
    thaw.join()


def test_monitors_come_from_the_operators_own_ceph_conf(aiolos, ceph, guest, volume):
    own = aiolos.folder / "ceph.conf"
    own.write_text(f"[global]\nmon_host = {ceph.monitors[0]}\n[client.cinder]\nclient_mount_timeout = 299")
    own.chmod(0o640)
    aiolos.configure(f'ceph_conf: "{own}"')
    aiolos.attach(changed(volume, hosts=[], ports=[]))
    source = domain_disks(guest)["vdb"].find("source")
    assert source.findall("host") == []
    conf = pathlib.Path(source.find("config").get("file"))
    assert conf.read_text().startswith(own.read_text()) and "client_mount_timeout = 5" in conf.read_text()
    assert conf.stat().st_mode & 0o777 == 0o640  # it may hold a key
    write_pattern(guest, guest.wait_disk(volume.serial))


def test_configuration_can_leave_the_disk_as_nova_writes_it(aiolos, guest, volume):
    aiolos.configure("connect_timeout: 0")
    aiolos.attach(volume)
    assert domain_disks(guest)["vdb"].find("source/config") is None
    assert aiolos.confs() == []
    guest.wait_disk(volume.serial)


def test_cluster_without_authentication(folder):
    with (CephCluster(authentication="none") as ceph, LibvirtDaemon(network=ceph.network) as libvirt,
          Guest(libvirt=libvirt) as guest):
        aiolos = RbdAiolos(aiolos_binary(), guest, folder, within=ceph.network)
        volume = Volume(ceph.connection_info(ceph.create_image("volume", 4 * MIB)))
        aiolos.attach(volume)
        assert domain_disks(guest)["vdb"].find("auth") is None
        write_pattern(guest, guest.wait_disk(volume.serial))
        assert ceph.content("volumes/volume", 0, MIB) == b"Z" * MIB
        aiolos.detach()
        assert aiolos.confs() == []


# --- what does not, told before the guest is touched ------------------------------------------------------------------


def test_secret_that_libvirt_does_not_have(aiolos, guest, volume):
    missing = str(uuid.uuid4())
    error = refused(aiolos, guest, changed(volume, secret_uuid=missing), BAD_INPUT)
    assert error["kind"] == "configuration"
    assert "no secret with matching uuid" in error["message"] and missing in error["message"]
    assert "secret-define" in error["next"]


def test_secret_without_a_value(aiolos, guest, libvirt, volume):
    empty = libvirt.define_secret("ceph", f"empty {uuid.uuid4()}", None)
    error = refused(aiolos, guest, changed(volume, secret_uuid=empty), BAD_INPUT)
    assert error["kind"] == "configuration"
    assert "does not have a value" in error["message"] and "secret-set-value" in error["next"]


def test_secret_of_somebody_else(aiolos, ceph, guest, libvirt, volume):
    wrong = libvirt.define_secret("ceph", f"wrong {uuid.uuid4()}", ceph.user("somebody-else"))
    error = refused(aiolos, guest, changed(volume, secret_uuid=wrong), BAD_INPUT)
    assert error["kind"] == "configuration"
    assert error["message"] == f"Ceph refuses client.cinder with the key of the libvirt secret {wrong}"
    assert "ceph auth get-key client.cinder" in error["next"]


def test_secret_that_is_no_cephx_key(aiolos, guest, libvirt, volume):
    odd = libvirt.define_secret("ceph", f"odd {uuid.uuid4()}", "cGFzc3dvcmQ=")
    error = refused(aiolos, guest, changed(volume, secret_uuid=odd), BAD_INPUT)
    assert error["kind"] == "configuration"
    assert error["message"] == f"the libvirt secret {odd} holds no cephx key for client.cinder"


def test_user_without_rights_in_the_pool(aiolos, ceph, guest, libvirt, volume):
    key = ceph.ceph("auth", "get-or-create-key", "client.poor", "mon", "profile rbd", "osd", "profile rbd pool=other")
    poor = libvirt.define_secret("ceph", f"poor {uuid.uuid4()}", key.decode().strip())
    error = refused(aiolos, guest, changed(volume, auth_username="poor", secret_uuid=poor), BAD_INPUT)
    assert error["kind"] == "configuration"
    assert "client.poor may not use the image volumes/" in error["message"] and "ceph auth caps" in error["next"]


@pytest.mark.parametrize(("change", "status", "kind", "message", "where"), [
    ({"auth_username": "nobody"}, BAD_INPUT, "configuration", "Ceph refuses client.nobody", None),
    ({"auth_enabled": False}, BAD_INPUT, "bad_input", "wants authentication", "/data/auth_enabled"),
    ({"name": "none/volume"}, FAILED, "storage", "Ceph has no pool 'none'", "/data/name"),
    ({"name": "volumes/none"}, FAILED, "storage", "pool 'volumes' has no image 'none'", "/data/name"),
    ({"name": "volume"}, BAD_INPUT, "bad_input", "'volume' does not name an RBD image", "/data/name"),
    ({"hosts": ["127.0.0.1", "no-such-host.invalid"], "ports": ["6789", "6789"]}, BAD_INPUT, "configuration",
     "'no-such-host.invalid' cannot be resolved", "/data/hosts"),
    ({"hosts": [], "ports": []}, BAD_INPUT, "bad_input", "no Ceph monitor is named", "/data/hosts"),
    ({"hosts": ["127.0.1.1"], "ports": ["6789"]}, TRY_AGAIN, "retry", "no Ceph monitor has answered within 5 s", None),
    ({"hosts": ["127.0.1.2"], "ports": ["6789"]}, TRY_AGAIN, "retry", "no Ceph monitor has answered within 5 s", None),
], ids=["user", "no-credentials", "pool", "image", "name", "unresolved", "no-monitors", "refused", "black-hole"])
def test_wrong_volume(aiolos, guest, volume, change, status, kind, message, where):
    error = refused(aiolos, guest, changed(volume, **change), status)
    assert (error["kind"], error.get("where")) == (kind, where)
    assert message in error["message"] and error["next"]


@pytest.mark.parametrize(("fail", "message"), [
    (CephCluster.stop_monitor, "no Ceph monitor has answered within 5 s: 127.0.0.1:6789"),
    (CephCluster.freeze_monitor, "no Ceph monitor has answered within 5 s: 127.0.0.1:6789"),
    (CephCluster.freeze_osd, "Ceph's monitors answer, but its OSDs have not within 5 s"),
], ids=["monitor-stopped", "monitor-frozen", "osd-frozen"])
def test_cluster_that_does_not_answer(aiolos, ceph, guest, volume, fail, message):
    fail(ceph)
    error = refused(aiolos, guest, volume, TRY_AGAIN)
    assert error["kind"] == "retry" and message in error["message"]
    ceph.restore()
    aiolos.attach(volume)
    guest.wait_disk(volume.serial)


@pytest.mark.parametrize(("setting", "message"), [
    ("client: fuse", "'fuse' is no RBD client"),
    ("connect_timeout: 301", "301 s is longer than librados itself waits"),
    ("ceph_conf: ceph.conf", "'ceph.conf' is no absolute path"),
    ("ceph_conf: /nonexistent/ceph.conf", "/nonexistent/ceph.conf cannot be read: No such file or directory"),
])
def test_wrong_setting(aiolos, guest, volume, setting, message):
    aiolos.configure(setting)
    error = aiolos.attach(volume, "--json", expect=BAD_INPUT).error()
    assert error["kind"] == "configuration" and message in error["message"]
    assert held(aiolos) == []
    assert domain_disks(guest) == {}


def test_key_is_nowhere_to_be_seen(aiolos, guest, key, volume):
    seen, done = set(), threading.Event()

    def look_at_command_lines() -> None:
        while not done.is_set():
            for command_line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(command_line.read_bytes())

    looking = threading.Thread(target=look_at_command_lines)
    looking.start()
    shown = aiolos.attach(volume, "--json")
    wrong = aiolos.attach(changed(volume, name="volumes/none"), "--json", dev="vdc", expect=FAILED)
    done.set()
    looking.join()
    assert any(b"qemu-img" in each for each in seen), "nothing was seen at all"
    assert not [each for each in seen if key.encode() in each]
    kept = [path.read_bytes() for path in aiolos.folder.rglob("*") if path.is_file()]
    assert not [each for each in [shown.out.encode(), shown.err.encode(), wrong.out.encode(), *kept] if key.encode() in each]


# --- growing --------------------------------------------------------------------------------------------------------


def test_image_grows_under_the_guest(aiolos, ceph, guest, volume, rbd_image):
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    aiolos.extend(96 * MIB)
    guest.wait_size(device, 96 * MIB)
    assert ceph.size(rbd_image) == 96 * MIB
    guest.check(f"printf new-end | dd of={device} bs=1 seek={96 * MIB - 7} conv=fsync 2>&1")
    ceph.rbd("resize", "--size", "128M", rbd_image)  # as Cinder does it, before it tells the host
    aiolos.extend(128 * MIB)
    guest.wait_size(device, 128 * MIB)


def test_image_is_never_shrunk(aiolos, ceph, guest, volume, rbd_image):
    aiolos.attach(volume)
    device = guest.wait_disk(volume.serial)
    error = aiolos.extend(32 * MIB, "--json", expect=REFUSED).error()
    assert f"{rbd_image} has {64 * MIB} bytes" in error["message"]
    assert ceph.size(rbd_image) == 64 * MIB
    assert guest.size(device) == 64 * MIB


# --- attaching that was killed ----------------------------------------------------------------------------------------


def test_killed_while_it_asks_the_cluster(aiolos, ceph, guest, volume):
    ceph.freeze_monitor()
    attach = ["attach", "--domain", guest.name, *aiolos.request(volume.connection_info)]
    kill_while(aiolos, attach, lambda: len(held(aiolos)) == 1)
    reconcile(aiolos)
    assert held(aiolos) == []
    assert domain_disks(guest) == {}


@pytest.mark.parametrize("qemu_goes_on", ["before", "meanwhile"])
def test_killed_while_the_guest_opens_the_image(aiolos, ceph, guest, volume, qemu_goes_on):
    """libvirt's daemon goes on with the attach once QEMU does: before somebody reconciles, or while they do."""
    attach = ["attach", "--domain", guest.name, *aiolos.request(volume.connection_info)]
    pid = guest.qemu_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        # A moment later the daemon has the request, and waits for QEMU.
        kill_while(aiolos, attach, lambda: len(aiolos.confs()) == 1 and time.sleep(1) is None)
        if qemu_goes_on == "meanwhile":
            threading.Timer(2, os.kill, (pid, signal.SIGCONT)).start()
            reconcile(aiolos)
    finally:
        os.kill(pid, signal.SIGCONT)
    reconcile(aiolos)
    attached = "vdb" in domain_disks(guest)
    assert len(aiolos.confs()) == len(held(aiolos)) == int(attached)
    aiolos.attach(volume)
    write_pattern(guest, guest.wait_disk(volume.serial))
    aiolos.detach()
    assert held(aiolos) == [] and aiolos.confs() == []
