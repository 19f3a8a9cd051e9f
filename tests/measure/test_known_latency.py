# SPDX-License-Identifier: Apache-2.0
"""`aiolos measure` on storage whose answer is known: a file each of whose requests takes 20 ms (tests/engine/slow_file.cc)."""

from __future__ import annotations

import contextlib
import subprocess
import time

import pytest

from harness import aiolos_binary

SECONDS = 0.020


@pytest.fixture
def slow_file(folder):
    program = aiolos_binary().parent / "slow_file"
    backing, file, control = folder / "backing", folder / "slow", folder / "control"
    backing.write_bytes(bytes(16 << 20))
    control.write_text(f"delay {SECONDS * 1e6:.0f}")
    process = subprocess.Popen([program, file, backing, control])
    deadline = time.monotonic() + 10
    while not (file.exists() and file.stat().st_size == 16 << 20):
        assert process.poll() is None and time.monotonic() < deadline, "slow_file does not serve"
        time.sleep(0.02)
    yield file
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()


def test_latency_and_rate_are_what_the_storage_has(aiolos, slow_file):
    report = aiolos.json("measure", "--path", slow_file, "--operations", "read", "--patterns", "random", "--depths", "1,8,128",
                         "--disks", "1", "--seconds", "1", "--repetitions", "1", "--no-limit")
    found = {case["depth"]: case["modes"] for case in report["subjects"][0]["cases"]}
    for depth in (1, 8):
        for mode, figures in found[depth].items():
            assert 0.7 * depth / SECONDS < figures["iops"]["median"] < 1.02 * depth / SECONDS, (depth, mode, figures)
            assert SECONDS * 1e6 <= figures["p50_us"]["median"] < 1.5 * SECONDS * 1e6, (depth, mode, figures)
    # QEMU's pool has 64 threads: half of 128 requests wait for the other half. The kernel's queues take them all.
    assert found[128]["threads"]["iops"]["median"] < 1.02 * 64 / SECONDS
    assert found[128]["threads"]["p50_us"]["median"] > 1.8 * SECONDS * 1e6
    for mode in ("native", "io_uring"):
        assert found[128][mode]["iops"]["median"] > 1.3 * found[128]["threads"]["iops"]["median"], (mode, found[128])
    profile = report["subjects"][0]["profile"]
    assert profile["modes"][-1]["mode"] == "threads"
    assert profile["widest_case"] == "random read 4 KiB, depth 128, 1 disk"
