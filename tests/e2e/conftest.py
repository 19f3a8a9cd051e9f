# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one guest for the whole session, and for each test its own folder, configuration and volumes."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import Aiolos, Volumes, aiolos_binary, command, domain_disks  # noqa: E402

import image  # noqa: E402
from guest import Guest, GuestError, new_root  # noqa: E402


@pytest.fixture(scope="session")
def session_folder():
    """Where the tests' files are: in the state folder, which is on a real disk, as /tmp need not be."""
    folder = image.state_folder() / "e2e"
    remove_loop_devices_in(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    remove_loop_devices_in(folder)
    shutil.rmtree(folder, ignore_errors=True)


def remove_loop_devices_in(folder: pathlib.Path) -> None:
    """Of an earlier session that was killed, for its fixtures removed their own."""
    for backing in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        if backing.read_text().startswith(f"{folder}/"):
            subprocess.run(["losetup", "--detach", f"/dev/{backing.parts[3]}"], check=False)


class RunningGuest:
    """The session's guest; a new one when a test has killed it."""

    def __init__(self) -> None:
        self.guest: Guest | None = None

    def get(self) -> Guest:
        if self.guest:
            try:
                self.guest.check("true", timeout=10)
                return self.guest
            except GuestError:
                self.close()
        self.guest = Guest().start()
        return self.guest

    def close(self) -> None:
        if self.guest:
            self.guest.destroy()
            self.guest = None


@pytest.fixture(scope="session")
def running_guest():
    kept = RunningGuest()
    yield kept
    kept.close()


@pytest.fixture
def guest(running_guest):
    """A running guest without disks; whatever a test leaves attached is taken away after it."""
    found = running_guest.get()
    yield found
    try:
        for target in domain_disks(found):
            found.virsh("detach-disk", found.name, target, "--live")
    except GuestError:
        running_guest.close()


@pytest.fixture
def folder(session_folder, request):
    path = session_folder / re.sub(r"\W+", "-", request.node.name)[:60]
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def volumes(folder):
    made = Volumes(folder)
    yield made
    made.close()


@pytest.fixture
def aiolos(volumes, guest, folder):
    """The command, configured for the running guest. It comes after `volumes`, so that disks go before their storage."""
    return Aiolos(aiolos_binary(), guest, folder)


@pytest.fixture
def aiolos_alone(folder):
    """The command with an embedded hypervisor of its own, for tests that need no guest."""
    root = new_root(image.state_folder())
    yield Aiolos(aiolos_binary(), None, folder, root)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def loop_devices():
    """For tests with block devices: skips where the machine gives none."""
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("no /dev/loop-control here: loop devices cannot be made")
    command("losetup", "--find")


@pytest.fixture
def direct_io(folder):
    """For tests that expect native: skips where the file system has no O_DIRECT."""
    path = folder / "direct"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"the file system of {folder} has no O_DIRECT: {error}")
    path.unlink()
