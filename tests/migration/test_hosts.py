# SPDX-License-Identifier: Apache-2.0
"""The two hosts themselves: libvirt migrates a guest from one to the other and back."""

import subprocess

from hosts import MIGRATE_URI, PLACE


def test_guest_moves_to_the_other_host_and_back_and_is_spoken_to_there(guest, hosts):
    guest.check("echo before >/run/said")
    for here, there in (hosts, hosts[::-1]) if guest.host is hosts[0] else (hosts[::-1], hosts):
        here.virsh("migrate", "--live", "--p2p", "--domain", guest.name, "--desturi", there.uri, "--migrateuri", MIGRATE_URI)
        assert (here.running(), there.running()) == ([], [guest.name])
        assert guest.moved(there).check("cat /run/said") == "before\n"


def test_its_xml_is_the_same_on_both_hosts(guest, hosts):
    assert PLACE in guest.domain_xml()
    assert not any(str(host.libvirt.folder) in guest.domain_xml() for host in hosts)


def test_the_aiolos_command_works_on_the_host_that_has_the_guest(guest, hosts):
    for host in hosts:
        aiolos = host.aiolos(guest)
        plan = aiolos.run("plan", "--config", str(aiolos.config), "--domain", guest.name, "--json", expect=None)
        assert plan.status == (0 if host is guest.host else 2), plan
        assert host is not guest.host or plan.json()["real"] is not None  # it sees its QEMU's process


def test_commands_of_a_host_have_its_libvirt(guest, hosts):
    """For what runs on one of them and knows the usual URI only."""
    for host in hosts:
        shown = subprocess.run(host.command("virsh", "-q", "-c", "qemu:///system", "list", "--name"), capture_output=True,
                               text=True, timeout=30, check=True).stdout.split()
        assert shown == ([guest.name] if host is guest.host else [])
