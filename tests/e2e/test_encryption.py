# SPDX-License-Identifier: Apache-2.0
"""LUKS volumes: QEMU decrypts them with a passphrase that only libvirt keeps."""

import base64

import pytest
from guest import Guest
from harness import BAD_INPUT, MIB, Aiolos, aiolos_binary, command, domain_disks, write_and_verify, write_pattern
from libvirt_daemon import LibvirtDaemon
from namespaces import why_impossible

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def libvirt():
    """A daemon: the embedded driver has no secrets."""
    if reason := why_impossible():
        pytest.skip(reason)
    with LibvirtDaemon() as made:
        yield made


@pytest.fixture(scope="module")
def guest_of_daemon(libvirt):
    with Guest(libvirt=libvirt) as made:
        yield made


@pytest.fixture
def guest(guest_of_daemon):
    yield guest_of_daemon
    for target in domain_disks(guest_of_daemon):
        guest_of_daemon.virsh("detach-disk", guest_of_daemon.name, target, "--live")


@pytest.fixture
def aiolos(guest, folder):
    return Aiolos(aiolos_binary(), guest, folder)


@pytest.fixture
def volume(volumes):
    """A raw image that LUKS encrypts, in Cinder's words."""
    made = volumes.file("encrypted", "raw", 32 * MIB)
    made.connection_info["data"]["encrypted"] = True
    (volumes.folder / "passphrase").write_text(PASSPHRASE)
    # sha512, as QEMU measures how fast it hashes, and sha256 can be too fast for the clock ("accurate CPU usage").
    command("qemu-img", "create", "-q", "-f", "luks", "--object",
            f"secret,id=passphrase,file={volumes.folder}/passphrase", "-o",
            "key-secret=passphrase,iter-time=10,hash-alg=sha512", made.path, made.size)
    return made


def define_secret(libvirt, volume, passphrase: str) -> None:
    libvirt.define_secret("volume", volume.serial, base64.b64encode(passphrase.encode()).decode())


def decrypted(volume, offset: int, byte: int) -> bool:
    """Whether the host reads this byte all over a MiB, with the passphrase."""
    shown = command("qemu-io", "-r", "-U", "--object", f"secret,id=passphrase,file={volume.path.parent}/passphrase",
                    "--image-opts", "-c", f"read -P {byte} {offset} {MIB}",
                    f"driver=luks,key-secret=passphrase,file.filename={volume.path}")
    return "Pattern verification failed" not in shown


def test_guest_reads_and_writes_what_is_encrypted_on_the_host(aiolos, guest, libvirt, volume):
    define_secret(libvirt, volume, PASSPHRASE)
    shown = aiolos.attach(volume, "--json")
    device = guest.wait_disk(volume.serial)
    assert guest.size(device) == volume.size
    write_and_verify(guest, device)
    write_pattern(guest, device)
    assert decrypted(volume, 0, ord("Z"))
    assert b"ZZZZZZZZZZZZZZZZ" not in volume.path.read_bytes()
    aiolos.detach()
    guest.wait_no_disk(volume.serial)
    kept = [path.read_bytes() for path in (aiolos.folder / "state").rglob("*") if path.is_file()]
    assert not [each for each in [shown.out.encode(), *kept] if PASSPHRASE.encode() in each]


def test_passphrase_that_is_wrong(aiolos, guest, libvirt, volume):
    define_secret(libvirt, volume, "wrong")
    before = guest.domain_xml()
    error = aiolos.attach(volume, "--json", expect=BAD_INPUT).error()
    assert error["kind"] == "configuration"
    assert "Invalid password, cannot unlock any keyslot" in error["message"]
    assert "passphrase" in error["next"] and "virsh secret-set-value" in error["next"]
    assert guest.domain_xml() == before


def test_secret_that_libvirt_does_not_have(aiolos, guest, volume):
    before = guest.domain_xml()
    error = aiolos.attach(volume, "--json", expect=BAD_INPUT).error()
    assert error["kind"] == "configuration"
    assert error["message"] == f"volume '{volume.serial}' is encrypted and libvirt has no secret for it"
    assert volume.serial in error["next"]
    assert guest.domain_xml() == before
