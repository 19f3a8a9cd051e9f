# SPDX-License-Identifier: Apache-2.0
"""The commands that need no guest."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest


def test_version(aiolos_alone):
    assert re.search(r"\d+\.\d+\.\d+", aiolos_alone.run("--version").out)


def test_help_lists_commands_that_work(aiolos_alone):
    shown = aiolos_alone.run("--help").out
    for name in ("drivers", "host", "disk-xml", "explain", "xml", "attach", "detach", "extend", "measure"):
        assert name in shown


def test_drivers_of_the_build_tree_are_found(aiolos_alone):
    found = aiolos_alone.run("drivers", "--config", str(aiolos_alone.config), "--json").out
    assert '"local"' in found and '"file"' in found


def test_host_facts(aiolos_alone):
    facts = aiolos_alone.run("host", "--config", str(aiolos_alone.config), "--json").json()
    assert json.dumps(facts).count("aio") > 0
    shown = aiolos_alone.run("host", "--config", str(aiolos_alone.config)).out
    assert "7.2" in shown or "QEMU" in shown


def test_disk_xml_touches_nothing(aiolos_alone):
    info = {"driver_volume_type": "local", "serial": "abc", "data": {"device_path": "/dev/nonexistent"}}
    shown = aiolos_alone.run("disk-xml", *aiolos_alone.request(info)).out
    disk = ElementTree.fromstring(shown)
    assert (disk.tag, disk.get("type")) == ("disk", "block")
    assert disk.find("source").get("dev") == "/dev/nonexistent"
    assert disk.find("serial").text == "abc"
    assert disk.find("target").attrib == {"dev": "vdb", "bus": "virtio"}


def test_xml_reformat_keeps_what_it_does_not_know(aiolos_alone, folder):
    document = folder / "disk.xml"
    document.write_text("<disk type='file' device='disk'><future level='9'/><driver name='qemu' type='raw'/>"
                        "<source file='/x'/><target dev='vdb' bus='virtio'/></disk>")
    disk = ElementTree.fromstring(aiolos_alone.run("xml", "reformat", str(document)).out)
    assert disk.find("future").get("level") == "9"
    assert disk.find("source").get("file") == "/x"


@pytest.mark.parametrize("text", ["<disk", "<domain/>", ""])
def test_xml_reformat_refuses_what_is_no_disk(aiolos_alone, folder, text):
    document = folder / "bad.xml"
    document.write_text(text)
    shown = aiolos_alone.run("xml", "reformat", str(document), expect=2)
    assert "bad.xml" in shown.err
