# SPDX-License-Identifier: Apache-2.0
"""Kills the aiolos command at every moment at which a crash leaves a state of its own.

    moments = Moments(folder, journal)
    for moment in moments.of(lambda environment: attach(env=environment)):
        attach(env=moments.environment(moment), expect=KILLED)

The moments are those of a run that is not killed, so the list follows the code: see kill_at_write.c.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

from harness import aiolos_binary

KILLED = -9


class Moment(NamedTuple):
    number: int  # from 1
    when: str  # "before" or "after" the statement is written
    statement: str

    def is_of_driver(self) -> bool:
        """Whether it is the driver that writes this: an effect or a hold. All else is the same for all drivers."""
        return any(f" {table} " in self.statement for table in ("effects", "holds"))

    def begins_effect(self) -> bool:
        return self.statement.startswith("INSERT INTO effects ")


def of_driver(moments: list[Moment]) -> list[Moment]:
    """Those at which the host or the journal is as it is at no other one, because of what the driver does.

    That is after it wrote that it begins an effect, of which nothing has happened yet; before it writes anything else, and
    before what follows its last write, when all has happened that the journal does not know of.
    """
    return [moment for last, moment in zip([None, *moments], moments)
            if moment.begins_effect() and moment.when == "after" or
            not moment.begins_effect() and moment.when == "before" and (moment.is_of_driver() or last and last.is_of_driver())]


class Moments:
    """Environments for a command, each of which kills it at another moment."""

    def __init__(self, folder: pathlib.Path, journal: pathlib.Path):
        """`folder` is for what this lists; `journal` is the command's journal.sqlite."""
        self.library = aiolos_binary().parent.parent / "lib/kill_at_write.so"
        self.listed = folder / "moments"
        self.journal = journal

    def environment(self, moment: Moment | None = None) -> dict[str, str]:
        """Kills at this moment; without one it only lists them."""
        return os.environ | {"LD_PRELOAD": str(self.library), "KILL_JOURNAL": str(self.journal),
                             "KILL_AT": str(moment.number if moment else 0), "KILL_MOMENTS": str(self.listed)}

    def of(self, run) -> list[Moment]:
        """Those of one run of a command, which gets its environment."""
        self.listed.unlink(missing_ok=True)
        run(self.environment())
        lines = self.listed.read_text().splitlines() if self.listed.exists() else []
        assert lines, "the command wrote nothing to its journal: is the preloaded library in use?"
        return [Moment(number, *line.split(" ", 1)) for number, line in enumerate(lines, 1)]
