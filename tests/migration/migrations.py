# SPDX-License-Identifier: Apache-2.0
"""host/'s migrations from Python: asked for, watched and steered through migration_process."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import pathlib
import subprocess
import threading
import time

from hosts import MIGRATE_URI
from managed import Managed

PROGRAM = pathlib.Path(os.environ.get("AIOLOS", pathlib.Path(__file__).resolve().parents[2] / "build/dev/bin/aiolos")).parent / "migration_process"


class MigrationError(Exception):
    """An error, with its `kind` and `next`."""

    def __init__(self, error: dict):
        super().__init__(error["message"])
        self.kind = error["kind"]
        self.next = error["next"]


class Migrations(Managed):
    """Those of one host's libvirt."""

    def __init__(self, uri: str):
        super().__init__()
        self._uri = uri
        self._numbers = itertools.count(1)
        self._waiting: dict[int, concurrent.futures.Future] = {}
        self._process: subprocess.Popen | None = None

    def open(self) -> None:
        self._process = subprocess.Popen([str(PROGRAM), self._uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.undo(self._process.kill)
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        super().close()
        self._process.wait(20)

    def kill(self) -> None:
        """Ends the process in the middle of what it does."""
        self._process.kill()
        self._process.wait(20)

    def _read(self) -> None:
        for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if "error" in answer:
                waiting.set_exception(MigrationError(answer["error"]))
            else:
                waiting.set_result(answer["result"])
        for waiting in self._waiting.values():
            waiting.set_exception(EOFError("migration_process has ended"))

    def begin(self, verb: str, guest, **members) -> concurrent.futures.Future:
        number = next(self._numbers)
        self._waiting[number] = future = concurrent.futures.Future()
        request = {"id": number, "verb": verb, "domain": guest.uuid(), **members}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return future

    def ask(self, verb: str, guest, timeout: float = 30, **members):
        return self.begin(verb, guest, **members).result(timeout)

    def migrate(self, guest, there, xml: str = "", persistent_xml: str = "", **settings) -> concurrent.futures.Future:
        """Begins to migrate to a host, or to a URI."""
        destination = there if isinstance(there, str) else there.uri
        return self.begin("migrate", guest, destination=destination, xml=xml, persistent_xml=persistent_xml,
                          settings={"uri": MIGRATE_URI, "unsafe": True, **settings})

    def progress(self, guest) -> dict | None:
        return self.ask("progress", guest)

    def wait_until(self, guest, condition, timeout: float = 30) -> dict:
        """Waits for the progress of a running migration to be so."""
        deadline = time.monotonic() + timeout
        while True:
            progress = self.progress(guest)
            if progress and condition(progress):
                return progress
            assert time.monotonic() < deadline, f"it has not come so far: {progress}"
            time.sleep(0.02)
