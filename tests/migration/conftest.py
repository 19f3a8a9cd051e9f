# SPDX-License-Identifier: Apache-2.0
"""Fixtures: two hosts for the whole session, a guest that moves between them, and storage that both see."""

import pathlib
import re
import shutil
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / folder) for folder in ("guest", "e2e", "engine"))]
import image  # noqa: E402
from guest import GuestError  # noqa: E402
from hosts import Host, MobileGuest  # noqa: E402
from migrations import Migrations  # noqa: E402
from namespaces import why_impossible  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def namespaces():
    """All tests here need them: skips where the machine gives none."""
    if reason := why_impossible():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def running_hosts(namespaces):
    with Host("a") as here, Host("b") as there:
        yield here, there


@pytest.fixture
def hosts(running_hosts):
    """Two of them, whose daemons run whatever the test before has killed, and where no guest is but one that runs."""
    for host in running_hosts:
        if host.libvirt.process.poll() is not None:
            host.libvirt.start()
        if host.virsh("list", "--all", "--name").split() != host.running():
            host.forget_guests()
    return running_hosts


@pytest.fixture(scope="session")
def kept_guest():
    """The session's guest, for starting one takes longer than to move it: a new one when a test has ended it."""
    kept: list[MobileGuest] = []
    yield kept
    for guest in kept:
        guest.destroy()


@pytest.fixture
def guest(hosts, kept_guest):
    """A running guest without disks, on the first host or wherever the test before has left it."""
    for old in list(kept_guest):
        where = [host for host in hosts if old.name in host.running()]
        try:
            old.moved(where[0]).check("true", timeout=10)
        except (GuestError, IndexError):
            old.destroy()
            kept_guest.remove(old)
    if not kept_guest:
        kept_guest.append(MobileGuest(hosts[0], iothreads=1).start())
    found = kept_guest[0]
    yield found
    drop_disks(found, hosts)


def drop_disks(guest, hosts) -> None:
    """Takes away what a test has attached; a guest that does not give it up is ended."""
    try:
        guest.moved(next(host for host in hosts if guest.name in host.running()))
        guest.run("killall fio")
        for target in guest.disk_targets():
            guest.virsh("detach-disk", guest.name, target, "--live")
        deadline = time.monotonic() + 20
        while left := guest.disk_targets():  # a busy guest gives them up after libvirt has stopped waiting
            if time.monotonic() > deadline:
                raise GuestError(f"the guest keeps {left}")
            time.sleep(0.2)
    except (GuestError, StopIteration):
        guest.destroy()


@pytest.fixture
def migrations(guest):
    """Those of the host that has the guest."""
    with Migrations(guest.host.uri) as made:
        yield made


@pytest.fixture
def there(guest, hosts):
    """The host that has it not."""
    return hosts[1] if guest.host is hosts[0] else hosts[0]


@pytest.fixture
def storage(request):
    """A folder that both hosts see, on a real disk."""
    folder = image.state_folder() / "migration" / re.sub(r"\W+", "-", request.node.name)[:60]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
