# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the command with a configuration of its own, and a folder on a real disk."""

import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1] / "guest")]
import image  # noqa: E402
from measure_command import Command  # noqa: E402


@pytest.fixture
def folder():
    """Below the state folder, which is on a real disk, as /tmp need not be."""
    base = image.state_folder() / "measure"
    base.mkdir(parents=True, exist_ok=True)
    made = pathlib.Path(tempfile.mkdtemp(dir=base))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def aiolos(tmp_path):
    return Command(tmp_path)
