# SPDX-License-Identifier: Apache-2.0
"""What disks that QEMU serves get at a migration: their drain is forecast, the moment chosen by it, and nr_requests lowered
in the guest by its agent. On storage of 500 IOPS at 10 ms, where 64 requests in flight take 128 ms."""

import contextlib
import json
import re
import subprocess
import time

import pytest
from harness import TRY_AGAIN, aiolos_binary
from hosts import MIGRATE_URI, MobileGuest
from qemu import TRACES, drains
from test_migrate import SLOW, Move, Side, assert_settled, attach, job_of, kill, make_volume, wait_for

AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
KNOWN_STORAGE = "plan: {storage: {file: {iops: 500, latency_ms: 10}}}\n"


@pytest.fixture
def slow_volume(hosts, storage):
    """Each host's QEMU sees it in its own mount namespace."""
    volume = make_volume(storage)
    backing = volume.path.rename(storage / "backing")
    volume.path.touch()
    (storage / "control").write_text("delay 10000 gap 2000\n")
    program = aiolos_binary().parent / "slow_file"
    serving = [subprocess.Popen(host.command(program, volume.path, backing, storage / "control")) for host in hosts]
    try:
        for host in hosts:
            wait_for(lambda: subprocess.run(host.command("mountpoint", "-q", volume.path), check=False).returncode == 0,
                     "the mount", timeout=20)
        yield volume
    finally:
        for process in serving:
            process.terminate()
            process.wait(20)


@pytest.fixture
def agent_guest(hosts, kept_guest, slow_volume):
    """A guest with an agent, on the first host; the two sides, and its disk of the slow volume."""
    while kept_guest:
        kept_guest.pop().destroy()  # there is room for one guest
    guest = MobileGuest(hosts[0], iothreads=1, devices=AGENT).start()
    try:
        here, there = (Side(host, guest, "qemu") for host in hosts)
        yield guest, here, there, attach(here, guest, slow_volume)
    finally:
        for host in hosts:
            if guest.name in host.running():
                guest.moved(host)
        with contextlib.suppress(Exception):
            guest.run("killall -CONT qemu-ga; killall -9 fio")
        guest.destroy()


def allow(side: Side, **keys: str) -> None:
    """Sets keys of the section `migration`, and says how fast the storage is."""
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    text = side.aiolos.config.read_text()
    side.aiolos.config.write_text(text.replace(f'migration: {{uri: "{MIGRATE_URI}"', f'migration: {{uri: "{MIGRATE_URI}"{more}')
                                  + KNOWN_STORAGE)


def start_load(guest, device: str, seconds: int) -> None:
    guest.check(f"(fio --name=load --filename={device} --rw=randread --bs=4k --iodepth=64 --ioengine=libaio --direct=1 "
                f"--time_based --runtime={seconds} --output=/run/fio.out; echo $? >/run/fio.status) >/dev/null 2>&1 & "
                "rm -f /run/fio.status; sleep 3; pidof fio")


def trace_stops(guest) -> None:
    for trace in TRACES:
        guest.virsh("qemu-monitor-command", guest.name,
                    json.dumps({"execute": "trace-event-set-state", "arguments": {"name": trace, "enable": True}}))


def depth(guest, device: str) -> int:
    return int(guest.check(f"cat /sys/block/{device.removeprefix('/dev/')}/queue/nr_requests"))


def agent_answers(guest) -> bool:
    try:
        guest.virsh("qemu-agent-command", guest.name, '{"execute": "guest-ping"}', "--timeout", "2", timeout=20)
        return True
    except Exception:  # not yet
        return False


@pytest.mark.parametrize("ask_qemu", ["false", "true"])
def test_the_drain_is_forecast_as_it_is(agent_guest, ask_qemu):
    guest, here, there, device = agent_guest
    for side in (here, there):
        allow(side, ask_qemu=ask_qemu)
    start_load(guest, device, seconds=100)
    for _ in range(3):  # on a busy machine the guest does not always keep its queue full
        trace_stops(guest)
        log = guest.qemu_log
        report = Move(here, there, guest, *SLOW).end()
        took = 1e3 * drains(log.read_text(errors="replace"))[-1]
        forecast = pytest.approx(took, rel=0.3, abs=5)
        said = report["disks"][0]["drain_predicted_us"] / 1e3
        print(f"drain forecast {said:.1f} ms, took {took:.1f} ms")
        assert not report["disks"][0]["drain_outlook"]["bounded"]
        assert_settled(guest, there, here)
        here, there = there, here
        if said == forecast:
            break
    assert said == forecast


def test_a_rehearsal_says_what_a_drain_would_take_and_what_would_bound_it(agent_guest):
    guest, here, there, device = agent_guest
    allow(here)
    start_load(guest, device, seconds=20)
    disk = Move(here, there, guest, "--dry-run").end()["disks"][0]
    assert disk["drain_predicted_us"] > 60_000
    assert disk["drain_outlook"]["longest_us"] >= 512_000  # a queue for each processor that the guest could have
    assert any("queue_size" in each for each in disk["drain_outlook"]["helps"])


def test_a_burst_is_waited_for(agent_guest):
    guest, here, there, device = agent_guest
    start_load(guest, device, seconds=12)
    report = Move(here, there, guest, "--max-drain", "40ms", "--deadline", "90s").end()
    assert report["disks"][0]["drain_predicted_us"] <= 40_000
    assert_settled(guest, there, here)
    assert guest.run("pidof fio").status != 0  # it went when the burst was over


def test_a_load_without_end_keeps_the_guest_here(agent_guest):
    guest, here, there, device = agent_guest
    start_load(guest, device, seconds=60)
    error = Move(here, there, guest, "--max-drain", "40ms", "--deadline", "8s").end(expect=TRY_AGAIN)["error"]
    assert "its drain would take" in error["message"]
    assert_settled(guest, here, there)


def test_the_agent_lowers_what_is_in_flight_and_puts_it_back(agent_guest):
    guest, here, there, device = agent_guest
    wait_for(lambda: agent_answers(guest), "the agent's answer")
    allow(here, guest_agent="true")
    before = depth(guest, device)
    assert before > 7
    start_load(guest, device, seconds=60)
    trace_stops(guest)
    log = guest.qemu_log
    report = Move(here, there, guest, *SLOW).end()
    assert any(re.search(rf"nr_requests of 'vdb' lowered from {before} to 7", note) for note in report["notes"]), report
    took = 1e3 * drains(log.read_text(errors="replace"))[-1]
    print(f"drain forecast {report['disks'][0]['drain_predicted_us'] / 1e3:.1f} ms, took {took:.1f} ms")
    assert took < 60
    assert_settled(guest, there, here)
    assert depth(guest, device) == before
    assert len(report["notes"]) == 1, report["notes"]


@pytest.mark.parametrize("end", ["killed", "interrupted"])
def test_what_was_lowered_is_put_back_whatever_happens(agent_guest, end):
    guest, here, there, device = agent_guest
    wait_for(lambda: agent_answers(guest), "the agent's answer")
    allow(here, guest_agent="true")
    before = depth(guest, device)
    move = Move(here, there, guest, "--bandwidth", "8")
    wait_for(lambda: job_of(guest, here), "the migration")
    assert depth(guest, device) == 7
    if end == "killed":
        kill(move, guest, here, there)
        there.reconcile()
        here.reconcile()
    else:
        move.process.terminate()
        move.process.communicate(timeout=60)
    if guest.name in there.host.running():
        here, there = there, here
    assert_settled(guest, here, there)
    assert depth(guest, device) == before


@pytest.mark.parametrize("agent", ["stopped", "ended"])
def test_a_guest_whose_agent_does_not_answer_moves_all_the_same(agent_guest, agent):
    guest, here, there, device = agent_guest
    wait_for(lambda: agent_answers(guest), "the agent's answer")
    guest.check(f"killall -{'STOP' if agent == 'stopped' else 'KILL'} qemu-ga")
    allow(here, guest_agent="true")
    begun = time.monotonic()
    report = Move(here, there, guest).end()
    assert any("nr_requests of 'vdb' is not lowered" in note for note in report["notes"]), report
    assert time.monotonic() - begun < 60
    assert_settled(guest, there, here)
