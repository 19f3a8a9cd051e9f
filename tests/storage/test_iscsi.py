# SPDX-License-Identifier: Apache-2.0
"""iSCSI volumes on one and on two portals, attached to a guest by the aiolos command."""

import contextlib
import pathlib
import shutil
import subprocess
import threading
import time
import types

import pytest
from exported import LOAD, Exported, scsi_disks, source_of, unchanged_host, verify_io
from harness import BAD_INPUT, FAILED, MIB, REFUSED, TRY_AGAIN, write_pattern
from host_state import host_state, wait_for_host_state
from shares import StandIn
from targets import IscsiTarget, Multipath
from targets import Volume as StorageVolume
from tools import SYS, read, run, size_of, wait_for

MULTIPATH = "iscsi: {use_multipath: true}\n"


class Lun(Exported):
    def __init__(self, target: IscsiTarget, volume: StorageVolume, *, multipath: bool = False):
        self.target = target
        self.number = target.map(volume)
        super().__init__(volume, target.connection_info(self.number, multipath=multipath))


@pytest.fixture
def lun(iscsi, volume):
    return Lun(iscsi, volume)


@pytest.fixture
def leaves_nothing(lun, aiolos):
    """After the test, and before the fixtures clean up, the host is as it was before, the journal is empty, and no
    password was written anywhere."""
    with unchanged_host(aiolos):
        yield
    searched = ["/etc/iscsi", str(aiolos.folder / "state")]
    found = run("grep", "-rl", "-e", "volume-secret", *searched, check=False).stdout
    assert found == "", "a password was left"


@pytest.fixture
def multipath_lun(iscsi, volume, multipath, aiolos):
    aiolos.configure(MULTIPATH)
    return Lun(iscsi, volume, multipath=True)


@pytest.fixture
def multipath_leaves_nothing(multipath_lun, aiolos):
    with unchanged_host(aiolos):
        yield


def sessions() -> list[str]:
    return host_state()["iSCSI sessions"]


@pytest.fixture
def at_most(aiolos):
    """A bound for what a command may wait, besides what it takes on this machine to be refused for bad input."""
    begun = time.monotonic()
    nothing = {"driver_volume_type": "iscsi", "serial": "nothing", "data": {"target_portal": "no portal"}}
    aiolos.attach(types.SimpleNamespace(connection_info=nothing), expect=BAD_INPUT)
    pace = time.monotonic() - begun

    @contextlib.contextmanager
    def bound(seconds: float):
        started = time.monotonic()
        yield
        took = time.monotonic() - started
        assert took < seconds + 2 * pace, f"that took {took:.1f} s, where nothing but a refusal takes {pace:.1f} s"
    return bound


# --- one path ---------------------------------------------------------------------------------------------------------


def test_attach_write_extend_detach(guest, iscsi, lun, other_volume, aiolos, leaves_nothing):
    iscsi.map(other_volume)
    first = aiolos.attach(lun, "--json").json()
    assert source_of(guest) == pathlib.Path(f"/dev/disk/by-id/scsi-{lun.volume.wwid}")
    assert first["aio"]["mode"] == "native"
    assert len(scsi_disks()) == 1, "the other LUN was scanned, too"
    again = aiolos.attach(lun, "--json").json()
    assert (again["xml"], again["aio"]["mode"]) == (first["xml"], "native")

    device = guest.wait_disk(lun.serial)
    verify_io(guest, device)
    write_pattern(guest, device)
    assert lun.volume.content(0, MIB) == b"Z" * MIB

    assert "grow" in aiolos.extend(96 * MIB, "--json", expect=FAILED).error()["next"]
    lun.volume.grow(96 * MIB)
    aiolos.extend(96 * MIB)
    guest.wait_size(device, 96 * MIB)

    aiolos.detach()
    guest.wait_no_disk(lun.serial)
    aiolos.detach()


def test_two_luns_share_a_session(guest, iscsi, lun, other_volume, aiolos, leaves_nothing):
    second = Lun(iscsi, other_volume)
    aiolos.attach(lun)
    aiolos.attach(second, dev="vdc")
    assert len(sessions()) == 1 and len(scsi_disks()) == 2
    aiolos.detach()
    assert len(sessions()) == 1 and len(scsi_disks()) == 1
    write_pattern(guest, guest.wait_disk(second.serial))
    assert other_volume.content(0, MIB) == b"Z" * MIB
    aiolos.detach(dev="vdc")
    assert sessions() == []


def test_a_session_that_was_there_stays(iscsi, initiator, lun, aiolos):
    initiator.login(iscsi, paths=[0])
    disk = initiator.disk(iscsi, 0, lun.number)
    before = host_state()
    aiolos.attach(lun)
    aiolos.detach()
    wait_for_host_state(before)
    assert disk.exists()


def test_a_session_in_use_by_another_lun_stays(guest, iscsi, lun, other_volume, aiolos):
    """A LUN that somebody else had scanned in the session that connect made."""
    second = iscsi.map(other_volume)
    aiolos.attach(lun)
    host = next((SYS / "class/iscsi_host").iterdir()).name
    (SYS / f"class/scsi_host/{host}/scan").write_text(f"0 0 {second}")
    aiolos.detach()
    assert len(sessions()) == 1 and len(scsi_disks()) == 1


# --- logging in -------------------------------------------------------------------------------------------------------


def test_chap_password_is_on_no_command_line(lun, aiolos, leaves_nothing):
    """A shell in the VM looks at all command lines, all the time."""
    watch = subprocess.Popen(
        ["/usr/bin/python3", "-c",
         "import pathlib\nwhile True:\n for p in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
         "  try:\n   if b'volume-' + b'secret' in p.read_bytes(): print(p.read_bytes(), flush=True)\n"
         "  except OSError: pass"], stdout=subprocess.PIPE, text=True)
    aiolos.attach(lun)
    records = list(pathlib.Path("/etc/iscsi/nodes").glob("*/*"))
    assert [oct(record.stat().st_mode & 0o777) for record in records] == ["0o600"]
    aiolos.detach()
    watch.kill()
    assert watch.communicate()[0] == ""


@pytest.mark.parametrize("changes, where", [
    ({"auth_password": "wrong-secret"}, "/data/auth_password"),
    ({"auth_username": "nobody"}, "/data/auth_password"),
    ({"auth_method": None, "auth_username": None, "auth_password": None}, "/data/auth_method"),
])
def test_wrong_chap_is_refused(lun, changes, where, aiolos, leaves_nothing, at_most):
    with at_most(10):
        error = aiolos.attach(lun.other(**changes), "--json", expect=BAD_INPUT).error()
    assert "refuses this host's login" in error["message"] and error["where"] == where
    assert "secret" not in str(error).replace("auth_password", "")
    assert list(pathlib.Path("/etc/iscsi/nodes").glob("*/*")) == []


def test_chap_missing_a_password(lun, aiolos, leaves_nothing):
    error = aiolos.attach(lun.other(auth_password=None), "--json", expect=BAD_INPUT).error()
    assert error["where"] == "/data/auth_password"


def test_unknown_target(lun, aiolos, leaves_nothing, at_most):
    with at_most(12):
        error = aiolos.attach(lun.other(target_iqn=lun.target.iqn + "x"), "--json", expect=TRY_AGAIN).error()
    assert "no such target" in error["message"]


def test_no_such_lun(lun, aiolos, leaves_nothing, at_most):
    with at_most(15):
        error = aiolos.attach(lun.other(target_lun=9), "--json", expect=FAILED).error()
    assert "shows no LUN 9" in error["message"]


@pytest.fixture
def iface():
    """An interface of the initiator's that is bound to the first path; its name."""
    name = "first-path"
    run("iscsiadm", "-m", "iface", "-I", name, "-o", "new")
    run("iscsiadm", "-m", "iface", "-I", name, "-o", "update", "-n", "iface.net_ifacename", "-v", "path0")
    yield name
    run("iscsiadm", "-m", "iface", "-I", name, "-o", "delete")


def test_another_iface_is_used_for_all_that_goes_to_the_target(iface, guest, lun, aiolos, leaves_nothing):
    aiolos.configure(f"iscsi: {{iface: {iface}}}\n")
    aiolos.attach(lun)
    session = next((SYS / "class/iscsi_session").iterdir())
    assert read(session / "ifacename") == iface
    [record] = pathlib.Path("/etc/iscsi/nodes").glob("*/*")
    assert f"iface.iscsi_ifacename = {iface}\n" in record.read_text()
    verify_io(guest, guest.wait_disk(lun.serial))
    aiolos.detach()


def test_iface_that_does_not_exist(lun, aiolos, leaves_nothing):
    aiolos.configure("iscsi: {iface: no-such-iface}\n")
    error = aiolos.attach(lun, "--json", expect=BAD_INPUT).error()
    assert "iscsi.iface" in error["next"]


@pytest.mark.parametrize("fault", ["pull", "swallow", "close"])
def test_dead_portal(iscsi, lun, fault, aiolos, leaves_nothing, at_most):
    {"pull": iscsi.network.pull, "swallow": iscsi.network.swallow, "close": iscsi.close_portal}[fault](0)
    with at_most(10):
        error = aiolos.attach(lun, "--json", expect=TRY_AGAIN).error()
    assert "10.1.0.1:3260" in error["message"] and "does not answer" in error["message"]


def test_second_portal_is_used_where_the_first_is_dead(iscsi, volume, guest, aiolos, at_most):
    lun = Lun(iscsi, volume, multipath=True)
    before = host_state()
    iscsi.network.swallow(0)
    with at_most(15):
        aiolos.attach(lun)
    assert len(sessions()) == 1 and "10.2.0.1" in sessions()[0]
    aiolos.detach()
    wait_for_host_state(before)


def test_iscsid_is_not_running(initiator, lun, aiolos, leaves_nothing, at_most):
    run("iscsiadm", "-k", "0")
    try:
        with at_most(10):
            error = aiolos.attach(lun, "--json", expect=BAD_INPUT).error()
        assert "iscsid does not run" in error["message"]
    finally:
        run("iscsid")
        wait_for(lambda: run("iscsiadm", "-m", "session", check=False).returncode in (0, 21), "iscsid")


# --- the wrong volume -------------------------------------------------------------------------------------------------


def test_renumbered_lun_is_refused(guest, iscsi, lun, other_volume, aiolos, leaves_nothing):
    aiolos.attach(lun)
    iscsi.unmap(lun.number)
    iscsi.map(other_volume, lun.number)
    for refused in (aiolos.detach("--json", expect=REFUSED), aiolos.extend(96 * MIB, "--json", expect=REFUSED)):
        assert lun.volume.wwid in refused.error()["message"] and other_volume.wwid in refused.error()["message"]
    aiolos.detach("--force")
    guest.wait_no_disk(lun.serial)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_target_gone_during_io_is_detached_by_force(guest, iscsi, lun, aiolos, leaves_nothing, at_most):
    """With the initiator's patience cut to 3 s, as its operator may: until then the guest's I/O waits."""
    aiolos.attach(lun)
    device = guest.wait_disk(lun.serial)
    for patience in (SYS / "class/iscsi_session").glob("*/recovery_tmo"):
        patience.write_text("3")
    guest.check(f"(dd if=/dev/zero of={device} bs=64k oflag=direct >/dev/null 2>&1 &)")
    iscsi.network.pull(0)
    wait_for(lambda: not sessions()[0].endswith("LOGGED_IN"), "the session to fail")
    with at_most(15):
        error = aiolos.detach("--json", expect=TRY_AGAIN).error()
    assert "answers" in error["message"] and "--force" in error["next"]
    with at_most(60):
        aiolos.detach("--force")


def test_device_in_use_on_the_host_is_not_taken_away(guest, lun, aiolos, leaves_nothing):
    aiolos.attach(lun)
    with open(source_of(guest), "rb"):
        error = aiolos.detach("--json", expect=REFUSED).error()
        assert "python" in error["message"]
        assert len(sessions()) == 1
    aiolos.detach()


def test_killed_attach_is_undone_by_detach(guest, lun, aiolos, leaves_nothing):
    """By reconcile, at each moment, it is in test_crash.py."""
    kill_attach(aiolos, lun, sessions)
    aiolos.detach(expect=None)
    assert sessions() == [] and scsi_disks() == []


def connections() -> list[str]:
    """The states of this host's connections with the first portal, 10.1.0.1 port 3260: "02" is being made, "01" stands."""
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()]
    return [state for _, _, remote, state, *_ in lines if remote == "0100010A:0CBC" and state in ("01", "02")]


def test_login_that_goes_on_after_the_kill_is_undone(iscsi, lun, aiolos, leaves_nothing, tmp_path):
    """iscsid makes a session for a command that is dead: its first packets are lost, until reconcile has begun."""
    network, reached = iscsi.network, tmp_path / "reached"
    swallow = f"ip neigh replace {network.portals[0]} lladdr 02:00:00:00:00:99 nud permanent dev {network.ends(0)[0]}"
    with StandIn("iscsiadm", f'case "$*" in *--login*) {swallow}; touch {reached};; esac; exec {shutil.which("iscsiadm")} "$@"'):
        kill_attach(aiolos, lun, lambda: reached.exists() and "02" in connections())
    later = threading.Timer(2.5, network.deliver, (0,))  # Linux sends the SYN again after 1 s and 3 s
    later.start()
    aiolos.run("reconcile", "--config", str(aiolos.config))
    later.join()
    assert connections() == [] and sessions() == []


def test_login_that_is_answered_after_the_kill_is_undone(iscsi, lun, aiolos, leaves_nothing, slow_answers):
    """iscsid has its session by then, which nobody can log out of yet."""
    kill_attach(aiolos, lun, lambda: any(session.endswith(" FREE") for session in sessions()))
    aiolos.run("reconcile", "--config", str(aiolos.config))
    assert connections() == [] and sessions() == []


@pytest.fixture
def slow_answers(network):
    """The first portal's packets take 0.7 s each: a login with CHAP takes some five of them."""
    run("modprobe", "sch_netem")
    qdisc = ("dev", network.ends(0)[1], "root", "netem")
    network.inside("tc", "qdisc", "add", *qdisc, "delay", "700ms")
    yield
    network.inside("tc", "qdisc", "delete", *qdisc)


def kill_attach(aiolos, lun: Lun, reached) -> None:
    """Start to attach, and kill that as soon as it has come so far."""
    command = [str(aiolos.binary), "attach", "--domain", aiolos.guest.name, *aiolos.request(lun.connection_info)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(reached, "the attach to come so far")
    finally:
        process.kill()
        process.wait()


def test_lock_of_a_killed_iscsiadm_is_taken_away(guest, lun, aiolos, leaves_nothing, at_most):
    """One that is killed while it writes a record; iscsiadm itself waits for it for 30 s."""
    locks = pathlib.Path("/run/lock/iscsi")
    (locks / "lock.write").hardlink_to(locks / "lock")
    with at_most(8):
        aiolos.attach(lun)
    aiolos.detach()


# --- multipath --------------------------------------------------------------------------------------------------------


@pytest.fixture
def discovered(iscsi, multipath, volume, aiolos):
    """A volume whose other portal is told to those only who have the password for discovery."""
    aiolos.configure(MULTIPATH)
    lun = Lun(iscsi, volume)
    return lun.other(**iscsi.want_discovery_chap("discovery-user", "discovery-secret"))


def discovery_records() -> list[pathlib.Path]:
    return list(pathlib.Path("/etc/iscsi/send_targets").glob("*"))


def test_multipath_discovers_the_other_portal_with_chap(discovered, aiolos, guest):
    before = host_state()
    aiolos.attach(discovered)
    assert len(sessions()) == 2
    assert len(discovery_records()) == 1
    verify_io(guest, guest.wait_disk(discovered.serial))
    aiolos.detach()
    wait_for_host_state(before)
    assert discovery_records() == []
    assert run("grep", "-rl", "-e", "discovery-secret", "/etc/iscsi", aiolos.folder / "state", check=False).stdout == ""


def test_multipath_with_a_wrong_password_for_discovery_uses_the_portal_given(discovered, aiolos):
    before = host_state()
    attached = aiolos.attach(discovered.other(discovery_auth_password="wrong-secret"))
    assert "only the portal given is used" in attached.err and "secret" not in attached.err
    assert len(sessions()) == 1
    aiolos.detach()
    wait_for_host_state(before)
    assert discovery_records() == []


def test_multipath_with_a_dead_portal(guest, iscsi, multipath, multipath_lun, aiolos, multipath_leaves_nothing,
                                      at_most):
    iscsi.network.swallow(0)
    with at_most(20):
        aiolos.attach(multipath_lun)
    assert len(sessions()) == 1
    assert source_of(guest).name == f"dm-uuid-mpath-{multipath_lun.volume.wwid}"
    aiolos.detach()


def test_multipath_survives_a_path_during_io(guest, iscsi, multipath, multipath_lun, aiolos, multipath_leaves_nothing):
    aiolos.attach(multipath_lun)
    wwid = multipath_lun.volume.wwid
    assert source_of(guest) == pathlib.Path(f"/dev/disk/by-id/dm-uuid-mpath-{wwid}")
    assert len(sessions()) == 2 and len(scsi_disks()) == 2
    device = guest.wait_disk(multipath_lun.serial)
    multipath.wait_map(wwid, paths=2)
    load = LOAD.format(device=device) + " --size=16M --time_based --runtime=12"
    guest.check(f"({load} >/run/fio.log 2>&1; echo $? >/run/fio.status) &")
    iscsi.network.pull(0)
    wait_for(lambda: list(multipath.paths(wwid).values()).count("failed") == 1, "the path to fail")
    error = aiolos.extend(96 * MIB, "--json", expect=REFUSED).error()
    assert "10.1.0.1:3260" in error["message"]
    iscsi.network.plug(0)
    multipath.wait_map(wwid, paths=2)
    guest.check("while [ ! -e /run/fio.status ]; do sleep 0.2; done; s=$(cat /run/fio.status); rm /run/fio.status; exit $s",
                timeout=120)
    aiolos.detach()


def test_multipath_discovers_the_other_portal_and_extends(guest, iscsi, multipath, volume, aiolos):
    aiolos.configure(MULTIPATH)
    lun = Lun(iscsi, volume)
    with unchanged_host(aiolos):
        aiolos.attach(lun)
        assert len(sessions()) == 2
        multipath.wait_map(volume.wwid, paths=2)
        volume.grow(96 * MIB)
        aiolos.extend(96 * MIB)
        assert size_of(source_of(guest)) == 96 * MIB
        aiolos.detach()


def test_multipath_without_multipathd_uses_one_path(guest, iscsi, volume, aiolos):
    aiolos.configure(MULTIPATH)
    lun = Lun(iscsi, volume, multipath=True)
    before = host_state()
    attached = aiolos.attach(lun)
    assert "one path only" in attached.err
    aiolos.detach()
    wait_for_host_state(before)


def test_multipath_that_queues_without_a_path_is_given_up_in_time(guest, iscsi, volume, aiolos, at_most):
    """no_path_retry is `queue`, so whoever flushes the map waits until a path is back. The guest has written nothing: QEMU
    would wait with it."""
    aiolos.configure(MULTIPATH)
    with Multipath(no_path_retry="queue") as multipath:
        lun = Lun(iscsi, volume, multipath=True)
        before = host_state()
        aiolos.attach(lun)
        multipath.wait_map(volume.wwid, paths=2)
        for path in (0, 1):
            iscsi.network.pull(path)
        wait_for(lambda: list(multipath.paths(volume.wwid).values()) == ["failed", "failed"], "both paths to fail")
        assert "queue_if_no_path" in run("dmsetup", "table", volume.wwid).stdout
        with at_most(20):
            error = aiolos.detach("--json", expect=TRY_AGAIN).error()
        assert "answers" in error["message"] and "--force" in error["next"]
        with at_most(60):
            aiolos.detach("--force")
        wait_for_host_state(before)
