# SPDX-License-Identifier: Apache-2.0
"""Kills the aiolos command at every moment at which a crash leaves a state of its own.

    moments = Moments(folder, journal)
    for moment in moments.of(lambda environment: attach(env=environment)): ...

The moments are counted in a run that is not killed, so the list follows the code: see kill_at_write.c.
"""

from __future__ import annotations

import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
KILLED = -9


class Moments:
    """Environments for a command, each of which kills it at another moment."""

    def __init__(self, folder: pathlib.Path, journal: pathlib.Path):
        """`folder` is for what this builds and counts; `journal` is the command's journal.sqlite."""
        self.library = folder / "kill_at_write.so"
        self.counter = folder / "moments"
        self.journal = journal
        if not self.library.exists():
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(self.library),
                            str(HERE / "kill_at_write.c"), "-ldl"], check=True, timeout=60)

    def environment(self, moment: int = 0) -> dict[str, str]:
        """Kills at this moment, from 1; 0 only counts."""
        return os.environ | {"LD_PRELOAD": str(self.library), "KILL_JOURNAL": str(self.journal),
                             "KILL_AT": str(moment), "KILL_COUNT": str(self.counter)}

    def count(self, run) -> int:
        """How many there are in one run of a command, which gets its environment."""
        self.counter.unlink(missing_ok=True)
        run(self.environment())
        counted = self.counter.stat().st_size if self.counter.exists() else 0
        assert counted > 0, "the command wrote nothing to its journal: is the preloaded library in use?"
        return counted
