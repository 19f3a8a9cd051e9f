#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Times Nova's own classes from connection_info to XML, in one process and without their start-up.

Timed for each case: get_config, LibvirtDriver._set_cache_mode and to_xml. Not timed: imports, configuration, drivers,
reading the cases' JSON and writing the answers'. With --json the reading of the case and the writing of the answer as
JSON are timed too, which is what `aiolos disk-xml --batch` does. Logging is off and a secret's look-up is a dict's, so
Nova is shown at its best. Each figure is the best of --rounds passes over the cases, after one that is not counted.

    time.py [--cases FILE] [--count N] [--type T] [--rounds N] [--json] [--batch FILE]

Cases that Nova refuses are left out. The last line is `RESULT nova_us_per_case <microseconds>`.
"""

import argparse
import gc
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "nova"))
import generate
import reference


def batches(cases):
    """Cases grouped by configuration, without those that Nova refuses: [(Nova, [(connection_info, disk_info)])]."""
    groups = {}
    for case in cases:
        groups.setdefault(json.dumps(case.get("config"), sort_keys=True), []).append(case)
    for config, members in groups.items():
        nova = reference.Nova(json.loads(config) or {})
        pairs = [(nova.place(case["connection_info"]), case["disk_info"]) for case in members
                 if "xml" in nova.answer(case["connection_info"], case["disk_info"])]
        if pairs:
            yield nova, pairs


def once(nova, pairs):
    """Seconds for one pass in process."""
    start = time.perf_counter()
    for connection_info, disk_info in pairs:
        nova.disk(connection_info, disk_info).to_xml()
    return time.perf_counter() - start


def once_with_json(nova, lines):
    """Seconds for one pass with the JSON of both ends."""
    start = time.perf_counter()
    for line in lines:
        case = json.loads(line)
        json.dumps({"xml": nova.disk(case["connection_info"], case["disk_info"]).to_xml()})
    return time.perf_counter() - start


def measure(cases, rounds, with_json, batch=None):
    """(seconds of the best round, number of cases). Configurations are timed one after another: nova.conf is global."""
    seconds, count = 0.0, 0
    for nova, pairs in batches(cases):
        if batch:
            batch.writelines(json.dumps({"connection_info": info, "disk_info": disk}) + "\n" for info, disk in pairs)
        if with_json:
            work = [json.dumps({"connection_info": info, "disk_info": disk}) for info, disk in pairs]
            run = once_with_json
        else:
            work, run = pairs, once
        run(nova, work)
        gc.collect()
        seconds += min(run(nova, work) for _ in range(rounds))
        count += len(pairs)
    return seconds, count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=argparse.FileType(), metavar="FILE",
                        help="JSON lines as reference.py reads them")
    parser.add_argument("--count", type=int, default=2000, help="how many cases to generate without --cases")
    parser.add_argument("--type", choices=generate.TYPES, help="only this driver_volume_type")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="time the JSON of both ends too")
    parser.add_argument("--batch", type=pathlib.Path, metavar="FILE",
                        help="write the timed cases there, as `aiolos disk-xml --batch` reads them")
    arguments = parser.parse_args()

    if arguments.cases:
        cases = [json.loads(line) for line in arguments.cases if line.strip()]
    else:  # one configuration, as a batch of the command has; no oddities
        cases = [case for case in generate.random_cases(1, 12 * arguments.count) if "odd" not in case]
        cases = [generate.for_reference({**case, "configuration": "plain"}) for case in cases]
        for case in cases:
            case["config"] = {}
        if arguments.type:
            cases = [case for case in cases if case["connection_info"]["driver_volume_type"] == arguments.type]
        cases = cases[:arguments.count]

    with open(arguments.batch or os.devnull, "w", encoding="utf-8") as batch:
        seconds, count = measure(cases, arguments.rounds, arguments.json, batch)
    if not count:
        sys.exit("no case that Nova accepts")
    print(f"{count} cases, best of {arguments.rounds} rounds: {seconds * 1e3:.1f} ms"
          f"{', with JSON' if arguments.json else ''}", file=sys.stderr)
    print(f"RESULT nova_us_per_case {seconds / count * 1e6:.1f}")


if __name__ == "__main__":
    main()
