# SPDX-License-Identifier: Apache-2.0
"""summary.py FOLDER [TEXT...]: what the JUnit files in FOLDER say, failures and skips by name, and the closing line.

Each TEXT is something that went wrong outside of any test and counts as one failure. The exit status is 0 if something
passed and nothing failed.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def skip_reason(case: ElementTree.Element, skipped: ElementTree.Element) -> str:
    """Why a test was skipped: pytest says it in the message; gtest's reason is what the test printed."""
    message = skipped.get("message", "")
    if message.startswith("SKIP_"):  # ctest's own: it only says which property matched
        printed = case.findtext("system-out") or ""
        found = re.search(r": Skipped\n(.*?)(?:\n\n|\n\[)", printed, re.DOTALL)
        return " ".join(found.group(1).split()) if found else message
    return message


def is_real_skip(case: ElementTree.Element, skipped: ElementTree.Element) -> bool:
    """ctest lists a test whose program is missing or whose fixture failed as skipped, too. That is a failure."""
    return "status" not in case.attrib or skipped.get("message", "").startswith("SKIP_")


def failure_text(case: ElementTree.Element, failed: ElementTree.Element) -> str:
    """One line about a failure; ctest's is only that it failed, so what gtest printed first is added."""
    message = failed.get("message", "").strip().partition("\n")[0]
    found = re.search(r"^(\S+:\d+): Failure\n(.*)$", case.findtext("system-out") or "", re.MULTILINE)
    return f"{found.group(1)}: {found.group(2)}" if found else message or "no message"


def main(folder: pathlib.Path, broken: list[str]) -> int:
    passed, failures, skips = 0, [("outside of the tests", text) for text in broken], []
    for path in sorted(folder.glob("*.xml")):
        cases = list(ElementTree.parse(path).iter("testcase"))
        if not cases:
            failures.append((path.stem, "no test in it"))
        for case in cases:
            name = f"{path.stem}: {case.get('classname', '')}.{case.get('name', '')}"
            if path.stem.startswith("ctest-"):  # there the class is the test's name once more
                name = f"{path.stem}: {case.get('name', '')}"
            failed = next((case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None)
            skipped = case.find("skipped")
            if failed is not None:
                failures.append((name, failure_text(case, failed)))
            elif case.get("status") == "disabled":
                skips.append((name, "disabled in its source"))
            elif skipped is None:
                passed += 1
            elif is_real_skip(case, skipped):
                skips.append((name, skip_reason(case, skipped) or "no reason given"))
            else:
                failures.append((name, f"not run: {skipped.get('message', '')}"))
    for title, listed in (("Skipped", skips), ("Failed", failures)):
        if listed:
            print(f"\n{title}:")
            for name, why in listed:
                print(f"  {name}: {why}")
    if not passed and not failures:
        print("\nno test was executed, and that is no success")
    print(f"\n{passed} passed, {len(failures)} failed, {len(skips)} skipped")
    return 0 if passed and not failures else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
