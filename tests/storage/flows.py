# SPDX-License-Identifier: Apache-2.0
"""Aiolos' flows on real storage without a real guest: attach, detach and reconcile in milliseconds; see flows_process.cc."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

from harness import aiolos_binary
from tools import Managed, StorageError

KILLED = {"killed": True}
MOMENT = ("KILL_AT", "KILL_JOURNAL", "KILL_MOMENTS")


class Flows(Managed):
    """A process that runs one request after the other, with a journal of its own."""

    def __init__(self, folder: pathlib.Path, configuration: str = "", preload: pathlib.Path | None = None,
                 stay: bool = False, within=None):
        """configuration: YAML for the drivers' sections. preload: a library to run it with. stay: all requests run in
        the process itself, not in a child each. within: the namespaces to run it in."""
        super().__init__()
        self.stay = stay
        self.state = folder / "state"
        self.config = folder / "flows.yaml"
        plugins = aiolos_binary().parent.parent / "lib/aiolos/plugins"
        self.config.write_text(f"state: {{dir: {self.state}}}\nplugins: {{path: [{plugins}]}}\n{configuration}")
        self.preload = preload
        self.within = within
        self.process: subprocess.Popen | None = None

    def open(self) -> None:
        environment = os.environ | ({"LD_PRELOAD": str(self.preload)} if self.preload else {})
        command = [str(aiolos_binary().parent / "flows_process"), str(self.config)]
        self.process = subprocess.Popen(self.within.command(*command) if self.within else command, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.undo(self.process.wait, 60)
        self.undo(self.process.stdin.close)

    def ask(self, verb: str, environment: dict[str, str] | None = None, **more: object) -> dict:
        """The answer as it is; StorageError if the process cannot say one."""
        chosen = {name: value for name, value in (environment or {}).items() if name in MOMENT}
        request = {"verb": verb, "environment": chosen, "stay": self.stay, **more}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise StorageError(f"flows_process ended with status {self.process.wait(60)}")
        return json.loads(line)

    def open_files(self) -> list[str]:
        folder = pathlib.Path(f"/proc/{self.process.pid}/fd")
        return sorted(os.readlink(descriptor) for descriptor in folder.iterdir())

    def done(self, verb: str, environment: dict[str, str] | None = None, **more: object):
        """The result of what has to succeed."""
        answer = self.ask(verb, environment, **more)
        if "result" not in answer:
            raise StorageError(f"{verb} failed: {answer}")
        return answer["result"]

    def attach(self, info: dict, environment: dict[str, str] | None = None, target: str = "vdb"):
        return self.done("attach", environment, domain="guest", target=target, connection_info=info)

    def detach(self, environment: dict[str, str] | None = None, target: str = "vdb"):
        return self.done("detach", environment, domain="guest", target=target)
