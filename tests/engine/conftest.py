# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a folder with a short path on a real disk, and a daemon in it."""

import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "guest"), str(HERE.parent / "e2e")]
import image  # noqa: E402
from engine_process import Engine  # noqa: E402
from guest import new_root  # noqa: E402


@pytest.fixture
def folder():
    """On a real disk, and with a short path."""
    made = new_root(image.state_folder())
    made.mkdir(parents=True, exist_ok=True)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def engine(folder):
    started = Engine(folder).start()
    yield started
    print(started.log.read_text())  # pytest shows it where the test failed
    started.close()
