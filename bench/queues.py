# SPDX-License-Identifier: Apache-2.0
"""Four slow disks behind one iothread with `threads`: what the queue plan makes of them.

    in_guest(aiolos, slow_file)                                 # of 100 ms, in a real guest, planned by `aiolos`
    in_storage_daemon(slow_file, engine_load, pool, latency)    # QEMU's iothread and block layer without a guest

Each gives IOPS: {"one": .., "without_plan": .., "with_plan": .., "hot_plugged": ..}.

Each disk's storage takes its time for a request, however many are in flight (tests/engine/slow_file.cc): at 100 ms a disk at
depth 64 does 640 IOPS where nothing holds its requests up, whatever this machine's speed. Four do 2,560, which an emulated guest
asks for only on a fast machine; at 10 ms they do 25,600. In qemu-storage-daemon the same engine gets its requests through vhost-user.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import tempfile
import uuid

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests/guest"), str(PROJECT / "tests/e2e")]
import image  # noqa: E402
from guest import Guest  # noqa: E402
from engine_bench import daemon_command, load, serving, slow_files  # noqa: E402
from harness import Aiolos, Volume  # noqa: E402
from qemu import Qmp  # noqa: E402

DEPTH = 64
BATCH = 16
SECONDS = 15
DEVS = ("vdb", "vdc", "vdd", "vde")


def volume_on(path: pathlib.Path) -> Volume:
    """One that the guest may punch holes into, so that it gets `threads` and not `native`."""
    info = {"driver_volume_type": "file", "serial": str(uuid.uuid4())[:20],
            "data": {"path": str(path), "format": "raw", "discard": True}}
    return Volume(path, "raw", info, path.stat().st_size)


def iops(guest: Guest, volumes: list[Volume]) -> float:
    """Of random reads of 4 KiB on all of them at once, each at its own depth. They are asked for BATCH at a time, as an
    emulated processor is too slow for 2,500 interrupts a second."""
    jobs = " ".join(f"--name=j{number} --filename={guest.wait_disk(volume.serial)}"
                    for number, volume in enumerate(volumes))
    common = (f"--rw=randread --bs=4k --direct=1 --ioengine=libaio --iodepth={DEPTH} "
              f"--iodepth_batch_submit={BATCH} --iodepth_batch_complete_min={BATCH} --gtod_reduce=1 --time_based --runtime={SECONDS} "
              "--ramp_time=3 --group_reporting --output-format=json")
    text = guest.check(f"fio {common} {jobs}", timeout=SECONDS * 6)
    return json.loads(text[text.index("{"):])["jobs"][0]["read"]["iops"]


def attach(aiolos: Aiolos, volume: Volume, dev: str) -> None:
    answer = aiolos.attach(volume, "--json", dev=dev).json()
    if answer["aio"]["mode"] != "threads" or "iothread='1'" not in answer["xml"]:
        sys.exit(f"bench: {dev} was not attached with threads on the iothread: {answer}")


def plan(aiolos: Aiolos, guest: Guest) -> int:
    """Plans the guest's engines and applies it. @return how many threads the iothread may have then."""
    done = aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name, "--apply", "--json").json()
    return next(each["to"] for each in done["applied"] if each["what"] == "thread_pool_max of iothread 1")


def in_guest(binary: pathlib.Path, slow_file: pathlib.Path) -> tuple[dict[str, float], int]:
    """@return the figures, and the pool that the plan gives to four disks."""
    folder = image.state_folder() / "bench-queues"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = {}
    try:
        with Guest(iothreads=1) as guest, slow_files(slow_file, folder, len(DEVS), 100_000) as files:
            volumes = [volume_on(path) for path in files]
            aiolos = Aiolos(binary, guest, folder)
            by_hand, by_itself = "plan: {automatic: false}\n", "plan: {automatic: true}\n"

            aiolos.configure(by_hand)
            attach(aiolos, volumes[0], DEVS[0])
            figures["one"] = iops(guest, volumes[:1])
            for volume, dev in zip(volumes[1:], DEVS[1:]):
                attach(aiolos, volume, dev)
            figures["without_plan"] = iops(guest, volumes)
            pool = plan(aiolos, guest)
            figures["with_plan"] = iops(guest, volumes)

            aiolos.configure(by_itself)
            for dev in reversed(DEVS):
                aiolos.detach(dev=dev)
            for volume, dev in zip(volumes, DEVS):
                attach(aiolos, volume, dev)
            figures["hot_plugged"] = iops(guest, volumes)
            for dev in reversed(DEVS):
                aiolos.detach(dev=dev)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures, pool


def set_pool(qemu: Qmp, threads: int) -> None:
    qemu.ask("qom-set", {"path": "/objects/io", "property": "thread-pool-max", "value": threads})


def plug_in(qemu: Qmp, number: int, file: pathlib.Path, at: pathlib.Path) -> None:
    qemu.ask("blockdev-add", {"driver": "file", "node-name": f"f{number}", "filename": str(file), "aio": "threads", "cache": {"direct": True}})
    qemu.ask("block-export-add", {"type": "vhost-user-blk", "id": f"e{number}", "node-name": f"f{number}", "iothread": "io",
                                  "writable": True, "addr": {"type": "unix", "path": str(at)}})


def in_storage_daemon(slow_file: pathlib.Path, engine_load: pathlib.Path, pool: int, latency_us: int) -> dict[str, float]:
    """@param pool threads for four disks, as planned for the guest; a disk that is plugged in gets its part of them."""
    figures = {}
    count = len(DEVS)
    with tempfile.TemporaryDirectory() as name, slow_files(slow_file, pathlib.Path(name), count, latency_us) as files:
        folder = pathlib.Path(name)
        at = folder / "monitor"
        sockets = [folder / f"socket{number}" for number in range(count)]
        monitor = ["--chardev", f"socket,id=monitor,path={at},server=on,wait=off", "--monitor", "chardev=monitor"]

        def measured(pid: int, used: list[pathlib.Path]) -> float:
            return load(engine_load, pid, used, DEPTH, seconds=SECONDS)["iops"]

        def command(served: int) -> list[object]:
            return daemon_command(files[:served], sockets[:served], "threads", "on") + monitor

        with serving(command(1), [sockets[0], at]) as pid:
            figures["one"] = measured(pid, sockets[:1])
        with serving(command(count), [*sockets, at]) as pid:
            figures["without_plan"] = measured(pid, sockets)
            set_pool(Qmp(at), pool)
            figures["with_plan"] = measured(pid, sockets)
        with serving(command(1), [sockets[0], at]) as pid:
            qemu = Qmp(at)
            for number in range(1, count):
                set_pool(qemu, pool * (number + 1) // count)
                plug_in(qemu, number, files[number], sockets[number])
            figures["hot_plugged"] = measured(pid, sockets)
    return figures
