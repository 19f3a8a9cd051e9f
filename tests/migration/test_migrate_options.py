# SPDX-License-Identifier: Apache-2.0
"""The settings of aiolos migrate, for real: the guest moves with each of them, and QEMU was told of it."""

import contextlib
import shutil

import pytest
from harness import command
from hosts import MIGRATE_URI
from test_migrate import Move, attach, assert_settled, sides, volume, wait_for  # noqa: F401
from test_migrations import qemu

MIB = 1 << 20


def move_and_look(here, there, guest, *options: str) -> tuple[dict, set[str], dict]:
    """Its report, and QEMU's parameters and capabilities while it moved."""
    move = Move(here, there, guest, "--bandwidth", "32", *options)
    wait_for(lambda: move.process.poll() is not None or qemu(guest, "query-migrate").get("status") == "active", "the migration", timeout=30)
    capabilities = {each["capability"] for each in qemu(guest, "query-migrate-capabilities") if each["state"]}
    parameters = qemu(guest, "query-migrate-parameters")
    return move.end(), capabilities, parameters


@pytest.mark.parametrize("options, wanted", [
    (["--parallel", "2", "--auto-converge"], {"multifd", "auto-converge"}),  # libvirt 9.0 compresses none of these
    (["--compress", "xbzrle"], {"xbzrle"}),
], ids=["parallel", "xbzrle"])
def test_moves_with_these_settings(sides, guest, volume, options, wanted):  # noqa: F811
    here, there = sides
    attach(here, guest, volume)
    report, capabilities, parameters = move_and_look(here, there, guest, *options)
    assert_settled(guest, there, here)
    assert wanted <= capabilities and report["total_ms"] > 0
    if "multifd" in wanted:
        assert parameters["multifd-channels"] == 2


def make_certificates(folder) -> None:
    """One authority, and of it a server's and a client's certificate for the address that the memory goes to."""
    def key_and_request(name: str) -> None:
        command("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", folder / f"{name}-key.pem",
                "-out", folder / f"{name}.csr")

    command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign", "-keyout", folder / "ca-key.pem", "-out", folder / "ca-cert.pem")
    for name in ("server", "client"):
        key_and_request(name)
        (folder / "extensions").write_text(f"subjectAltName=IP:{MIGRATE_URI.removeprefix('tcp://')}\nbasicConstraints=CA:FALSE\n"
                                           f"keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={name}Auth\n")
        command("openssl", "x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca-cert.pem", "-CAkey",
                folder / "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", folder / "extensions",
                "-out", folder / f"{name}-cert.pem")


def test_moves_encrypted_and_not_without_certificates(sides, guest, volume, tmp_path):  # noqa: F811
    here, there = sides
    attach(here, guest, volume)
    assert "error" in Move(here, there, guest, "--tls").end(expect=1)
    assert_settled(guest, here, there)
    make_certificates(tmp_path)
    for side in sides:
        for made in tmp_path.glob("*.pem"):
            shutil.copy(made, side.host.certificates)
    _, _, parameters = move_and_look(here, there, guest, "--tls")
    assert_settled(guest, there, here)
    assert parameters["tls-creds"]


def test_post_copy_ends_what_would_not_end_otherwise(sides, guest, volume):  # noqa: F811
    """The guest changes its memory faster than it is copied."""
    here, there = sides
    attach(here, guest, volume)
    guest.check("(while :; do dd if=/dev/urandom of=/tmp/dirty bs=1M count=16 conv=notrunc; done) >/dev/null 2>&1 & echo $! >/run/dirty.pid")
    try:
        report = Move(here, there, guest, "--bandwidth", "8", "--downtime-limit", "1ms", "--post-copy", "--post-copy-after", "4s").end()
        assert_settled(guest, there, here)
        assert report["total_ms"] > 4000
    finally:
        guest.check("kill $(cat /run/dirty.pid); sleep 0.5; rm -f /tmp/dirty")


@pytest.mark.parametrize("persistent", [True, False])
def test_a_defined_guest_moves_with_its_definition_unless_it_is_to_stay(sides, guest, volume, persistent):  # noqa: F811
    here, there = sides
    attach(here, guest, volume)
    if not persistent:
        config = here.aiolos.config
        config.write_text(config.read_text().replace("migration: {", "migration: {persistent: false, "))
    here.host.virsh("define", "/dev/stdin", stdin=guest.domain_xml())
    try:
        Move(here, there, guest).end()
        assert_settled(guest, there, here)
        defined = [guest.name in side.host.virsh("list", "--all", "--persistent", "--name").split() for side in (here, there)]
        assert defined == ([False, True] if persistent else [True, False])
        assert not persistent or str(volume.path) in there.host.virsh("dumpxml", "--inactive", guest.name)
    finally:
        for side in (here, there):
            with contextlib.suppress(Exception):
                side.host.virsh("undefine", guest.name)
