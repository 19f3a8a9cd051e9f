# SPDX-License-Identifier: Apache-2.0
"""aiolos migrate, for real: a guest that writes and verifies moves between two libvirt daemons with its volumes.

Whatever happens, the guest is on exactly one host afterwards, and its volumes are connected there and nowhere else.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest
from harness import BAD_INPUT, TRY_AGAIN, Volume, aiolos_binary, domain_disks
from hosts import MIGRATE_URI, HostAiolos, MobileGuest
from test_migrations import check_load, start_verifying_load

MIB = 1 << 20
SIZE = 64 * MIB
SLOW = ("--bandwidth", "16")  # the guest takes some seconds then


class Side:
    """One of the two hosts with its aiolos, whose journal is empty at first."""

    def __init__(self, host, guest, data_plane: str):
        self.host = host
        self.aiolos: HostAiolos = host.aiolos(guest)
        shutil.rmtree(self.aiolos.folder / "state", ignore_errors=True)
        engine = host.folder / "e/admin"
        self.aiolos.config.write_text(
            f'libvirt: {{uri: "qemu:///system", virt_type: {guest.virt_type}}}\n'
            f'state: {{dir: "{self.aiolos.folder}/state"}}\n'
            f'data_plane: {{default: {data_plane}, admin: "{engine}", sockets: "{host.folder}/d"}}\n'
            f'migration: {{uri: "{MIGRATE_URI}"}}\n')

    def run(self, command: str, *arguments: str, **options):
        return self.aiolos.run(command, "--config", str(self.aiolos.config), *arguments, **options)

    def held(self) -> list[str]:
        """"vdb attached", for each volume of the journal."""
        listed = self.run("attachments", "--json").json()["attachments"]
        return [f"{each['target']} {each['state']}" for each in listed]

    def reconcile(self) -> None:
        self.run("reconcile", "--json")


class Move:
    """A migration that has been begun."""

    def __init__(self, source: Side, destination: Side, guest, *options: str, to: str = "", through_pipes: bool = False):
        """to: the destination's libvirt, where the source reaches it in another way. through_pipes: what the source's Aiolos
        says to the destination's goes through two processes, cat, which can be ended."""
        receive = destination.host.command(aiolos_binary(), "migrate-receive", "--config", destination.aiolos.config)
        self.process = subprocess.Popen(
            [*source.aiolos.command, "migrate", "--config", str(source.aiolos.config), "--json", "--unsafe",
             "--domain", guest.name, "--to", to or destination.host.uri, "--peer", shlex.join(["sh", "-c", 'cat | "$@" | cat', "sh", *receive] if through_pipes else receive), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, expect: int = 0) -> dict:
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == expect, f"status {self.process.returncode}, not {expect}:\n{out}{err}"
        return json.loads(out) if out else {}


@pytest.fixture
def sides(guest, there):
    """The host that has the guest, and the other one."""
    return Side(guest.host, guest, "qemu"), Side(there, guest, "qemu")


@pytest.fixture
def volume(storage):
    return make_volume(storage)


def make_volume(storage) -> Volume:
    path = storage / "volume"
    with open(path, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, SIZE)
    info = {"driver_volume_type": "file", "serial": "moves", "data": {"path": str(path), "format": "raw"}}
    return Volume(path, "raw", info, SIZE)


def attach(side: Side, guest, volume: Volume) -> str:
    """The disk's name in the guest."""
    side.aiolos.attach(volume)
    return guest.wait_disk(volume.serial)


def running_on(guest, *sides: Side) -> list[bool]:
    return [guest.name in side.host.running() for side in sides]


def assert_settled(guest, has: Side, has_not: Side) -> None:
    """The guest and its volume are here, and nothing is there."""
    assert running_on(guest, has, has_not) == [True, False]
    assert (has.held(), has_not.held()) == (["vdb attached"], [])
    assert guest.moved(has.host).check("echo alive") == "alive\n"
    assert "vdb" in domain_disks(guest)


def wait_for(condition, what: str, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def job_of(guest, side: Side) -> bool:
    """Whether libvirt migrates the guest away from there now."""
    try:
        return "Outgoing migration" in side.host.virsh("domjobinfo", guest.name)
    except Exception:  # it is not there
        return False


def memory_flows(guest, side: Side) -> bool:
    """Whether some of the guest's memory has gone to the other host, whose QEMU runs then."""
    try:
        sent = re.search(r"Memory processed: *(\S+)", side.host.virsh("domjobinfo", guest.name))
    except Exception:  # it is not there
        return False
    return sent is not None and float(sent[1]) > 0


def kill(move: Move, guest, here: Side, there: Side) -> None:
    """Ends the command, and waits for what libvirt makes of the migration by itself."""
    move.process.kill()
    move.process.communicate(timeout=30)
    time.sleep(1)  # it may just have been asked
    wait_for(lambda: not job_of(guest, here) and sorted(running_on(guest, here, there)) == [False, True],
             "the end of the migration")


def test_moves_there_and_back_with_its_volume_under_a_verifying_load(sides, guest, volume):
    here, there = sides
    device = attach(here, guest, volume)
    start_verifying_load(guest, device, seconds=30)
    report = Move(here, there, guest).end()
    assert_settled(guest, there, here)
    assert report["downtime_ms"] > 0 and report["total_ms"] > 0
    assert [(d["target"], d["mode"]) for d in report["disks"]] == [("vdb", {"before": "native", "after": "native"})]
    Move(there, here, guest).end()
    assert_settled(guest, here, there)
    check_load(guest, seconds=60)
    here.aiolos.detach()
    assert here.held() == []


def test_the_mode_is_decided_anew(sides, guest, volume, storage):
    here, there = sides
    device = attach(here, guest, volume)
    with open(storage / "sparse", "wb") as sparse:
        sparse.truncate(SIZE)
    guest.check(f"dd if=/dev/zero of={device} bs=1M count=1 oflag=direct 2>&1")
    sparse = {**volume.connection_info, "data": {"path": str(storage / "sparse"), "format": "raw"}}
    connections = here.aiolos.write("connections.json", {"vdb": {"connection_info": sparse}})
    report = Move(here, there, guest, "--connections", connections).end()
    assert report["disks"][0]["mode"] == {"before": "native", "after": "threads"}
    assert_settled(guest, there, here)
    disk = domain_disks(guest)["vdb"]
    assert disk.find("driver").get("io") == "threads" and disk.find("source").get("file") == str(storage / "sparse")


def test_a_rehearsal_changes_nothing(sides, guest, volume):
    here, there = sides
    attach(here, guest, volume)
    report = Move(here, there, guest, "--dry-run").end()
    assert report["dry_run"] and report["disks"][0]["mode"]["after"] == "native"
    assert_settled(guest, here, there)


def test_what_the_destination_cannot_connect_keeps_the_guest_here(sides, guest, volume, storage):
    here, there = sides
    attach(here, guest, volume)
    missing = {**volume.connection_info, "data": {"path": str(storage / "missing"), "format": "raw"}}
    connections = here.aiolos.write("connections.json", {"vdb": {"connection_info": missing}})
    error = Move(here, there, guest, "--connections", connections).end(expect=1)["error"]
    assert "'vdb' on the destination" in error["message"]
    assert_settled(guest, here, there)


def test_a_failed_migration_is_undone_there(sides, guest, volume):
    here, there = sides
    attach(here, guest, volume)
    error = Move(here, there, guest, "--migrate-uri", "tcp://no-such-host.invalid:49300").end(expect=BAD_INPUT)["error"]
    assert "no-such-host" in error["message"]
    assert_settled(guest, here, there)


def test_the_deadline_ends_it(sides, guest, volume):
    here, there = sides
    attach(here, guest, volume)
    error = Move(here, there, guest, "--bandwidth", "1", "--deadline", "3s").end(expect=TRY_AGAIN)["error"]
    assert "not moved within 3 s" in error["message"]
    assert_settled(guest, here, there)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_stays(sides, guest, volume, sent):
    here, there = sides
    attach(here, guest, volume)
    move = Move(here, there, guest, *SLOW)
    wait_for(lambda: job_of(guest, here), "the migration")
    move.process.send_signal(sent)
    move.end(expect=-sent)
    assert_settled(guest, here, there)


@pytest.mark.parametrize("moment", [0.02, 0.2, "migrating", "copied", "arrived"])
def test_killed_at_any_moment_it_is_settled_by_where_the_guest_is(sides, guest, volume, moment):
    here, there = sides
    device = attach(here, guest, volume)
    start_verifying_load(guest, device, seconds=20)
    move = Move(here, there, guest, *SLOW)
    if moment == "migrating":
        wait_for(lambda: job_of(guest, here), "the migration")
    elif moment == "copied":
        wait_for(lambda: guest.name in there.host.virsh("list", "--name").split(), "the guest on its way")
        time.sleep(1)
    elif moment == "arrived":
        wait_for(lambda: guest.name in there.host.running(), "the guest there")
    else:
        time.sleep(moment)
    kill(move, guest, here, there)
    there.reconcile()
    here.reconcile()
    if guest.name in there.host.running():
        here, there = there, here
    assert_settled(guest, here, there)
    check_load(guest, seconds=60)


def test_a_destination_whose_libvirt_dies_costs_nothing(sides, guest, volume):
    here, there = sides
    device = attach(here, guest, volume)
    start_verifying_load(guest, device, seconds=10)
    move = Move(here, there, guest, *SLOW)
    wait_for(lambda: memory_flows(guest, here), "the migration")  # earlier, libvirt may not get over it: docs/migration.md
    there.host.kill_libvirt()
    move.process.communicate(timeout=120)
    assert move.process.returncode != 0
    there.host.libvirt.start()
    wait_for(lambda: guest.name not in there.host.virsh("list", "--name").split(), "the end of what was there")
    there.reconcile()
    here.reconcile()
    assert_settled(guest, here, there)
    check_load(guest, seconds=60)


# ---- aiolos-engine --------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def engine_guest(hosts, kept_guest, volume: Volume):
    """A guest whose memory is shared, the two sides, and the disk that the first one's engine serves it."""
    while kept_guest:
        kept_guest.pop().destroy()  # there is room for one guest
    guest = MobileGuest(hosts[0], shared_memory=True).start()
    try:
        for host in hosts:
            host.start_engine()
        here, there = (Side(host, guest, "engine") for host in hosts)
        yield guest, here, there, attach(here, guest, volume)
    finally:
        for host in hosts:  # a test that fails may leave it on either
            if guest.name in host.running():
                guest.moved(host)
        guest.destroy()
        for host in hosts:
            host.engine.close()


@pytest.fixture
def served(hosts, kept_guest, volume):
    with engine_guest(hosts, kept_guest, volume) as made:
        yield made


@pytest.fixture
def slow_volume(volume, storage):
    """It takes 50 ms for each request."""
    backing = volume.path.rename(storage / "backing")
    volume.path.touch()
    (storage / "control").write_text("delay 50000\n")
    program = aiolos_binary().parent / "slow_file"
    process = subprocess.Popen([str(program), str(volume.path), str(backing), str(storage / "control")])
    try:
        wait_for(lambda: os.path.ismount(volume.path), "the mount", timeout=10)
        yield volume
    finally:
        process.terminate()
        process.wait(20)


def served_disks(side: Side) -> list[dict]:
    return side.host.engine.ask("list")["disks"]


def test_an_engine_disk_moves_to_the_other_engine(served):
    guest, here, there, device = served
    start_verifying_load(guest, device, seconds=20)
    report = Move(here, there, guest, *SLOW).end()
    assert_settled(guest, there, here)
    assert (len(served_disks(here)), len(served_disks(there))) == (0, 1)
    disk = report["disks"][0]
    assert disk["data_plane"] == "engine" and disk["mode"]["after"] == "native"
    assert disk["drain_us"] is not None and disk["drain_predicted_us"] is not None
    check_load(guest, seconds=60)


def test_a_drain_that_stays_too_long_keeps_the_guest_here(hosts, kept_guest, slow_volume):
    with engine_guest(hosts, kept_guest, slow_volume) as (guest, here, there, device):
        start_verifying_load(guest, device, seconds=25)
        error = Move(here, there, guest, "--max-drain", "5ms", "--deadline", "8s").end(expect=TRY_AGAIN)["error"]
        assert "its drain would take" in error["message"]
        assert_settled(guest, here, there)
        assert (len(served_disks(here)), len(served_disks(there))) == (1, 0)
        check_load(guest, seconds=60)


@pytest.mark.parametrize("moment", ["migrating", "arrived"])
def test_killed_with_an_engine_disk(served, moment):
    guest, here, there, device = served
    start_verifying_load(guest, device, seconds=20)
    move = Move(here, there, guest, *SLOW)
    wait_for(lambda: job_of(guest, here) if moment == "migrating" else guest.name in there.host.running(), moment)
    kill(move, guest, here, there)
    there.reconcile()
    here.reconcile()
    if guest.name in there.host.running():
        here, there = there, here
    assert_settled(guest, here, there)
    assert (len(served_disks(here)), len(served_disks(there))) == (1, 0)
    check_load(guest, seconds=60)
