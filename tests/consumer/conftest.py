# SPDX-License-Identifier: Apache-2.0
"""What the consumer tests share: the project, installed below a temporary prefix."""

import os
import pathlib
import shutil
import subprocess

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("AIOLOS_BUILD_DIR", PROJECT / "build/dev"))


def run(*command, **options):
    """Runs a command; its output is in the failure. Returns its standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    """The project, installed, and then moved: nothing in an installation may know where it was."""
    if not (BUILD / "cmake_install.cmake").exists():
        pytest.fail(f"{BUILD} is no build folder of the project: build it, or set AIOLOS_BUILD_DIR")
    os.umask(0o022)
    first = tmp_path_factory.mktemp("first") / "usr"
    run("cmake", "--install", BUILD, "--prefix", first)
    moved = tmp_path_factory.mktemp("moved") / "aiolos"
    shutil.move(first, moved)
    return moved


@pytest.fixture(scope="session")
def aiolos(prefix):
    """The installed command."""
    return prefix / "bin/aiolos"


@pytest.fixture
def build(prefix, tmp_path):
    """build(SOURCE, install=False): configures and builds a project against the installed package, as a stranger would:
    all warnings are errors, which Aiolos' headers must not be the cause of."""

    def build(source, install=False):
        folder = tmp_path / "build"
        run("cmake", "-S", source, "-B", folder, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_C_FLAGS=-Wall -Wextra -Wpedantic -Werror",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Werror")
        run("cmake", "--build", folder, "-j", "2")
        if install:
            run("cmake", "--install", folder, "--prefix", prefix)
        return folder

    return build
