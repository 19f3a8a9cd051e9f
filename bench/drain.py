# SPDX-License-Identifier: Apache-2.0
"""What a stop of a guest waits for, with QEMU's own disks and with aiolos-engine's, on slow storage.

Four disks in one guest, each on a file of a latency and a rate that are known (tests/engine/slow_file.cc), read at random by fio
in the guest. A migration with next to no bandwidth has begun and does not end, so the disks are in the state in which a switchover
finds them, and `stop` does what the switchover does (QEMU's do_vm_stop, with another name for the state): so stops can be had at
random times, and many of them. What they take is read from QEMU's traces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from engine_bench import slow_files

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests/guest"), str(PROJECT / "tests/engine")]
from engine_process import Engine  # noqa: E402
from qemu import QemuGuest, stock_disk, vhost_user_disk  # noqa: E402

DISKS = 4
SETTLE = 2                    # seconds after the load has begun
SECONDS = 6                   # that IOPS are counted,
MIGRATING_SECONDS = 10        # and from the beginning of a migration on, with all that the engine tries out then
BETWEEN_STOPS = (0.25, 0.75)  # seconds; the guest fills its queues again in less than 0.1
GROUP = "vm"
LOOK = 0.05                   # seconds between two looks at counters
WATCH = 1.5                   # seconds of looks before a stop
NR_REQUESTS = (128, 7, 128)   # 7: 500 IOPS x 10 ms x 1.25

DEPTHS = (1, 4, 16, 64)
TARGETS_MS = (5, 10, 20, 40, 80)
CURVE_STOPS = 20


@dataclasses.dataclass(frozen=True)
class Storage:
    """Of each disk; and the AIO mode that it is used with."""
    aio: str
    latency_us: int
    gap_us: int = 0

    def __str__(self) -> str:
        limit = f", {1_000_000 // self.gap_us} IOPS" if self.gap_us else ""
        return f"{self.aio}, {self.latency_us // 1000} ms{limit}"


SATURATED = Storage("native", 10_000, 2_000)
THREADS = Storage("threads", 100_000)
UNSATURATED = Storage("native", 10_000)


@dataclasses.dataclass
class Figures:
    iops: float            # of all disks together, while the guest does not migrate,
    migrating: float       # and while it does
    drains: list[float]    # milliseconds
    forecasts: list[float]  # what was forecast of each; empty where nobody forecasts

    def percentile(self, part: float) -> float:
        """By the nearest rank: of a hundred drains, 0.99 leaves the longest out."""
        return sorted(self.drains)[max(0, round(part * len(self.drains)) - 1)]

    @property
    def p50(self) -> float:
        return self.percentile(0.5)

    @property
    def p99(self) -> float:
        return self.percentile(0.99)

    @property
    def right_forecasts(self) -> float:
        """The part that was right within 30 % or 5 ms."""
        right = [abs(said - took) <= max(5, 0.3 * took) for said, took in zip(self.forecasts, self.drains)]
        return sum(right) / len(right)

    def __str__(self) -> str:
        return f"{self.iops:8.0f} {self.migrating:8.0f} {self.p50:8.1f} {self.p99:8.1f} {max(self.drains):8.1f}"


HEADINGS = f"{'IOPS':>8} {'migrates':>8} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8}"


class Load:
    """Random reads of 4 KiB on all disks of a guest, each at this depth, until it is stopped."""

    def __init__(self, guest: QemuGuest, depth: int):
        self.guest = guest
        jobs = " ".join(f"--name={disk.rsplit('/', 1)[1]} --filename={disk}" for disk in guest.wait_disks(DISKS))
        guest.check("(fio --ioengine=libaio --direct=1 --bs=4k --thread --group_reporting --time_based --runtime=3600 "
                    f"--rw=randread --iodepth={depth} --gtod_reduce=1 --norandommap {jobs} >/tmp/fio.out 2>&1; echo $? >/tmp/fio.status) "
                    "</dev/null >/dev/null 2>&1 &\n"
                    "for disk in /sys/block/vd*; do until grep -qv '^ *0 ' $disk/inflight; do sleep 0.1; done; done")
        time.sleep(SETTLE)

    def iops(self, seconds: float = SECONDS) -> float:
        """By the guest's own counters and clock."""
        count = "cut -d' ' -f1 /proc/uptime; cat /sys/block/vd*/stat"
        before, after = self.guest.check(f"{count}; echo; sleep {seconds}; {count}", timeout=seconds * 6).split("\n\n")
        at, done = zip(*((float(text.split("\n", 1)[0]), sum(int(line.split()[0]) for line in text.strip().split("\n")[1:]))
                         for text in (before, after)))
        return (done[1] - done[0]) / (at[1] - at[0])

    def stop(self) -> None:
        """SystemExit if a request failed."""
        status = self.guest.check("killall -INT fio; while [ ! -e /tmp/fio.status ]; do sleep 0.2; done; cat /tmp/fio.status; "
                                  "rm /tmp/fio.status").strip()
        if status not in ("0", "128"):
            raise SystemExit(f"bench/run: fio in the guest ended with {status}\n{self.guest.check('cat /tmp/fio.out')}")


def begin_migration(guest: QemuGuest) -> None:
    """One that goes on for longer than this guest lives."""
    guest.qmp.ask("migrate-set-parameters", {"max-bandwidth": 64 << 10})
    guest.qmp.ask("migrate", {"uri": "exec:cat >/dev/null"})


def end_migration(guest: QemuGuest) -> None:
    guest.qmp.ask("migrate_cancel")
    deadline = time.monotonic() + 20
    while guest.qmp.ask("query-migrate")["status"] != "cancelled":
        if time.monotonic() > deadline:
            raise SystemExit("bench/run: the migration does not end")
        time.sleep(0.05)


class StockForecast:
    """What `aiolos migrate` would forecast of a guest's own disks, from the counters that libvirt reads."""

    def __init__(self, program: pathlib.Path, guest: QemuGuest, ask_qemu: bool):
        """ask_qemu: also what is in flight, as `migration: {ask_qemu: true}`."""
        self.guest = guest
        self.ask_qemu = ask_qemu
        self.process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        self.process.communicate(timeout=10)

    def look(self) -> float | None:
        look = {"at_ns": time.monotonic_ns(), "disks": self.counters()}
        self.process.stdin.write(json.dumps(look) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def counters(self) -> dict:
        nodes = {each.get("node-name"): each["stats"] for each in self.guest.qmp.ask("query-blockstats")}
        disks = {}
        for i in range(DISKS):
            stats = nodes[f"file{i}"]
            disks[f"disk{i}"] = {name: [stats[f"{short}_operations"], stats[f"{short}_total_time_ns"]]
                                 for name, short in (("reads", "rd"), ("writes", "wr"), ("flushes", "flush"))}
            if self.ask_qemu:
                status = self.guest.qmp.ask("x-query-virtio-queue-status",
                                            {"path": f"/machine/peripheral/disk{i}/virtio-backend", "queue": 0})
                disks[f"disk{i}"]["in_flight"] = status["inuse"]
        return disks

    def forecast(self) -> float:
        """Milliseconds, after a while of looks."""
        end = time.monotonic() + WATCH
        while time.monotonic() < end:
            self.look()
            time.sleep(LOOK)
        return self.look() or 0.0


def stop_at_random(guest: QemuGuest, count: int, forecast: Callable[[], float] | None = None) -> tuple[list[float], list[float]]:
    """Milliseconds that so many stops took, and what was forecast right before each."""
    before = len(guest.drains())
    forecasts = []
    for _ in range(count):
        if forecast:
            forecasts.append(forecast())
        guest.qmp.ask("stop")
        guest.qmp.ask("cont")
        time.sleep(random.uniform(*BETWEEN_STOPS))
    if guest.qmp.ask("query-migrate")["status"] != "active":
        raise SystemExit("bench/run: the migration ended, so the stops were none of a migrating guest")
    drains = [1e3 * each for each in guest.drains()[before:]]
    if len(drains) != count:
        raise SystemExit(f"bench/run: QEMU's traces show {len(drains)} stops of {count}")
    return drains, forecasts


def forecast_of(engine: Engine) -> float:
    """Milliseconds: of the slowest disk, for they are stopped together."""
    return max(disk["drains"]["forecast_us"] for disk in engine.ask("stats")["disks"]) / 1e3


def measure(guest: QemuGuest, depth: int, stops: int, forecast: Callable[[], float] | None = None) -> Figures:
    load = Load(guest, depth)
    iops = load.iops()
    begin_migration(guest)
    migrating = load.iops(MIGRATING_SECONDS)
    figures = Figures(iops, migrating, *stop_at_random(guest, stops, forecast))
    load.stop()
    end_migration(guest)
    return figures


class DrainBench:
    def __init__(self, build: pathlib.Path, result: Callable[[str, float, str], None]):
        self.program = build / "bin/aiolos-engine"
        self.slow_file = build / "bin/slow_file"
        self.forecaster = build / "bin/stock_forecast"
        self.result = result

    @contextlib.contextmanager
    def stock(self, storage: Storage) -> Iterator[QemuGuest]:
        """A guest with disks of QEMU's own, all on one iothread, as libvirt's users have it."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name, \
             slow_files(self.slow_file, pathlib.Path(name), DISKS, storage.latency_us, storage.gap_us) as files:
            disks = [word for i, file in enumerate(files) for word in stock_disk(i, file, storage.aio, "io")]
            with QemuGuest(pathlib.Path(name), devices=["-object", "iothread,id=io", *disks]) as guest:
                yield guest

    @contextlib.contextmanager
    def engine(self, storage: Storage) -> Iterator[tuple[QemuGuest, Engine]]:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name, \
             slow_files(self.slow_file, pathlib.Path(name), DISKS, storage.latency_us, storage.gap_us) as files, \
             contextlib.closing(Engine(pathlib.Path(name), program=self.program)) as engine:
            engine.start()
            sockets = [engine.add(file, f"disk{i}", storage.aio, group=GROUP) for i, file in enumerate(files)]
            disks = [word for i, at in enumerate(sockets) for word in vhost_user_disk(i, at)]
            with QemuGuest(pathlib.Path(name), devices=disks) as guest:
                yield guest, engine

    def side_by_side(self, storage: Storage, depth: int, stops: int) -> tuple[Figures, Figures]:
        """Stock's, and the engine's."""
        print(f"   four disks at depth {depth}: {storage}; {stops} stops\n   {'':8} {HEADINGS}")
        with self.stock(storage) as guest:
            stock = measure(guest, depth, stops)
        print(f"   {'stock':8} {stock}", flush=True)
        with self.engine(storage) as (guest, engine):
            ours = measure(guest, depth, stops, lambda: forecast_of(engine))
        print(f"   {'engine':8} {ours}", flush=True)
        return stock, ours

    def bars(self) -> None:
        stock, ours = self.side_by_side(SATURATED, 64, 100)
        self.result("drain_saturated_p99_ms", ours.p99, "<20")
        self.result("drain_saturated_iops_times_stock", ours.migrating / stock.iops, ">=0.95")
        self.result("drain_saturated_stock_p50_ms", stock.p50, ">=100")
        self.result("drain_saturated_right_forecasts", ours.right_forecasts, ">=0.95")
        stock, ours = self.side_by_side(THREADS, 64, 25)
        self.result("drain_threads_p99_times_latency", ours.p99 * 1e3 / THREADS.latency_us, "<1.25")
        self.result("drain_threads_iops_times_stock", ours.migrating / stock.iops, ">=0.95")
        stock, ours = self.side_by_side(UNSATURATED, 8, 25)
        self.result("drain_unsaturated_p99_times_stock", ours.p99 / stock.p99, "<1.1")
        self.result("drain_unsaturated_iops_times_stock", ours.migrating / stock.iops, ">=0.95")

    def depths(self) -> None:
        """Drain against depth, with stock disks and with the engine's."""
        print(f"   four disks: {SATURATED}; {CURVE_STOPS} stops\n   {'':8} {'depth':>6} {HEADINGS}")
        with self.stock(SATURATED) as guest:
            for depth in DEPTHS:
                print(f"   {'stock':8} {depth:6} {measure(guest, depth, CURVE_STOPS)}", flush=True)
        with self.engine(SATURATED) as (guest, _):
            for depth in DEPTHS:
                print(f"   {'engine':8} {depth:6} {measure(guest, depth, CURVE_STOPS)}", flush=True)

    def targets(self) -> None:
        """What throughput a target costs while a guest migrates."""
        print(f"   four disks at depth 64: {SATURATED}; {CURVE_STOPS} stops\n   {'':8} {'T ms':>6} {HEADINGS}")
        with self.engine(SATURATED) as (guest, engine):
            for target in TARGETS_MS:
                engine.ask("set-drain-target", group=GROUP, milliseconds=target)
                print(f"   {'engine':8} {target:6} {measure(guest, 64, CURVE_STOPS)}", flush=True)

    def curves(self) -> None:
        self.depths()
        self.targets()

    def stock_forecasts(self) -> None:
        """How right the drains of QEMU's own disks are forecast."""
        for storage, depth in ((SATURATED, 64), (THREADS, 64), (UNSATURATED, 8)):
            for ask_qemu in (False, True):
                with self.stock(storage) as guest, \
                     contextlib.closing(StockForecast(self.forecaster, guest, ask_qemu)) as forecast:
                    figures = measure(guest, depth, CURVE_STOPS, forecast.forecast)
                print(f"   {storage}; depth {depth}; QEMU {'' if ask_qemu else 'not '}asked: {figures.iops:.0f} IOPS, forecast p50 "
                      f"{statistics.median(figures.forecasts):.1f} ms, drain p50 {figures.p50:.1f} ms, "
                      f"{100 * figures.right_forecasts:.0f} % within 30 % or 5 ms", flush=True)

    def nr_requests(self) -> None:
        """What a guest gains that asks for less at a time."""
        with self.stock(SATURATED) as guest:
            for most in NR_REQUESTS:
                guest.check(f"for disk in /sys/block/vd*; do echo {most} >$disk/queue/nr_requests; done")
                print(f"   nr_requests {most:4}: {measure(guest, 64, CURVE_STOPS)}", flush=True)
