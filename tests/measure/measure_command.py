# SPDX-License-Identifier: Apache-2.0
"""The command with a configuration and a state folder of its own."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import aiolos_binary  # noqa: E402


class Command:
    """`aiolos measure` and others, on a state folder of their own."""

    def __init__(self, state: pathlib.Path) -> None:
        self.state = state
        self.config = state / "aiolos.yaml"
        self.config.write_text(f"state: {{dir: {state}}}\naio: {{profile: measured}}\n")

    def start(self, *arguments: object, **options) -> subprocess.Popen:
        command = [str(aiolos_binary()), *(str(a) for a in arguments), "--config", str(self.config)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, *arguments: object, expect: int = 0) -> str:
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=180)
        assert process.returncode == expect, f"{process.returncode}: {out}{errors}"
        return out if expect == 0 else errors

    def json(self, *arguments: object) -> dict:
        return json.loads(self.run(*arguments, "--json"))

    def measure(self, *arguments: object) -> dict:
        """Short runs: what is tested is not how fast anything is."""
        return self.json("measure", "--seconds", "0.1", "--repetitions", "1", "--size", "16M", *arguments)
