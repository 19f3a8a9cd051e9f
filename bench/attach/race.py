#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Seven iSCSI volumes of seven targets connected side by side, alone and beside an eighth whose portal swallows all packets.

    race.py [--rounds N] [--os-brick-rounds N]      in a storage VM, with AIOLOS set (tests/storage/storage_vm.py)

Aiolos runs its whole attach, with journal and probes, for guests that are files (tests/flows), each in a process of its own as
the command is. os-brick connects from threads of one process, as nova-compute does, with its commands run directly, not
through privsep, and its lock files in memory. The eighth has half a second's start. iscsid has open-iscsi's defaults for
logging in. Each round is: the seven alone, disconnect, the eight, disconnect. The last line is JSON:

    {"aiolos": [{"alone": S, "beside": S, "hanging": S}], "os-brick": [..]}

in seconds until the last of the seven was connected, and until the eighth gave up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS / name) for name in ("storage", "guest", "e2e")]
from flows import Flows  # noqa: E402
from host_state import host_state, wait_for_host_state  # noqa: E402
from targets import Initiator, IscsiTarget, Network, Volume  # noqa: E402
from tools import MIB  # noqa: E402

SEVEN, HANGING = range(7), 7
HEAD_START = 0.5  # seconds


class Aiolos:
    def __init__(self, stack: contextlib.ExitStack, infos: list[dict]):
        self.infos = infos
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.flows = [stack.enter_context(Flows(folder)) for _ in infos]

    def connect(self, number: int) -> bool:
        answer = self.flows[number].ask("attach", domain=f"guest{number}", target="vdb",
                                        connection_info=self.infos[number])
        if "error" in answer:
            print(f"   Aiolos, volume {number}: {answer['error']['message']}", file=sys.stderr)
        return "result" in answer

    def disconnect(self, number: int) -> None:
        self.flows[number].done("detach", domain=f"guest{number}", target="vdb")


class OsBrick:
    def __init__(self, stack: contextlib.ExitStack, infos: list[dict]):
        import os_brick.privileged
        from os_brick.initiator import connector
        from os_brick.privileged import rootwrap
        from oslo_config import cfg
        os_brick.privileged.default.set_client_mode(False)
        logging.disable(logging.CRITICAL)
        cfg.CONF.set_override("lock_path", stack.enter_context(tempfile.TemporaryDirectory(dir="/run")), "os_brick")

        def execute(*command, run_as_root=False, root_helper=None, **options):
            return rootwrap.custom_execute(*command, shell=False, **options)

        self.infos = infos
        self.connectors = [connector.InitiatorConnector.factory("ISCSI", "", execute=execute) for _ in infos]
        self.devices: dict[int, dict] = {}

    def connect(self, number: int) -> bool:
        try:
            self.devices[number] = self.connectors[number].connect_volume(dict(self.infos[number]["data"]))
        except Exception as error:  # of a dozen kinds; that the seven do not fail is checked
            print(f"   os-brick, volume {number}: {type(error).__name__}: {error}", file=sys.stderr)
            return False
        return True

    def disconnect(self, number: int) -> None:
        self.connectors[number].disconnect_volume(dict(self.infos[number]["data"]), self.devices.pop(number))


class Run(threading.Thread):
    """Connects one volume."""

    def __init__(self, connect: Callable[[int], bool], number: int):
        super().__init__()
        self.work = connect
        self.number = number
        self.connected = False
        self.begun = self.ended = 0.0
        self.start()

    def run(self) -> None:
        self.begun = time.monotonic()
        self.connected = self.work(self.number)
        self.ended = time.monotonic()


def seven(side) -> float:
    """Seconds until the last of them was connected."""
    runs = [Run(side.connect, number) for number in SEVEN]
    for run in runs:
        run.join()
    if not all(run.connected for run in runs):
        sys.exit(f"race: {type(side).__name__} could not connect all of the seven")
    return max(run.ended for run in runs) - min(run.begun for run in runs)


def one_round(side, before: dict) -> dict[str, float]:
    found = {"alone": seven(side)}
    disconnect(side, before)
    hanging = Run(side.connect, HANGING)
    time.sleep(HEAD_START)
    found["beside"] = seven(side)
    hanging.join()
    if hanging.connected:
        sys.exit("race: the volume behind the portal that swallows all packets was connected")
    found["hanging"] = hanging.ended - hanging.begun
    disconnect(side, before)
    print(f"   {type(side).__name__}: " + ", ".join(f"{name} {took:.1f} s" for name, took in found.items()), file=sys.stderr,
          flush=True)
    return found


def disconnect(side, before: dict) -> None:
    for number in SEVEN:
        side.disconnect(number)
    wait_for_host_state(before, timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--os-brick-rounds", type=int, default=1)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        network, initiator = stack.enter_context(Network()), stack.enter_context(Initiator())
        infos = []
        for number in (*SEVEN, HANGING):
            volume = stack.enter_context(Volume(16 * MIB))
            target = stack.enter_context(IscsiTarget(network, initiator))
            infos.append(target.connection_info(target.map(volume)))
        infos[HANGING]["data"]["target_portal"] = f"{network.portals[1]}:{IscsiTarget.port}"
        network.swallow(1)
        stack.callback(network.deliver, 1)
        before = host_state()
        aiolos, os_brick = Aiolos(stack, infos), OsBrick(stack, infos)
        seven(aiolos)  # an emulated processor compiles whatever it runs for the first time
        disconnect(aiolos, before)
        seven(os_brick)
        disconnect(os_brick, before)
        found = {"aiolos": [one_round(aiolos, before) for _ in range(options.rounds)],
                 "os-brick": [one_round(os_brick, before) for _ in range(options.os_brick_rounds)]}
    print(json.dumps(found))


main()
