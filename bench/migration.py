# SPDX-License-Identifier: Apache-2.0
"""Live migrations of a guest that writes and verifies, to and fro between two libvirt daemons: whether each leaves guest and
volumes whole, and how well the drain of each was foretold: the longest that the report has of the two disks, beside the time that
QEMU's traces of the switchover show.

    measure(slow_file, 100)   # Moves: what came of them; AIOLOS names the command

The guest has a disk of QEMU's own and one that aiolos-engine serves, each on storage that takes 10 ms for a request, does
200 a second, and that both hosts see. Its load (fio, crc32c; 16 requests in flight on each) goes on while it moves.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sys
import time
import uuid
from dataclasses import dataclass, field

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests" / name) for name in ("guest", "e2e", "engine", "migration")]
import image  # noqa: E402
from engine_bench import slow_files  # noqa: E402
from guest import GuestError  # noqa: E402
from hosts import Host, MobileGuest  # noqa: E402
from qemu import drains  # noqa: E402
from test_migrate import Move, Side, check_load, running_on  # noqa: E402
from test_stock import trace_stops  # noqa: E402

DISKS = {"vdb": "qemu", "vdc": "engine"}
LATENCY_US = 10_000
# 200 IOPS. The drain of a queue that is full again whenever it is looked at can be foretold; with 500 IOPS a guest that is emulated,
# writes, verifies and moves does not keep 16 in flight, and 63 drains of 100 were within the limits below.
GAP_US = 5_000
MOVES_A_LOAD = 20
ROUND = 20  # seconds that the load writes before it begins anew; between two rounds it has nothing in flight
FORETOLD_PART, FORETOLD_US = 0.3, 5_000  # a drain is foretold if it is off by less than one of these


@dataclass
class Moves:
    completed: int = 0
    failed: list[str] = field(default_factory=list)  # and the guest went on where it was, with its volumes
    loads: int = 0  # that verified all they had written
    drains: list[tuple[float, float]] = field(default_factory=list)  # foretold and actual, in us
    downtimes: list[float] = field(default_factory=list)  # ms
    seconds: list[float] = field(default_factory=list)

    def foretold(self) -> int:
        return sum(abs(told - took) <= max(FORETOLD_US, FORETOLD_PART * took) for told, took in self.drains)


def start_load(guest: MobileGuest, devices: list[str]) -> None:
    """It goes on, verifying, until end_load(): the guest needs not to be waited for between two migrations."""
    jobs = " ".join(f"--name=j{number} --filename={device}" for number, device in enumerate(devices))
    guest.check("rm -f /run/fio.*; (s=0; while [ $s = 0 ] && [ ! -e /run/fio.stop ]; do fio --rw=randwrite --bs=4k --iodepth=16 "
                "--ioengine=libaio --direct=1 --verify=crc32c --verify_backlog=256 --verify_fatal=1 --time_based "
                f"--runtime={ROUND} --output=/run/fio.out {jobs}; s=$?; done; echo $s >/run/fio.status) >/dev/null 2>&1 & "
                "sleep 1; pidof fio")


def end_load(guest: MobileGuest) -> None:
    """All that it has written was right."""
    guest.check("touch /run/fio.stop")
    check_load(guest, seconds=ROUND + 60)


@contextlib.contextmanager
def loaded_guest(hosts: list[Host], files: list[pathlib.Path]):
    """A guest on the first host with both disks, their names in it, and Aiolos on the two hosts."""
    with MobileGuest(hosts[0], shared_memory=True, iothreads=1) as guest:
        sides = [Side(host, guest, "qemu") for host in hosts]
        devices = []
        for file, (target, data_plane) in zip(files, DISKS.items()):
            serial = str(uuid.uuid4())[:20]
            info = {"driver_volume_type": "file", "serial": serial, "data": {"path": str(file), "format": "raw"}}
            disk = {"bus": "virtio", "dev": target, "type": "disk", "data_plane": data_plane}
            here = sides[0].aiolos
            sides[0].run("attach", "--domain", guest.name, "--connection", here.write("connection.json", info),
                         "--disk", here.write("disk.json", disk))
            devices.append(guest.wait_disk(serial))
        yield guest, devices, sides


def move(guest: MobileGuest, here: Side, there: Side, moves: Moves) -> tuple[Side, Side]:
    """@return where the guest is now, and where it is not."""
    trace_stops(guest)
    log = guest.qemu_log
    begun = time.monotonic()
    process = Move(here, there, guest).process
    out, err = process.communicate(timeout=120)
    report = json.loads(out or err)
    if process.returncode == 0:
        here, there = there, here
        moves.completed += 1
        moves.seconds.append(time.monotonic() - begun)
        moves.downtimes.append(report["downtime_ms"])
        told = [disk["drain_predicted_us"] for disk in report["disks"] if disk["drain_predicted_us"] is not None]
        moves.drains.append((max(told), 1e6 * drains(log.read_text(errors="replace"))[-1]))
    else:
        moves.failed.append(report["error"]["message"])
    check_place(guest.moved(here.host), here, there)
    return here, there


def check_place(guest: MobileGuest, here: Side, there: Side) -> None:
    """The guest and its volumes are here, and nothing is there."""
    assert running_on(guest, here, there) == [True, False]
    assert (sorted(here.held()), there.held()) == ([f"{target} attached" for target in DISKS], [])
    assert guest.check("echo alive") == "alive\n"


def measure(slow_file: pathlib.Path, count: int) -> Moves:
    folder = image.state_folder() / "bench-migration"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    moves = Moves()
    try:
        with slow_files(slow_file, folder, len(DISKS), LATENCY_US, GAP_US) as files, Host("a") as first, Host("b") as second:
            hosts = [first, second]
            for host in hosts:
                host.start_engine()
            with loaded_guest(hosts, files) as (guest, devices, (here, there)):
                for number in range(count):
                    if number % MOVES_A_LOAD == 0:
                        start_load(guest, devices)
                    here, there = move(guest, here, there, moves)
                    if number % MOVES_A_LOAD == MOVES_A_LOAD - 1 or number == count - 1:
                        end_load(guest)
                        moves.loads += 1
    except (GuestError, AssertionError) as error:
        raise SystemExit(f"bench/run: after {moves.completed} migrations: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return moves
