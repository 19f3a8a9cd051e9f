# SPDX-License-Identifier: Apache-2.0
"""The drivers' pages say what the drivers declare: their types, what they can do, and their configuration."""

import json
import os
import pathlib
import re
import subprocess

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PAGES = PROJECT / "docs/drivers"
BINARY = pathlib.Path(os.environ.get("AIOLOS") or PROJECT / "build/dev/bin/aiolos")


def declared(folder: pathlib.Path) -> list[dict]:
    config = folder / "aiolos.yaml"
    config.write_text("{}\n")
    done = subprocess.run([BINARY, "drivers", "--config", config, "--json"], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["drivers"]


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    _, found, rest = text.partition(f"\n| {title} |")
    assert found, f"no table of '{title}'"
    table = re.match(r"[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)*)", rest)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def shown(default: object) -> str:
    if default == "":
        return "none"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def test_every_setting_is_on_its_drivers_page_with_its_default(tmp_path):
    drivers = declared(tmp_path)
    assert drivers
    for driver in drivers:
        page = (PAGES / f"{driver['name']}.md").read_text()
        for section, settings in driver["configuration"].items():
            written = {row[0]: row[1] for row in rows(page, f"Key of `{section}` in the configuration")}
            assert written == {f"`{key}`": shown(default) for key, default in settings.items()}, driver["name"]


def test_index_says_what_each_driver_serves_and_can(tmp_path):
    index = {row[0]: row[1:] for row in rows((PAGES / "README.md").read_text(), "Page")}
    drivers = declared(tmp_path)
    assert index.keys() == {f"[{driver['name']}]({driver['name']}.md)" for driver in drivers}
    for driver in drivers:
        types, _, verbs, multiattach, *_ = index[f"[{driver['name']}]({driver['name']}.md)"]
        assert types == ", ".join(f"`{each}`" for each in driver["types"]), driver["name"]
        can = {verb: verb in driver["capabilities"] for verb in ("connect", "extend", "multiattach")}
        assert verbs == f"{'yes' if can['connect'] else 'no'} / {'yes' if can['extend'] else 'no'}", driver["name"]
        assert multiattach.startswith("yes") == can["multiattach"], driver["name"]
