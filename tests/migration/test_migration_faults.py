# SPDX-License-Identifier: Apache-2.0
"""What breaks while a guest moves: either host's aiolos-engine, the network between the hosts, the destination's Aiolos.

The guest has a disk of QEMU's own and one of aiolos-engine's, writes to both and verifies what it wrote. After each fault it
runs on one host, its volumes are connected there and nothing is left on the other, and the load goes on.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest
from engine_unit import SYSTEMD, EngineUnit
from guest import GuestError
from harness import aiolos_binary
from hosts import Host, MobileGuest
from managed import Managed
from relay import Relay, free_port
from test_migrate import Move, Side, job_of, running_on, served_disks, wait_for

MIB = 1 << 20
SIZE = 32 * MIB
DISKS = {"vdb": "qemu", "vdc": "engine"}
# Of the network, in bytes a second, and the downtime that is allowed: the guest stands still for a second at the switchover.
SLOW_NETWORK = 64 * MIB
LONG_DOWNTIME = ("--downtime-limit", "1500ms")
QUICK = "delay 2000"
LONG_DRAIN = "delay 400000"  # us a request
# Longer than libvirt's keep-alive messages take to end a connection.
KEPT_ALIVE = 40


class Lab(Managed):
    """A guest with its load, and the two hosts that it moves between."""

    def __init__(self, folder: pathlib.Path):
        super().__init__()
        self.folder = folder

    def open(self) -> None:
        # Before the hosts: what is mounted later they need not see.
        volumes = {target: self.mount_slow_file(target) for target in DISKS}
        self.hosts = [Host(name) for name in ("a", "b")]
        for host in self.hosts:
            self.undo(host.close)
            host.open()
            host.start_engine(kind=EngineUnit)
        self.guest = MobileGuest(self.hosts[0], shared_memory=True, iothreads=1)
        self.undo(self.destroy_guest)
        self.guest.start()
        self.sides = [Side(host, self.guest, "qemu") for host in self.hosts]
        self.devices = [self.attach(target, path) for target, path in volumes.items()]

    def destroy_guest(self) -> None:
        for host in self.hosts:
            if self.guest.name in host.running():
                self.guest.moved(host)
        self.guest.destroy()

    def mount_slow_file(self, name: str) -> pathlib.Path:
        """A volume on storage whose speed can be set: set_storage()."""
        mount, backing = self.folder / name, self.folder / f"{name}.backing"
        with open(backing, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, SIZE)
        mount.touch()
        self.set_storage(name, QUICK)
        program = aiolos_binary().parent / "slow_file"
        process = subprocess.Popen([str(program), str(mount), str(backing), str(self.folder / f"{name}.control")])
        self.undo(process.wait, 20)
        self.undo(process.terminate)
        wait_for(lambda: os.path.ismount(mount), "the mount", timeout=10)
        return mount

    def attach(self, target: str, path: pathlib.Path) -> str:
        """The disk's name in the guest."""
        serial = f"faults-{target}"
        info = {"driver_volume_type": "file", "serial": serial, "data": {"path": str(path), "format": "raw"}}
        disk = {"bus": "virtio", "dev": target, "type": "disk", "data_plane": DISKS[target]}
        here = self.sides[0]
        here.run("attach", "--domain", self.guest.name, "--connection", here.aiolos.write("connection.json", info),
                 "--disk", here.aiolos.write("disk.json", disk))
        return self.guest.wait_disk(serial)

    def set_storage(self, name: str, control: str) -> None:
        (self.folder / "control.new").write_text(f"{control}\n")
        (self.folder / "control.new").rename(self.folder / f"{name}.control")

    @property
    def here(self) -> Side:
        return next(side for side in self.sides if self.guest.name in side.host.running())

    @property
    def there(self) -> Side:
        here = self.here
        return next(side for side in self.sides if side is not here)

    # --- the load -----------------------------------------------------------------------------------------------------

    def start_load(self) -> None:
        jobs = " ".join(f"--name=j{number} --filename={device}" for number, device in enumerate(self.devices))
        self.guest.check(
            "rm -f /run/load.*; (s=0; while [ $s = 0 ] && [ ! -e /run/load.stop ]; do fio --rw=randwrite --bs=4k --iodepth=16 "
            "--ioengine=libaio --direct=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --time_based --runtime=3 "
            f"--output=/run/load.out {jobs}; s=$?; done; echo $s >/run/load.status) >/dev/null 2>&1 & sleep 0.5; pidof fio")

    def end_load(self) -> None:
        """All that was written is verified."""
        self.guest.check("touch /run/load.stop; for i in $(seq 300); do [ -s /run/load.status ] && break; sleep 0.1; done; "
                         'cat /run/load.out; [ "$(cat /run/load.status)" = 0 ]', timeout=40)

    def assert_load_goes_on(self) -> None:
        names = " ".join(device.rsplit("/", 1)[1] for device in self.devices)
        self.guest.check(f"for d in {names}; do n=0; set -- $(cat /sys/block/$d/stat); before=$5; while [ $5 -le $((before + 20)) ]; "
                         "do n=$((n + 1)); [ $n -lt 100 ] || { echo $d stands; cat /run/load.out; dmesg | tail; exit 1; }; "
                         "sleep 0.1; set -- $(cat /sys/block/$d/stat); done; done", timeout=30)

    # --- its end ------------------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        for side in self.sides:
            side.reconcile()

    def assert_settled(self, has: Side) -> None:
        """The guest and its volumes are here, nothing is there, and all that was written is whole."""
        has_not = next(side for side in self.sides if side is not has)
        assert running_on(self.guest, has, has_not) == [True, False]
        self.guest.moved(has.host)
        assert (sorted(has.held()), has_not.held()) == ([f"{target} attached" for target in DISKS], [])
        assert (len(served_disks(has)), len(served_disks(has_not))) == (1, 0)
        assert set(DISKS) <= set(self.guest.disk_targets())
        self.assert_load_goes_on()
        self.end_load()
        assert all(disk["broken_rings"] == 0 for disk in has.host.engine.ask("stats")["disks"])


@pytest.fixture(scope="module")
def kept_lab(kept_guest, tmp_path_factory):
    """The module's lab: a new one when a test has left the guest without its load or its disks."""
    if not SYSTEMD.exists():
        pytest.skip("this machine has no systemd")
    while kept_guest:
        kept_guest.pop().destroy()  # there is room for one guest
    kept: list[Lab] = []
    yield kept
    for each in kept:
        each.close()


@pytest.fixture
def lab(kept_lab, tmp_path_factory):
    if not kept_lab:
        kept_lab.append(Lab(tmp_path_factory.mktemp("faults")).__enter__())
    lab = kept_lab[0]
    lab.start_load()
    yield lab
    lab.set_storage("vdc", QUICK)
    try:
        lab.guest.moved(lab.here.host)
        lab.guest.check("! pidof fio", timeout=10)
    except (GuestError, StopIteration):
        kept_lab.pop().close()


@contextlib.contextmanager
def slow_network(rate: float | None = SLOW_NETWORK):
    """For the guest's memory. Its options of aiolos migrate, and the network."""
    port = free_port()
    with Relay(("127.0.0.2", port), ("127.0.0.3", port), rate) as network:
        yield ("--migrate-uri", f"tcp://127.0.0.2:{port}", *LONG_DOWNTIME), network


def is_paused(guest, side: Side) -> bool:
    return guest.name in side.host.virsh("list", "--name", "--state-paused").split()


def wait_during(move: Move, condition, what: str) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert move.process.poll() is None, f"{what} did not happen: {end_of(move)}"
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def wait_for_copying(move: Move, network: Relay) -> None:
    wait_during(move, lambda: network.passed > 8 * MIB, "the migration")


def wait_for_switchover(move: Move, lab: Lab, here: Side) -> None:
    wait_during(move, lambda: is_paused(lab.guest, here), "the switchover")


def drains(disk: dict) -> bool:
    """Whether QEMU waits for what is in flight."""
    return disk["in_flight"] > 0 and disk["drains"]["state"] in ("quiesce", "stopped")


def is_seen_draining(move: Move, engine) -> bool:
    """Looks until it is, or the migration is over."""
    while move.process.poll() is None:
        if any(drains(disk) for disk in engine.ask("stats")["disks"]):
            return True
        time.sleep(0.01)
    return False


def end_of(move: Move) -> str:
    out, err = move.process.communicate(timeout=60)
    return f"status {move.process.returncode}: {out}{err}"


# ---- aiolos-engine --------------------------------------------------------------------------------------------------

def test_the_sources_engine_is_killed_while_the_guest_moves(lab):
    here, there = lab.here, lab.there
    with slow_network() as (options, network):
        move = Move(here, there, lab.guest, *options)
        wait_for_copying(move, network)
        here.host.engine.kill()
        move.end()
    lab.assert_settled(there)


def test_the_sources_engine_is_killed_in_the_drain(lab):
    """When QEMU waits for its answer, the next engine gives it."""
    for _ in range(3):  # now and then nothing is in flight when QEMU stops the guest, between two writes of the load
        here, there = lab.here, lab.there
        with slow_network() as (options, network):
            move = Move(here, there, lab.guest, *options)
            wait_for_copying(move, network)
            lab.set_storage("vdc", LONG_DRAIN)
            if caught := is_seen_draining(move, here.host.engine):
                here.host.engine.kill()
            lab.set_storage("vdc", QUICK)
            move.end()
        if caught:
            return lab.assert_settled(there)
        lab.guest.moved(there.host)
    pytest.fail("no drain was seen in three migrations")


@pytest.mark.parametrize("moment", ["prepared", "copying", "switching over"])
def test_the_destinations_engine_is_killed(lab, moment):
    here, there = lab.here, lab.there
    with slow_network() as (options, network):
        move = Move(here, there, lab.guest, *options)
        if moment == "prepared":
            wait_during(move, lambda: served_disks(there), "the disk there")
        elif moment == "copying":
            wait_for_copying(move, network)
        else:
            wait_for_switchover(move, lab, here)
        there.host.engine.kill()
        move.end()
    lab.assert_settled(there)


# ---- the network ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("moment", ["copying", "switching over"])
@pytest.mark.parametrize("fault", ["stall", "cut"])
def test_the_network_fails(lab, fault, moment):
    """The guest's memory and libvirt's own connection go over it.

    QEMU holds its main lock while it sends the last of the memory: from a network that stalls then only TCP's giving up frees
    it, after 15 minutes (net.ipv4.tcp_retries2). Here the connections are cut in its stead.
    """
    here, there = lab.here, lab.there
    socket = there.host.libvirt.folder / "relay"
    with slow_network() as (options, memory), Relay(str(socket), str(there.host.libvirt.socket)) as daemon:
        move = Move(here, there, lab.guest, *options, to=f"qemu+unix:///system?socket={socket}")
        if moment == "copying":
            wait_for_copying(move, memory)
        else:
            wait_for_switchover(move, lab, here)
        for network in (memory, daemon):
            getattr(network, fault)()
        if fault == "stall":
            with contextlib.suppress(subprocess.TimeoutExpired):
                move.process.wait(KEPT_ALIVE)
            assert moment == "switching over" or move.process.poll() is not None
            memory.cut()
        ended = end_of(move)
    socket.unlink()
    lab.reconcile()
    assert "status 0" not in ended
    lab.assert_settled(here)


# ---- the destination's Aiolos ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("killed", ["cat", "aiolos"])
def test_the_destinations_aiolos_is_lost_while_the_guest_moves(lab, killed):
    """Its channel, or itself: libvirt goes on."""
    here, there = lab.here, lab.there
    with slow_network() as (options, network):
        move = Move(here, there, lab.guest, *options, through_pipes=True)
        wait_for_copying(move, network)
        for pid in descendants(move.process.pid, killed):
            os.kill(pid, signal.SIGKILL)
        ended = end_of(move)
    lab.reconcile()
    assert "status 0" in ended and "its destination says" in ended
    lab.assert_settled(there)


def descendants(pid: int, name: str) -> list[int]:
    """The processes of this name that a process has started."""
    found = []
    for child in map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == name:
            found.append(child)
        found += descendants(child, name)
    return found
