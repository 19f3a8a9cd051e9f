# SPDX-License-Identifier: Apache-2.0
"""libaiolos from other languages: Python's ctypes and C, on a real image and a real guest."""

import json
import os
import pathlib
import subprocess
import sys

import jsonschema
import pytest

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path[:0] = [str(PROJECT / "tests/guest"), str(PROJECT / "tests/e2e")]

import image  # noqa: E402
from guest import Guest, new_root  # noqa: E402
from harness import Volumes, domain_disks  # noqa: E402

BINARY = pathlib.Path(os.environ.get("AIOLOS") or PROJECT / "build/dev/bin/aiolos")
LIBRARY = BINARY.parent.parent / "lib/libaiolos.so"
ISCSI = {"driver_volume_type": "iscsi", "data": {"device_path": "/dev/sdq"}}
DISK = {"bus": "virtio", "dev": "vdb", "type": "disk"}


def request(command, **members):
    return json.dumps({"command": command, **members})


def answers(command, *, status=0):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, f"{done}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def from_python(config, *requests, threads=1, **options):
    return answers(["/usr/bin/python3", HERE / "drive.py", LIBRARY, config, threads, *requests], **options)


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    program = tmp_path_factory.mktemp("c") / "drive"
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{PROJECT}/agent/include",
                    str(HERE / "drive.c"), "-o", str(program), f"-L{LIBRARY.parent}", "-laiolos",
                    f"-Wl,-rpath,{LIBRARY.parent}"], check=True)
    return program


@pytest.fixture
def folder():
    """On a real disk, as /tmp need not be: O_DIRECT is tried."""
    import shutil
    import tempfile
    path = pathlib.Path(tempfile.mkdtemp(prefix="api", dir=image.state_folder()))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def write_config(folder, uri):
    path = folder / "aiolos.yaml"
    path.write_text(f'libvirt: {{uri: "{uri}"}}\nstate: {{dir: "{folder}/state"}}\n')
    return path


@pytest.fixture
def config(folder):
    import shutil
    root = new_root(image.state_folder())
    yield write_config(folder, f"qemu:///embed?root={root}")
    shutil.rmtree(root, ignore_errors=True)


def test_python_gets_xml(config):
    xml, = from_python(config, request("disk_xml", connection_info=ISCSI, disk_info=DISK))
    assert "/dev/sdq" in xml["xml"] and "io='native'" in xml["xml"]


def test_c_gets_xml_and_errors(c_program, config):
    drivers, xml, error, broken = answers([
        c_program, config, request("drivers"), request("disk_xml", connection_info=ISCSI, disk_info=DISK),
        request("disk_xml", connection_info={"driver_volume_type": "icsi"}, disk_info=DISK), "{broken"])
    assert {"iscsi", "nfs", "local"} <= {driver["name"] for driver in drivers["drivers"]}
    assert "/dev/sdq" in xml["xml"]
    assert error["error"]["kind"] == "bad_input" and "iscsi" in error["error"]["next"] + error["error"]["message"]
    assert broken["error"]["where"] == "request:1:2"


def test_c_gets_an_error_for_a_configuration_that_is_not_there(c_program):
    error, = answers([c_program, "/nonexistent/aiolos.yaml", "{}"], status=1)
    assert error["error"]["kind"] == "configuration"


def test_many_threads_share_one_agent(config):
    found = from_python(config, request("disk_xml", connection_info=ISCSI, disk_info=DISK), threads=16)
    assert len(found) == 16 and all(answer == found[0] for answer in found)


def test_explanation_keeps_to_the_published_schema(config, folder):
    volume = Volumes(folder).qcow2_backed()
    explanation, = from_python(config, request("explain", connection_info=volume.connection_info, disk_info=DISK))
    schema = json.loads((PROJECT / "docs/facts.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(explanation["facts"]["storage"], schema)
    assert len(explanation["facts"]["storage"]["chain"]) == 2


@pytest.mark.parametrize("name", ["attachment", "advice", "facts"])
def test_published_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(json.loads((PROJECT / f"docs/{name}.schema.json").read_text()))


def test_python_attaches_extends_and_detaches(folder):
    """The whole life of a volume on a running guest, by one agent."""
    volumes = Volumes(folder)
    volume = volumes.raw_written()
    with Guest() as guest:
        config = write_config(folder, guest.uri)
        where = {"domain": guest.name, "target": "vdb"}
        attached, again, extended, detached, gone = from_python(
            config, *[request("attach", domain=guest.name, connection_info=volume.connection_info, disk_info=DISK)] * 2,
            request("extend", size=2 * volume.size, **where), request("detach", **where), request("detach", **where))
        assert attached["aio"]["mode"] == "native" and again["xml"] == attached["xml"]
        assert extended == {"size": 2 * volume.size}
        assert detached == gone == {}
        assert domain_disks(guest) == {}
