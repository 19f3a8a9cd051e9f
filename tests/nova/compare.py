#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `aiolos disk-xml --batch` under profile `nova` with Nova's own XML, by meaning.

    compare.py --aiolos BINARY [--goldens FOLDER]            the committed answers of Nova; needs no Nova
    compare.py --aiolos BINARY --seed N --count N            fresh random cases; needs python3-nova

Two disks mean the same if they have the same elements, attributes and texts; the order of different elements says
nothing to libvirt, and the order of like ones (hosts) is kept. Where Nova raises an error, a clean error of ours agrees.
DEVIATIONS lists where Aiolos differs on purpose, and why; test_nova.py fails for a listed one that does not differ any
more.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import generate

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "fixtures" / "nova"
TIMEOUT = 120  # seconds for a batch


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Where Aiolos answers otherwise than Nova on purpose."""

    ours: str  # "refuses" what Nova writes, "accepts" what Nova fails on, or "differs"
    why: str
    where: str = ""  # for "refuses": end of the error's JSON pointer


# By the name of the oddity (generate.ODDITIES).
DEVIATIONS = {
    "device_path empty": Deviation("refuses", "QEMU cannot open it", "/data/device_path"),
    "device_path relative": Deviation("refuses", "it would be sought in QEMU's working directory", "/data/device_path"),
    "name leaves the share": Deviation("refuses", "a volume must not name a file elsewhere on the host", "/data/name"),
    "name absolute": Deviation("refuses", "a volume must not name a file elsewhere on the host", "/data/name"),
    "rbd no name": Deviation("refuses", "libvirt refuses a source without a name", "/data/name"),
    "rbd secret_type null": Deviation("refuses", "auth_enabled asks for authentication; Nova leaves it out",
                                      "/data/secret_type"),
    "rbd auth_enabled text": Deviation("refuses", "a mistyped flag is an error", "/data/auth_enabled"),
    "format null": Deviation("differs", "null is as good as absent: the default, raw, is written out"),
    "rbd no secret_uuid": Deviation("accepts", "absent is as good as null: the configuration's secret is used"),
    "rbd hosts null": Deviation("accepts", "null is as good as absent"),
    "rbd port a number": Deviation("accepts", "a port may come as a number"),
    "logical_block_size a number": Deviation("accepts", "a size may come as a number"),
    "qos value no number": Deviation("refuses", "libvirt refuses it", "/data/qos_specs/total_iops_sec"),
    "qos value negative": Deviation("refuses", "libvirt refuses it", "/data/qos_specs/total_iops_sec"),
    generate.SECRET_UNASKED: Deviation("differs", "Cinder says which volumes are encrypted; no look-up for the others"),
    "serial a number": Deviation("refuses", "a mistyped key is an error", "/serial"),
    "no type": Deviation("accepts", "a disk is what disk_info means if it does not say"),
    "unit null": Deviation("differs", "null is as good as absent: libvirt chooses the address"),
}


def canonical(element):
    """An element as a value: what libvirt makes of it, whatever the order and the white space."""
    # Sorting is stable: like elements keep their order.
    children = sorted((canonical(child) for child in element), key=lambda child: child[0])
    return element.tag, tuple(sorted(element.attrib.items())), (element.text or "").strip(), tuple(children)


def meaning(xml):
    return canonical(ElementTree.fromstring(xml))


def as_text(value, depth=0):
    """A canonical element as lines, for the difference of two."""
    tag, attributes, text, children = value
    shown = "".join(f" {name}={content!r}" for name, content in attributes) + (f": {text}" if text else "")
    lines = ["  " * depth + tag + shown]
    for child in children:
        lines += as_text(child, depth + 1)
    return lines


def difference(nova, ours):
    theirs, mine = as_text(meaning(nova)), as_text(meaning(ours))
    return "\n".join([f"  Nova only:   {line.strip()}" for line in theirs if line not in mine]
                     + [f"  Aiolos only: {line.strip()}" for line in mine if line not in theirs])


def relation(nova, ours):
    """How Aiolos' answer stands to Nova's: same, differs, refuses, accepts or both refuse."""
    if "xml" in nova and "xml" in ours:
        return "same" if meaning(nova["xml"]) == meaning(ours["xml"]) else "differs"
    if "xml" in nova:
        return "refuses"
    return "accepts" if "xml" in ours else "both refuse"


def is_clean(error):
    """Whether an error says what failed, what to do next, and is not a bug of ours."""
    return bool(error.get("message") and error.get("next") and error.get("kind") not in (None, "bug"))


def judge(case, nova, ours):
    """(relation, None or what is wrong with it)."""
    found = relation(nova, ours)
    error = ours.get("error")
    if error is not None and not is_clean(error):
        return found, f"not a clean error: {error}"
    deviation = DEVIATIONS.get(case.get("odd", ""))
    if found in ("same", "both refuse"):
        return found, None
    if deviation is None or found != deviation.ours:
        detail = difference(nova["xml"], ours["xml"]) if found == "differs" else f"  Nova:   {nova}\n  Aiolos: {ours}"
        return found, f"Aiolos {found}:\n{detail}"
    if found == "refuses" and not (error.get("where") or "").endswith(deviation.where):
        return found, f"the error is at {error.get('where')!r}, expected {deviation.where!r}: {error}"
    return "deviation", None


# --- running Aiolos ---

def define_secrets(folder, secrets):
    """Defines libvirt secrets of usage type volume in an embedded libvirt of its own; gives its URI."""
    root = folder / "libvirt"
    root.mkdir()
    commands = []
    for usage, secret_uuid in secrets.items():
        definition = ElementTree.Element("secret", ephemeral="no", private="yes")
        ElementTree.SubElement(definition, "uuid").text = secret_uuid
        where = ElementTree.SubElement(definition, "usage", type="volume")
        ElementTree.SubElement(where, "volume").text = usage
        path = folder / f"secret-{secret_uuid}.xml"
        ElementTree.ElementTree(definition).write(path)
        commands.append(f"secret-define {path}")
    subprocess.run(["virsh", "-q", "-c", f"secret:///embed?root={root}", "; ".join(commands)], check=True,
                   timeout=TIMEOUT, stdout=subprocess.DEVNULL)
    return f"qemu:///embed?root={root}"


def aiolos_answers(binary, configuration, cases):
    """What `aiolos disk-xml --batch` says to cases of one configuration (its YAML text)."""
    secrets = {}
    for case in cases:
        secrets.update(case.get("secrets", {}))
    with tempfile.TemporaryDirectory(prefix="aiolos-nova-") as name:
        folder = pathlib.Path(name)
        if secrets:
            uri = define_secrets(folder, secrets)
            virt_type = "kvm" if "virt_type: \"kvm\"" in configuration else "qemu"
            lines = [line for line in configuration.splitlines() if not line.startswith("libvirt:")]
            configuration = "\n".join([*lines, f'libvirt: {{uri: "{uri}", virt_type: {virt_type}}}', ""])
        config = folder / "aiolos.yaml"
        config.write_text(configuration, encoding="utf-8")
        batch = "".join(json.dumps({key: case[key] for key in ("connection_info", "disk_info")}) + "\n"
                        for case in cases)
        done = subprocess.run([str(binary), "disk-xml", "--batch", "--config", str(config)], input=batch, text=True,
                              capture_output=True, check=False, timeout=TIMEOUT)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(cases):
        raise RuntimeError(f"{len(answers)} answers to {len(cases)} cases, exit status {done.returncode}: "
                           f"{done.stderr}")
    return answers


# --- the two comparisons ---

@dataclasses.dataclass
class Outcome:
    relations: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    failures: list = dataclasses.field(default_factory=list)
    deviations: set = dataclasses.field(default_factory=set)  # names of those met

    def __str__(self):
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.relations.items()))
        return f"{sum(self.relations.values())} cases: {counts}; {len(self.failures)} wrong"


def compare(binary, configuration, cases, nova, outcome):
    """Adds the comparison of cases of one configuration to `outcome`. nova: Nova's answers to them."""
    for case, theirs, ours in zip(cases, nova, aiolos_answers(binary, configuration, cases)):
        found, wrong = judge(case, theirs, ours)
        outcome.relations[found] += 1
        if found == "deviation":
            outcome.deviations.add(case["odd"])
        if wrong:
            shown = json.dumps({key: value for key, value in case.items() if key != "nova"}, ensure_ascii=False)
            outcome.failures.append(f"{shown}\n{wrong}")


def golden_folders(folder=GOLDENS):
    return sorted(path.parent for path in folder.glob("*/cases.jsonl"))


def read_cases(folder):
    with (folder / "cases.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def compare_goldens(binary, folder):
    cases = read_cases(folder)
    outcome = Outcome()
    configuration = (folder / "aiolos.yaml").read_text(encoding="utf-8")
    compare(binary, configuration, cases, [case["nova"] for case in cases], outcome)
    return outcome


def compare_random(binary, seed, count):
    cases = generate.random_cases(seed, count)
    answers = generate.nova_answers(cases)
    outcome = Outcome()
    for name, config in generate.CONFIGURATIONS.items():
        chosen = [(case, answer) for case, answer in zip(cases, answers) if case["configuration"] == name]
        compare(binary, generate.yaml(config), [case for case, _ in chosen], [answer for _, answer in chosen], outcome)
    return outcome


def find_aiolos():
    """The binary that the build made last; None if there is none."""
    built = [path for path in ROOT.glob("build/*/bin/aiolos") if path.is_file()]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--aiolos", type=pathlib.Path, default=find_aiolos(), metavar="BINARY")
    parser.add_argument("--goldens", type=pathlib.Path, metavar="FOLDER", help=f"default: {GOLDENS}")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--count", type=int, default=3000)
    arguments = parser.parse_args()
    if arguments.aiolos is None:
        parser.error("no build/*/bin/aiolos; build it or name it with --aiolos")
    if arguments.seed is not None:
        outcomes = {f"seed {arguments.seed}": compare_random(arguments.aiolos, arguments.seed, arguments.count)}
    else:
        folders = golden_folders(arguments.goldens or GOLDENS)
        outcomes = {folder.name: compare_goldens(arguments.aiolos, folder) for folder in folders}
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome}")
        for failure in outcome.failures[:20]:
            print(failure)
    sys.exit(1 if any(outcome.failures for outcome in outcomes.values()) else 0)


if __name__ == "__main__":
    main()
