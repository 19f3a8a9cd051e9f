# SPDX-License-Identifier: Apache-2.0
"""What of the storage VM's root is in its memory from the start: the tools, and what of this host's runs again and again.

All else comes from this host over 9p, where to open a file asks QEMU three times, and each symbolic link on the way once
more, at half a millisecond each, whatever the VM's kernel has cached of it. A program with its libraries is a dozen of files,
and starts in little more than half the time without that; a test starts hundreds.

It costs nothing but time if something is not here, or is and never runs.
"""

from __future__ import annotations

import pathlib
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "guest"))
import image  # noqa: E402

FOLDER = "resident"  # in the initramfs; it is a layer of the VM's root

# Of this host: what the tests, the drivers and udev's rules run, and what these load by themselves.
PROGRAMS = ["bash", "blockdev", "cat", "cp", "dash", "dd", "dmidecode", "env", "fallocate", "false", "findmnt", "grep", "head",
            "libvirtd", "ln", "losetup", "ls", "mkdir", "mount", "nsenter", "python3", "qemu-img", "qemu-io",
            "qemu-system-x86_64", "readlink", "realpath", "rm", "sed", "sh", "sleep", "stat", "sysctl", "tee", "touch", "true",
            "truncate", "umount", "virsh", "which"]
LOADED = ["usr/lib/x86_64-linux-gnu/libvirt/connection-driver/*.so", "usr/lib/python3.*/lib-dynload/*.so",
          "usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", "usr/lib/x86_64-linux-gnu/libnss_*.so.2"]
READ = ["etc/gai.conf", "etc/group", "etc/host.conf", "etc/hosts", "etc/ld.so.cache", "etc/localtime", "etc/netconfig",
        "etc/nsswitch.conf", "etc/passwd", "etc/protocols", "etc/rpc", "etc/services", "etc/ssl/openssl.cnf",
        "usr/lib/locale/C.utf8/*", "usr/lib/locale/C.utf8/LC_MESSAGES/*", "usr/lib/ssl/openssl.cnf",
        "usr/share/locale/locale.alias"]
# Of the layer, which is made of the tools, not: kernel modules are read once, manuals never.
NOT_OF_LAYER = ["boot", "usr/share", "usr/lib/modules/*/kernel"]

LOADER = pathlib.Path("/lib64/ld-linux-x86-64.so.2")
LIBRARIES = ["usr/lib/x86_64-linux-gnu", "usr/lib"]


def add_to(initramfs: image.Cpio, layer: pathlib.Path, build: pathlib.Path) -> None:
    """layer: vm_image.py's. build: the build tree of what is tested."""
    tree = Tree(layer, pathlib.Path("/"))
    runs = {*of_host(), *of_build(build)}
    wanted = {*of_layer(layer), *runs}
    for path in runs | {path for path in wanted if "bin/" in path or "/udev/" in path}:
        wanted.update(libraries(tree, path))
    initramfs.folder(FOLDER, 0o755)
    for path in sorted({step for path in wanted for step in tree.walk(path)}):
        add(initramfs, tree, path)


class Tree:
    """Folders that lie over one another, the first of them on top. Paths are relative to their root."""

    def __init__(self, *folders: pathlib.Path):
        self.folders = folders

    def find(self, path: str) -> pathlib.Path:
        """Where it is on this host, whether it is there or not."""
        places = [folder / path for folder in self.folders]
        return next((place for place in places if place.is_symlink() or place.exists()), places[-1])

    def walk(self, path: str) -> Iterator[str]:
        """The symbolic links on the way to a file, and the file; nothing more where there is none."""
        before, _, after = "", "", path
        for _ in range(200):  # a link to itself has no end
            name, _, after = after.partition("/")
            if name == "..":
                before = before.rpartition("/")[0]
            elif name not in ("", "."):
                here = f"{before}/{name}".lstrip("/")
                place = self.find(here)
                if place.is_symlink():
                    yield here
                    target = str(place.readlink())
                    before, after = "" if target.startswith("/") else before, f"{target}/{after}"
                else:
                    before = here
            if not after:
                if self.find(before).is_file():
                    yield before
                return


def of_layer(layer: pathlib.Path) -> Iterator[str]:
    left_out = [place for pattern in NOT_OF_LAYER for place in layer.glob(pattern)]
    for place in layer.rglob("*"):
        if (place.is_symlink() or place.is_file()) and not any(out in place.parents for out in left_out):
            yield str(place.relative_to(layer))


def of_host() -> Iterator[str]:
    for name in PROGRAMS:
        yield str(image.program(name)).lstrip("/")
    yield str(LOADER).lstrip("/")
    root = pathlib.Path("/")
    for pattern in (*LOADED, *READ):
        yield from (str(place).lstrip("/") for place in root.glob(pattern))


def of_build(build: pathlib.Path) -> Iterator[str]:
    for pattern in ("bin/aiolos", "bin/flows_process", "lib/*.so*", "lib/aiolos/plugins/*.so"):
        yield from (str(place).lstrip("/") for place in build.glob(pattern))


def libraries(tree: Tree, path: str) -> Iterator[str]:
    """What the dynamic linker loads with a program or library, as it finds it in the VM."""
    place = tree.find(path)
    if place.is_symlink() or not is_dynamic(place):
        return
    found = ":".join(str(folder / name) for folder in tree.folders for name in LIBRARIES)
    shown = subprocess.run([LOADER, "--library-path", found, "--list", place], capture_output=True, text=True, timeout=60)
    for library in re.findall(r"(/\S+) \(0x", shown.stdout):
        for folder in tree.folders:
            if (relative := library.removeprefix(f"{str(folder).rstrip('/')}/")) != library:
                yield relative
                yield relative.removeprefix("usr/")  # by which way it is looked for
                break


def is_dynamic(place: pathlib.Path) -> bool:
    try:
        with open(place, "rb") as stream:
            return stream.read(4) == b"\x7fELF"
    except OSError:
        return False


def add(initramfs: image.Cpio, tree: Tree, path: str) -> None:
    place = tree.find(path)
    for parent in reversed(pathlib.PurePosixPath(path).parents[:-1]):
        initramfs.folder(f"{FOLDER}/{parent}", stat.S_IMODE(tree.find(str(parent)).stat().st_mode))
    if place.is_symlink():
        initramfs.link(f"{FOLDER}/{path}", str(place.readlink()))
    else:
        initramfs.file(f"{FOLDER}/{path}", place, stat.S_IMODE(place.stat().st_mode))
