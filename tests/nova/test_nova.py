# SPDX-License-Identifier: Apache-2.0
"""Profile `nova` writes the disks that Nova's own drivers write. See compare.py for what counts as the same.

The committed answers of Nova (fixtures/nova) are always compared; fresh random cases where python3-nova is installed.
AIOLOS names the binary; otherwise the one that was built last is taken.
"""

import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import compare
import generate

DEBIAN_PYTHON = "/usr/bin/python3"  # whose packages Nova is one of
RANDOM_CASES = 3000


def nova_is_installed():
    probe = [DEBIAN_PYTHON, "-c", "import nova.virt.libvirt.driver"]
    if not pathlib.Path(DEBIAN_PYTHON).exists():
        return False
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_nova = pytest.mark.skipif(not nova_is_installed(), reason="python3-nova is not installed (bench/nova/setup)")


@pytest.fixture(scope="session")
def aiolos():
    binary = os.environ.get("AIOLOS") or compare.find_aiolos()
    if not binary:
        pytest.fail("no build/*/bin/aiolos; build it first or set AIOLOS")
    return binary


def report(outcome):
    shown = "\n\n".join(outcome.failures[:10])
    return f"{outcome}\n{shown}"


@pytest.mark.parametrize("folder", compare.golden_folders(), ids=lambda folder: folder.name)
def test_disks_mean_what_the_committed_ones_of_nova_do(aiolos, folder):
    outcome = compare.compare_goldens(aiolos, folder)
    assert not outcome.failures, report(outcome)


def test_each_listed_deviation_is_still_one(aiolos):
    met = set().union(*(compare.compare_goldens(aiolos, folder).deviations for folder in compare.golden_folders()))
    assert met == set(compare.DEVIATIONS)


@needs_nova
def test_disks_mean_what_those_of_nova_do_on_fresh_cases(aiolos):
    seed = int(os.environ.get("AIOLOS_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    outcome = compare.compare_random(aiolos, seed, RANDOM_CASES)
    assert not outcome.failures, f"seed {seed}: {report(outcome)}"


@needs_nova
def test_committed_answers_are_still_those_of_nova(tmp_path):
    generate.write_goldens(tmp_path)
    for folder in sorted(tmp_path.iterdir()):
        for made in sorted(folder.iterdir()):
            committed = compare.GOLDENS / folder.name / made.name
            assert committed.read_text("utf-8") == made.read_text("utf-8"), (
                f"{committed} is out of date; tests/nova/generate.py --goldens fixtures/nova writes it anew")


def test_the_folder_of_goldens_holds_no_orphans():
    assert [folder.name for folder in sorted(compare.GOLDENS.iterdir())] == sorted(generate.CONFIGURATIONS)


def test_every_oddity_and_deviation_is_among_the_goldens():
    present = {case.get("odd") for folder in compare.golden_folders() for case in compare.read_cases(folder)}
    assert set(generate.ODDITIES) <= present, "an oddity that no golden has"
    assert set(compare.DEVIATIONS) <= set(generate.ODDITIES), "a deviation that no oddity shows"


def test_order_and_white_space_do_not_matter_and_all_else_does():
    disk = "<disk type='block'><driver name='qemu' io='native'/><source dev='/dev/sdb'/></disk>"
    same = "<disk type='block'>\n <source dev='/dev/sdb'/> <driver io='native' name='qemu'/>\n</disk>"
    assert compare.meaning(disk) == compare.meaning(same)
    for other in (disk.replace("native", "threads"), disk.replace("/dev/sdb", "/dev/sdc"),
                  disk.replace("</disk>", "<readonly/></disk>"), disk.replace(" io='native'", "")):
        assert compare.meaning(disk) != compare.meaning(other), other
