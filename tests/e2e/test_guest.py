# SPDX-License-Identifier: Apache-2.0
"""The throw-away guest itself: the other tests stand on what these show."""

import pytest
from guest import Guest, GuestError
from harness import command


def test_output_and_status_come_back_as_they_are(guest):
    status, output = guest.run("printf 'a\\nAIOLOS-END 0 0 \\n\\001\\n'; echo err >&2; exit 3")
    assert (status, output) == (3, "a\nAIOLOS-END 0 0 \n\x01\nerr\n")


def test_long_output_comes_back_whole(guest):
    assert guest.check("seq 1 20000") == "".join(f"{n}\n" for n in range(1, 20001))


def test_script_that_passes_its_time_is_killed_and_the_next_one_runs(guest):
    assert guest.run("sleep 60", timeout=1).status == 143
    assert guest.run("echo on").output == "on\n"


def test_background_process_of_a_script_goes_on(guest):
    guest.check("(sleep 1; echo late >/tmp/late) >/dev/null 2>&1 &")
    assert guest.check("for i in $(seq 50); do [ -e /tmp/late ] && break; sleep 0.1; done; cat /tmp/late") == "late\n"


def test_request_is_not_lost_while_orphans_end(guest):
    # Process 1 inherits them; were it the one that reads requests, their end would interrupt it in the middle of a line.
    guest.check("i=0; while [ $i -lt 150 ]; do i=$((i + 1)); (sleep 0.01 &); sleep 0.02; done >/dev/null 2>&1 &")
    for number in range(20):
        assert guest.run(f"echo {number} # {'x' * 1000}", timeout=1).output == f"{number}\n"


@pytest.mark.parametrize("bus, target", [("virtio", "vdb"), ("scsi", "sdb")])
def test_disk_comes_and_goes_by_hot_plug(guest, folder, bus, target):
    command("truncate", "-s", "8M", folder / "disk.raw")
    definition = folder / "disk.xml"
    definition.write_text(f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='threads'/>"
                          f"<source file='{folder}/disk.raw'/><target dev='{target}' bus='{bus}'/>"
                          f"<serial>harness-{bus}</serial></disk>")
    guest.virsh("attach-device", guest.name, str(definition), "--live")
    device = guest.wait_disk(f"harness-{bus}")
    assert guest.size(device) == 8 << 20
    guest.virsh("detach-device", guest.name, str(definition), "--live")
    guest.wait_no_disk(f"harness-{bus}")
    assert "<disk" not in guest.domain_xml()


def test_a_second_process_finds_the_guest(guest):
    assert Guest.open(guest.root).domain_xml() == guest.domain_xml()


def test_start_failure_says_why_and_leaves_nothing():
    broken = Guest(devices="<disk type='file'><source file='/nonexistent.raw'/><target dev='vda' bus='virtio'/></disk>")
    try:
        with pytest.raises(GuestError, match="/nonexistent.raw"):
            broken.start()
    finally:
        broken.destroy()
    assert not broken.root.exists()


def test_root_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(GuestError, match="107 bytes"):
        Guest(tmp_path / ("x" * 100))
