# SPDX-License-Identifier: Apache-2.0
"""Four disks at 100 ms behind one iothread with `threads`, in a real guest: what the queue plan makes of them.

    measure(aiolos, slow_file)         # {"one": IOPS, "without_plan": .., "with_plan": .., "hot_plugged": ..}

By itself: queues.py AIOLOS SLOW_FILE [LATENCY_US].

Each disk's storage takes 100 ms for a request, however many are in flight (tests/engine/slow_file.cc), so a disk at depth 64 does 640
IOPS where nothing holds its requests up, whatever this machine's speed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests/guest"), str(PROJECT / "tests/e2e")]
import image  # noqa: E402
from guest import Guest  # noqa: E402
from harness import Aiolos, Volume  # noqa: E402

LATENCY_US = 100_000
MIB = 64  # of each disk
DEPTH = 64
SECONDS = 15
DEVS = ("vdb", "vdc", "vdd", "vde")


@contextlib.contextmanager
def slow_volumes(slow_file: pathlib.Path, folder: pathlib.Path, latency_us: int):
    """Four volumes, each on storage of its own."""
    processes, volumes = [], []
    try:
        for number in range(len(DEVS)):
            path, backing, control = (folder / f"{name}-{number}" for name in ("slow", "backing", "control"))
            backing.touch()
            os.truncate(backing, MIB << 20)
            control.write_text(f"delay {latency_us}\n")
            process = subprocess.Popen([slow_file, path, backing, control])
            processes.append((process, path))
            deadline = time.monotonic() + 20
            while not (path.exists() and path.stat().st_size == MIB << 20):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"bench: {slow_file} does not serve {path}")
                time.sleep(0.05)
            info = {"driver_volume_type": "file", "serial": str(uuid.uuid4())[:20],
                    "data": {"path": str(path), "format": "raw"}}
            volumes.append(Volume(path, "raw", info, MIB << 20))
        yield volumes
    finally:
        for process, _ in processes:
            process.terminate()
            process.wait(timeout=20)


def iops(guest: Guest, volumes: list[Volume]) -> float:
    """Of random reads of 4 KiB on all of them at once, each at its own depth."""
    jobs = " ".join(f"--name=j{number} --filename={guest.wait_disk(volume.serial)}"
                    for number, volume in enumerate(volumes))
    common = (f"--rw=randread --bs=4k --direct=1 --ioengine=libaio --iodepth={DEPTH} --time_based --runtime={SECONDS} "
              "--ramp_time=3 --group_reporting --output-format=json")
    text = guest.check(f"fio {common} {jobs}", timeout=SECONDS * 6)
    return json.loads(text[text.index("{"):])["jobs"][0]["read"]["iops"]


def attach(aiolos: Aiolos, volume: Volume, dev: str) -> None:
    answer = aiolos.attach(volume, "--json", dev=dev).json()
    if answer["aio"]["mode"] != "threads" or "iothread='1'" not in answer["xml"]:
        sys.exit(f"bench: {dev} was not attached with threads on the iothread: {answer}")


def measure(binary: pathlib.Path, slow_file: pathlib.Path, latency_us: int = LATENCY_US) -> dict[str, float]:
    """A guest under emulation on a busy machine may not manage 2,560 requests a second: then ask for more latency."""
    folder = image.state_folder() / "bench-queues"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = {}
    try:
        with Guest(iothreads=1) as guest, slow_volumes(slow_file, folder, latency_us) as volumes:
            aiolos = Aiolos(binary, guest, folder)
            by_hand, by_itself = "plan: {automatic: false}\n", "plan: {automatic: true}\n"

            aiolos.configure(by_hand)
            attach(aiolos, volumes[0], DEVS[0])
            figures["one"] = iops(guest, volumes[:1])
            for volume, dev in zip(volumes[1:], DEVS[1:]):
                attach(aiolos, volume, dev)
            figures["without_plan"] = iops(guest, volumes)
            aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name, "--apply")
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
    return figures


if __name__ == "__main__":
    arguments = [pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), *(int(each) for each in sys.argv[3:])]
    for name, value in measure(*arguments).items():
        print(f"{name:14} {value:8.0f} IOPS")
