# SPDX-License-Identifier: Apache-2.0
"""Programs and plugins that others build against the installed package: by CMake and by pkg-config, in C and C++."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from conftest import PROJECT, run

HERE = pathlib.Path(__file__).resolve().parent
LOCAL_DRIVERS = {"fibre_channel", "file", "iscsi", "local", "nfs", "nvmeof", "quobyte", "rbd"}


def drivers(aiolos):
    """The loaded drivers by name; a rejected plugin is a failure."""
    answer = json.loads(run(aiolos, "drivers", "--json"))
    listed = answer["drivers"]
    assert not [driver for driver in listed if "rejected" in driver]
    return {driver["name"]: driver for driver in listed}


def disk_xml(aiolos, tmp_path, connection):
    """The XML of a connection_info, through the installed command and its installed plugins."""
    (tmp_path / "connection.json").write_text(json.dumps(connection))
    (tmp_path / "disk.json").write_text(json.dumps({"bus": "virtio", "dev": "vdb", "type": "disk"}))
    return run(aiolos, "disk-xml", "--connection", tmp_path / "connection.json", "--disk", tmp_path / "disk.json")


def pkg_config(prefix, *arguments):
    folder = next(prefix.glob("**/pkgconfig"))
    return run("pkg-config", *arguments, env=os.environ | {"PKG_CONFIG_PATH": str(folder)}).split()


def library_folder(prefix):
    return next(prefix.glob("**/libaiolos.so")).parent


def exported(library):
    return [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()]


def test_the_installed_command_finds_the_installed_plugins(aiolos, prefix):
    found = drivers(aiolos)
    types = {name for driver in found.values() for name in driver["types"]}
    assert LOCAL_DRIVERS <= types
    for driver in found.values():
        assert pathlib.Path(driver["file"]).parent == (prefix / "lib/aiolos/plugins").resolve()


def test_every_plugin_exports_its_entry_and_nothing_else(prefix):
    plugins = list((prefix / "lib/aiolos/plugins").glob("*.so"))
    assert plugins
    for plugin in plugins:
        assert exported(plugin) == ["aiolos_plugin_entry"], plugin


def test_the_c_example(build, aiolos, tmp_path):
    build(PROJECT / "examples/c-plugin", install=True)
    assert drivers(aiolos)["nbd"]["types"] == ["nbd"]
    xml = disk_xml(aiolos, tmp_path, {"driver_volume_type": "nbd", "data": {"host": "10.0.0.7", "export": "vol-1"}})
    assert "protocol=\"nbd\"" in xml.replace("'", '"') and "10809" in xml and "vol-1" in xml


def test_the_c_example_names_a_missing_key(build, aiolos, tmp_path):
    build(PROJECT / "examples/c-plugin", install=True)
    with pytest.raises(AssertionError, match="/data/export"):
        disk_xml(aiolos, tmp_path, {"driver_volume_type": "nbd", "data": {"host": "10.0.0.7"}})


def test_the_cpp_example(build, aiolos, tmp_path):
    build(PROJECT / "examples/cpp-plugin", install=True)
    assert drivers(aiolos)["lvm"]["capabilities"]
    xml = disk_xml(aiolos, tmp_path,
                   {"driver_volume_type": "lvm", "data": {"volume_group": "vg0", "logical_volume": "vol-1"}})
    assert "/dev/vg0/vol-1" in xml


def test_the_examples_export_their_entry_and_nothing_else(build, tmp_path):
    folder = build(PROJECT / "examples/cpp-plugin")
    assert exported(folder / "aiolos-lvm.so") == ["aiolos_plugin_entry"]


@pytest.fixture
def page(tmp_path):
    """The project of docs/write-a-driver.md: its code, its CMake and its connection_info, as they stand there."""
    text = (PROJECT / "docs/write-a-driver.md").read_text()
    folder = tmp_path / "page"
    folder.mkdir()
    for language, name in (("cpp", "loop.cc"), ("cmake", "CMakeLists.txt"), ("json", "volume.json")):
        block, = re.findall(f"```{language}\\n(.*?)```", text, re.DOTALL)
        (folder / name).write_text(block)
    return folder


def test_the_driver_of_the_page_is_built_and_keeps_the_rules(build, page, aiolos):
    folder = build(page, install=True)
    assert drivers(aiolos)["loop"]["capabilities"] == ["connect", "multiattach"]
    run("ctest", "--output-on-failure", "--no-tests=error", cwd=folder)


def test_the_driver_of_the_page_connects(build, page, aiolos, tmp_path):
    image = tmp_path / "volume-1.raw"
    image.write_bytes(bytes(1 << 20))
    loop = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, timeout=60)
    if loop.returncode != 0:
        pytest.skip(f"no loop device can be made here: {loop.stderr}")
    run("losetup", "--detach", loop.stdout.strip())
    (page / "volume.json").write_text((page / "volume.json").read_text().replace("/srv/volume-1.raw", str(image)))
    plugin = build(page) / "aiolos-loop.so"
    shown = run(aiolos.parent / "aiolos-conformance", plugin, "--connection", page / "volume.json", "--connect")
    assert "PASS crash-points.connect-3 (after the effect" in shown
    assert run("losetup", "--associated", image) == ""


def test_the_nvmeof_driver_as_a_third_party_builds_it(build, aiolos, prefix, tmp_path):
    """One source file and three lines of CMake."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES CXX)\nfind_package(aiolos REQUIRED)\n"
        f"aiolos_add_plugin(nvmeof {PROJECT}/drivers/nvmeof/nvmeof.cc)\n")
    connection = tmp_path / "volume.json"
    connection.write_text(json.dumps({"driver_volume_type": "nvmeof", "data": {
        "target_nqn": "nqn.2014-08.org.example:s", "vol_uuid": "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e",
        "portals": [["10.0.0.1", 4420, "tcp"]], "device_path": "/dev/nvme0n1"}}))
    run(aiolos.parent / "aiolos-conformance", build(tmp_path / "x") / "aiolos-nvmeof.so", "--connection", connection)


def test_a_conformance_test_of_an_unknown_plugin_is_refused_at_configuration(build, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES C)\nenable_testing()\nfind_package(aiolos REQUIRED)\n"
        "aiolos_add_conformance_test(x volume.json)\n")
    with pytest.raises(AssertionError, match="no plugin 'x'"):
        build(tmp_path / "x")


def test_no_flag_of_ours_reaches_a_consumer(build):
    commands = json.loads((build(PROJECT / "examples/cpp-plugin") / "compile_commands.json").read_text())
    for entry in commands:
        for flag in ("-Wshadow", "-fsanitize", "-Wnon-virtual-dtor"):
            assert flag not in entry["command"]


def test_a_cpp_program(build, aiolos):
    folder = build(HERE / "cpp_library")
    assert "iscsi" in run(folder / "consumer").split()


def test_a_c_program_by_cmake(build):
    folder = build(HERE / "c_library")
    assert "iscsi" in run(folder / "consumer")


def test_a_c_program_by_pkg_config(prefix, tmp_path):
    binary = tmp_path / "consumer"
    run("gcc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", HERE / "c_library/consumer.c", "-o", binary,
        *pkg_config(prefix, "--cflags", "--libs", "aiolos"), f"-Wl,-rpath,{library_folder(prefix)}")
    assert "iscsi" in run(binary)


def test_a_cpp_plugin_by_pkg_config(prefix, aiolos, tmp_path):
    plugins = pathlib.Path(*pkg_config(prefix, "--variable=plugindir", "aiolos-plugin")).resolve()
    assert plugins == (prefix / "lib/aiolos/plugins").resolve()
    run("g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror",
        PROJECT / "examples/cpp-plugin/lvm.cc", "-o", plugins / "aiolos-lvm.so",
        *pkg_config(prefix, "--cflags", "--libs", "aiolos-plugin"))
    assert "lvm" in drivers(aiolos)


def test_a_c_plugin_by_pkg_config(prefix, aiolos):
    plugins = prefix / "lib/aiolos/plugins"
    run("gcc", "-std=c11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", PROJECT / "examples/c-plugin/nbd.c",
        "-o", plugins / "aiolos-nbd.so", *pkg_config(prefix, "--cflags", "aiolos-plugin"))
    assert "nbd" in drivers(aiolos)


def test_a_wrong_plugin_name_is_refused_at_configuration(build, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES C)\nfind_package(aiolos REQUIRED)\n"
        "aiolos_add_plugin(../x x.c)\n")
    with pytest.raises(AssertionError, match="may hold letters, digits"):
        build(tmp_path / "x")


def headers():
    """Every header that the project installs, by its name below include/aiolos."""
    for part in ("core", "plugins", "agent"):
        folder = PROJECT / part / "include/aiolos"
        for header in sorted(folder.glob("**/*.h*")):
            if part != "plugins" or header.parent == folder:
                yield str(header.relative_to(folder))


@pytest.mark.parametrize("header", [name for name in headers() if name != "plugin_edge.hpp"])
def test_every_header_compiles_by_itself(prefix, header, tmp_path):
    source = tmp_path / "header.cc"
    source.write_text(f"#include <aiolos/{header}>\n#include <aiolos/{header}>\n")
    run("g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{prefix}/include", source)


def test_no_other_header_is_installed(prefix):
    installed = {str(path.relative_to(prefix / "include/aiolos")) for path in (prefix / "include").glob("**/*.h*")}
    assert installed == set(headers())


def test_the_installation_holds_no_path_of_its_making(prefix):
    """CMake and pkg-config files that name the source or build folder would work on this machine alone."""
    for path in [*prefix.glob("**/*.cmake"), *prefix.glob("**/*.pc")]:
        assert str(PROJECT) not in path.read_text(), path
        assert "/first" not in path.read_text(), path


def test_nothing_installed_can_be_written_by_others(prefix):
    assert not [path for path in prefix.glob("**/*") if not path.is_symlink() and path.stat().st_mode & 0o022]


def test_a_world_writable_plugin_is_refused_and_the_others_load(prefix, aiolos):
    plugin = prefix / "lib/aiolos/plugins/aiolos-nfs.so"
    plugin.chmod(0o777)
    try:
        done = subprocess.run([aiolos, "drivers", "--json"], capture_output=True, text=True, timeout=60)
        listed = json.loads(done.stdout)["drivers"]
        rejected = [driver for driver in listed if "rejected" in driver]
        assert [pathlib.Path(driver["file"]).name for driver in rejected] == ["aiolos-nfs.so"]
        assert "world-writable" in rejected[0]["rejected"]["message"]
        assert "iscsi" in {driver.get("name") for driver in listed}
    finally:
        plugin.chmod(0o755)
