# SPDX-License-Identifier: Apache-2.0
"""The data plane beside QEMU's own: aiolos-engine and qemu-storage-daemon serve the same files to the same load, in turns."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

FILE = 256 << 20
TICKS = os.sysconf("SC_CLK_TCK")


def wait_for_sockets(process: subprocess.Popen, sockets: list[pathlib.Path]) -> None:
    deadline = time.monotonic() + 20
    while not all(at.exists() for at in sockets):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench/run: {process.args[0]} does not serve")
        time.sleep(0.02)


@contextlib.contextmanager
def serving(command: list[object], sockets: list[pathlib.Path]) -> Iterator[int]:
    """A server while it is used; its process id."""
    for at in sockets:
        at.unlink(missing_ok=True)
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_sockets(process, sockets)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def engine_command(engine: pathlib.Path, files: list[pathlib.Path], sockets: list[pathlib.Path], aio: str, direct: str) -> list[object]:
    command: list[object] = [engine]
    for file, at in zip(files, sockets):
        command += ["--disk", f"path={file},socket={at},aio={aio},direct={direct}"]
    return command


def daemon_command(files: list[pathlib.Path], sockets: list[pathlib.Path], aio: str, direct: str) -> list[object]:
    """One iothread for all disks, as aiolos-engine has one reactor for them."""
    command: list[object] = ["qemu-storage-daemon", "--object", "iothread,id=io"]
    for i, (file, at) in enumerate(zip(files, sockets)):
        command += ["--blockdev", f"driver=file,node-name=f{i},filename={file},aio={aio},cache.direct={direct}", "--export",
                    f"type=vhost-user-blk,id=e{i},node-name=f{i},addr.type=unix,addr.path={at},writable=on,iothread=io"]
    return command


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def load(program: pathlib.Path, pid: int, sockets: list[pathlib.Path], depth: int, size: int = 4096, seconds: float = 2.0) -> dict:
    """What engine_load found, with the processor seconds that the server took meanwhile."""
    command = [program, "--depth", depth, "--bytes", size, "--seconds", seconds, *sockets]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    used, answer = 0.0, {}
    for line in process.stdout:
        if line == "begin\n":
            used = cpu_seconds(pid)
        elif line == "end\n":
            used = cpu_seconds(pid) - used
        else:
            answer = json.loads(line)
    if process.wait() != 0 or answer["errors"]:
        raise SystemExit(f"bench/run: engine_load ended with {process.returncode}, {answer}")
    answer["iops_per_cpu_second"] = answer["iops"] * seconds / max(used, 1 / TICKS)
    return answer


def fio_iops(file: pathlib.Path, depth: int, seconds: int, direct: str) -> float:
    done = subprocess.run(["fio", "--name=limit", f"--filename={file}", "--ioengine=io_uring", "--rw=randread", "--bs=4k",
                           f"--iodepth={depth}", f"--direct={int(direct == 'on')}", "--time_based", f"--runtime={seconds}", "--output-format=json",
                           "--invalidate=0"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["read"]["iops"]


@contextlib.contextmanager
def slow_files(program: pathlib.Path, folder: pathlib.Path, count: int, delay_us: int, gap_us: int = 0) -> Iterator[list[pathlib.Path]]:
    """Files that take `delay_us` for a request, and at most one of them each `gap_us`."""
    processes, files = [], []
    try:
        for i in range(count):
            backing, at, control = (folder / f"{name}{i}" for name in ("backing", "slow", "control"))
            backing.write_bytes(b"")
            os.truncate(backing, 16 << 20)
            control.write_text(f"delay {delay_us} gap {gap_us}")
            process = subprocess.Popen([str(program), str(at), str(backing), str(control)])
            processes.append(process)
            files.append(at)
            # It sleeps nearly all the time; when it is to wake up nothing else may keep it from that, or its latency is not known.
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(process.pid, os.SCHED_RR, os.sched_param(1))
        deadline = time.monotonic() + 10
        while not all(at.exists() and at.stat().st_size for at in files) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield files
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


class EngineBench:
    """On files in `folder`: past the page cache if `direct` is on, else in memory if that is a tmpfs."""

    def __init__(self, build: pathlib.Path, folder: pathlib.Path, direct: str, result: Callable[[str, float, str], None]):
        self.engine = build / "bin/aiolos-engine"
        self.loader = build / "bin/engine_load"
        self.slow_file = build / "bin/slow_file"
        self.folder = folder
        self.direct = direct
        self.where = "file" if direct == "on" else "memory"
        self.result = result
        self.sockets = [folder / f"s{i}" for i in range(16)]
        self.files = []
        for i in range(16):
            file = folder / f"disk{i}"
            with open(file, "wb") as out:
                out.write(os.urandom(1 << 20) * (FILE // 16 >> 20))
                os.fsync(out.fileno())
            self.files.append(file)

    def servers(self, count: int, aio: str = "io_uring") -> dict[str, list[object]]:
        files, sockets = self.files[:count], self.sockets[:count]
        return {"engine": engine_command(self.engine, files, sockets, aio, self.direct),
                "qsd": daemon_command(files, sockets, aio, self.direct)}

    def in_turns(self, count: int, depth: int, size: int, seconds: float, rounds: int = 1) -> dict[str, list[dict]]:
        """Both servers, one after the other in each round, so that a machine that slows down does so for both."""
        found: dict[str, list[dict]] = {"engine": [], "qsd": []}
        for _ in range(rounds):
            for name, command in self.servers(count).items():
                with serving(command, self.sockets[:count]) as pid:
                    found[name].append(load(self.loader, pid, self.sockets[:count], depth, size, seconds))
        return found

    def table(self) -> None:
        print(f"   4 KiB and 128 KiB random reads from {self.where}, io_uring; IOPS, and IOPS per processor second")
        print(f"   {'disks':>5} {'depth':>5} {'KiB':>4} {'engine':>9} {'qsd':>9} {'ratio':>6} {'engine/cpu':>11} {'qsd/cpu':>9} {'ratio':>6}")
        for size in (4096, 131072):
            for count in (1, 4, 16):
                for depth in (1, 32, 256):
                    ours, theirs = (one[0] for one in self.in_turns(count, depth, size, 1.0).values())
                    print(f"   {count:5} {depth:5} {size >> 10:4} {ours['iops']:9.0f} {theirs['iops']:9.0f} "
                          f"{ours['iops'] / theirs['iops']:6.2f} {ours['iops_per_cpu_second']:11.0f} "
                          f"{theirs['iops_per_cpu_second']:9.0f} {ours['iops_per_cpu_second'] / theirs['iops_per_cpu_second']:6.2f}",
                          flush=True)

    def bars(self) -> None:
        def median_of(runs: list[dict], key: str) -> float:
            return statistics.median(run[key] for run in runs)
        deep: dict[str, list[dict]] = {"engine": [], "qsd": []}
        fio = []
        for _ in range(5):
            for name, runs in self.in_turns(1, 32, 4096, 2.0).items():
                deep[name] += runs
            fio.append(fio_iops(self.files[0], 32, 2, self.direct))
        self.result(f"engine_{self.where}_iops_per_cpu_second_times_qsd", median_of(deep["engine"], "iops_per_cpu_second") /
                    median_of(deep["qsd"], "iops_per_cpu_second"), ">=1.3")
        shallow = self.in_turns(1, 1, 4096, 2.0, rounds=5)
        self.result(f"engine_{self.where}_depth1_latency_times_qsd", median_of(shallow["engine"], "p50_us") / median_of(shallow["qsd"], "p50_us"), "<1.0")
        self.result(f"engine_{self.where}_iops_times_fio", median_of(deep["engine"], "iops") / statistics.median(fio), ">=0.85")

    def shared_threads(self) -> None:
        """Four disks of 100 ms at depth 64 on one engine, against one: stock QEMU's pool of 64 threads gives them one disk's."""
        with slow_files(self.slow_file, self.folder, 4, 100_000) as files:
            found = {}
            for count in (1, 4):
                sockets = self.sockets[:count]
                with serving(engine_command(self.engine, files[:count], sockets, "threads", "off"), sockets) as pid:
                    found[count] = load(self.loader, pid, sockets, 64, 4096, 5.0)["iops"]
        print(f"   100 ms, depth 64, threads: one disk {found[1]:.0f} IOPS, four {found[4]:.0f}")
        self.result("engine_four_slow_disks_times_one", found[4] / found[1], ">=3.5")

    def quiet_beside_busy(self) -> None:
        """One disk at depth 256 beside fifteen at depth 1, each with storage of 2 ms and so alone in its latency."""
        with slow_files(self.slow_file, self.folder, 16, 2_000) as files:
            with serving(engine_command(self.engine, files, self.sockets, "io_uring", "off"), self.sockets) as pid:
                alone = load(self.loader, pid, self.sockets[1:2], 1, 4096, 2.0)["iops"]
                busy = subprocess.Popen([str(self.loader), "--depth", "256", "--seconds", "6", str(self.sockets[0])],
                                        stdout=subprocess.DEVNULL)
                time.sleep(1.5)
                quiet = load(self.loader, pid, self.sockets[1:], 1, 4096, 3.0)["per_disk"]
                busy.wait()
        print(f"   2 ms: a quiet disk alone {alone:.0f} IOPS, the slowest of fifteen beside a busy one {min(quiet)}")
        self.result("engine_quiet_disk_beside_busy_times_alone", min(quiet) / alone, ">=0.9")

    def against_others(self) -> None:
        self.bars()
        self.table()

    def slow_storage(self) -> None:
        self.shared_threads()
        self.quiet_beside_busy()
