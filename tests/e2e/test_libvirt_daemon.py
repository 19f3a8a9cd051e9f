# SPDX-License-Identifier: Apache-2.0
"""The tests' own libvirtd: several side by side, each with secrets and guests of its own, and nothing on the host."""

import base64
import pathlib
import time

import pytest
from guest import Guest, GuestError
from libvirt_daemon import PLACES, LibvirtDaemon
from namespaces import why_impossible


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    """All tests here need them: skips where the machine gives none."""
    if reason := why_impossible():
        pytest.skip(reason)


@pytest.fixture
def libvirt():
    with LibvirtDaemon() as made:
        yield made


def entries(place: str) -> set[str]:
    return {str(path) for path in pathlib.Path(place).rglob("*")}


def test_guest_goes_on_without_its_libvirtd_and_is_found_again(libvirt):
    with Guest(libvirt=libvirt) as guest:
        pid = guest.qemu_pid()
        assert guest.virsh("domstate", guest.name).strip() == "running"
        libvirt.stop()
        assert guest.check("echo still here") == "still here\n"
        libvirt.start()
        assert guest.virsh("domstate", guest.name).strip() == "running"
        assert guest.qemu_pid() == pid
    assert not guest.root.exists()
    assert not pathlib.Path(f"/proc/{pid}/exe").exists()


def test_two_of_them_are_two_hosts(libvirt):
    before = {place: entries(place) for place in PLACES.values()}
    with LibvirtDaemon() as other:
        assert f"<uuid>{libvirt.host_uuid}</uuid>" in libvirt.virsh("capabilities")
        assert f"<uuid>{other.host_uuid}</uuid>" in other.virsh("capabilities")
        secret = libvirt.define_secret("volume", "/volume", base64.b64encode(b"passphrase").decode())
        assert libvirt.virsh("secret-get-value", secret, "--plain") == "passphrase"
        with pytest.raises(GuestError, match="no secret with matching uuid"):
            other.virsh("secret-get-value", secret)
    assert {place: entries(place) for place in PLACES.values()} == before


def test_one_that_closes_takes_its_guests_along():
    with LibvirtDaemon() as libvirt:
        guest = Guest(libvirt=libvirt).start()
        pid = guest.qemu_pid()
    guest.destroy()
    deadline = time.monotonic() + 10
    while pathlib.Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not pathlib.Path(f"/proc/{pid}/exe").exists()
    assert not libvirt.folder.exists()
