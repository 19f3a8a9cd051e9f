# SPDX-License-Identifier: Apache-2.0
"""The throw-away guest's kernel and initramfs, built from Debian's packages and kept in the state folder.

The kernel is Debian's cloud kernel, and the guest agent Debian's; both are unpacked from their packages and not installed.
The initramfs holds busybox, fio and qemu-ga with their shared libraries, and the virtio modules. Neither is compressed:
QEMU places them in the guest's memory by itself, and decompressing them would take an emulated processor longer than all
the rest of the boot.

Run as a program (scripts/guest-image) it builds the image if that is needed, in the folder that it is given or in the state
folder, and prints where it is. `aiolos measure --guest` takes its guest from such a folder.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent

# What the guest needs, besides what these modules themselves name as their dependencies. Anything that is built into
# the kernel, or that it does not have, is no module and is left out.
MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_console", "sd_mod", "crc32c-intel"]
KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
AGENT_PACKAGE = "qemu-guest-agent"


class ImageError(Exception):
    """The image cannot be built; the text says why."""


@dataclasses.dataclass(frozen=True)
class Image:
    kernel: pathlib.Path
    initrd: pathlib.Path


def state_folder() -> pathlib.Path:
    """Where everything is kept that is downloaded, built or cached at run time: AIOLOS_STATE, else .aiolos/."""
    return pathlib.Path(os.environ.get("AIOLOS_STATE") or PROJECT / ".aiolos").absolute()


def build(state: pathlib.Path | None = None) -> Image:
    """The image in the state folder, built first unless it was built from the same inputs before."""
    return build_in((state or state_folder()) / "guest")


def build_in(folder: pathlib.Path) -> Image:
    """The image in this folder, as build(). Safe to call from several processes."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image(folder / "vmlinux", folder / "initrd")
    with locked(folder / "lock"):
        stamp = folder / "stamp"
        wanted = inputs()
        if not (stamp.exists() and stamp.read_text() == wanted and image.kernel.exists() and image.initrd.exists()):
            stamp.unlink(missing_ok=True)
            tree = unpacked(folder, "kernel", kernel_package)
            agent = unpacked(folder, "agent", lambda: AGENT_PACKAGE) / "usr/sbin/qemu-ga"
            kernels = sorted((tree / "boot").glob("vmlinuz-*"))
            if not kernels:
                raise ImageError(f"no kernel in {tree}/boot: remove {folder} and try again")
            shutil.copyfile(kernels[-1], folder / "vmlinuz")  # which `aiolos measure` boots
            image.kernel.write_bytes(uncompressed(kernels[-1].read_bytes()))
            write_initrd(image.initrd, tree / "lib/modules" / kernels[-1].name.removeprefix("vmlinuz-"), agent)
            stamp.write_text(wanted)
    return image


def uncompressed(kernel: bytes) -> bytes:
    """The kernel as an ELF file, which QEMU starts by its entry for PVH.

    Source: Linux, Documentation/x86/boot.rst, "payload_offset"; the payload ends with its uncompressed length.
    """
    sectors, offset, length = kernel[0x1F1], *struct.unpack_from("<II", kernel, 0x248)
    begin = (sectors + 1) * 512 + offset
    payload = kernel[begin:begin + length - 4]
    if payload.startswith(b"\xfd7zXZ"):
        found = lzma.decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        found = zlib.decompress(payload, wbits=31)
    else:
        found = subprocess.run([program("lz4"), "-dc"], input=payload, capture_output=True, timeout=120).stdout
    if not found.startswith(b"\x7fELF"):
        raise ImageError(f"cannot decompress the kernel: its payload begins with {payload[:6].hex(' ')}, which is none of xz, "
                         "gzip and lz4; teach uncompressed() in tests/guest/image.py what it is")
    return found


@contextlib.contextmanager
def locked(path: pathlib.Path):
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def inputs() -> str:
    """What the image is made of: this program, the guest's init, and the programs taken from the host."""
    digest = hashlib.sha256()
    for source in (HERE / "image.py", HERE / "init"):
        digest.update(source.read_bytes())
    for name in ("busybox", "fio"):
        status = program(name).stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def program(name: str) -> pathlib.Path:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if not found:
        raise ImageError(f"{name} is not installed: run scripts/setup run")
    return pathlib.Path(found)


def unpacked(folder: pathlib.Path, name: str, package: Callable[[], str]) -> pathlib.Path:
    """The folder with a package's files, `name` below `folder`; downloads and unpacks the package the first time."""
    tree = folder / name
    if tree.exists():
        return tree
    download = folder / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    command(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package()], cwd=download, timeout=600)
    packages = list(download.glob("*.deb"))
    if len(packages) != 1:
        raise ImageError(f"expected one package in {download}, found {len(packages)}")
    unpacking = folder / f"{name}.part"
    shutil.rmtree(unpacking, ignore_errors=True)
    command(["dpkg-deb", "--extract", str(packages[0]), str(unpacking)], timeout=120)
    unpacking.rename(tree)
    shutil.rmtree(download)
    return tree


def kernel_package(metapackage: str = KERNEL_METAPACKAGE) -> str:
    """The package that the metapackage stands for today, such as linux-image-6.1.0-56-cloud-amd64."""
    for update_first in (False, True):
        if update_first:
            command(["apt-get", "-q", "update"], timeout=300)
        shown = subprocess.run(["apt-cache", "depends", metapackage], capture_output=True, text=True, timeout=60)
        found = re.search(r"Depends: (linux-image-\S+)", shown.stdout)
        if found:
            return found.group(1)
    raise ImageError(f"apt knows no package {metapackage}; the guest is built from Debian 12's amd64 packages")


def command(arguments: list[str], timeout: float, cwd: pathlib.Path | None = None) -> None:
    done = subprocess.run(arguments, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stdout}")


def module_order(modules: pathlib.Path, names: list[str], needed: tuple[str, ...]) -> list[pathlib.Path]:
    """The files of these modules and of all they depend on, each after its own dependencies (virtio_ring before virtio).

    ImageError if one of those in `needed` is no file, for then the machine would not get anywhere.

    The package has no modules.dep (depmod makes that at installation), but each module names its dependencies in its
    own .modinfo section as the string depends=a,b.
    """
    files = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    order: list[pathlib.Path] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        found = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for dependency in (found.group(1).decode() if found else "").split(","):
            add(dependency)
        order.append(path)

    for name in names:
        add(name)
    for name in needed:
        if files.get(name) not in order:
            raise ImageError(f"the kernel package has no module {name} under {modules}")
    return order


def shared_libraries(binary: pathlib.Path) -> dict[str, pathlib.Path]:
    """What ldd says the binary needs: the path to place in the image -> the file on this host."""
    shown = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, timeout=60, check=True).stdout
    if "not found" in shown:
        raise ImageError(f"{binary} lacks a library:\n{shown}")
    found = {}
    for line in shown.splitlines():
        match = re.search(r"(?:=> )?(/\S+) \(0x", line)
        if match:
            found[match.group(1)] = pathlib.Path(match.group(1)).resolve()
    return found


def write_initrd(target: pathlib.Path, modules: pathlib.Path, agent: pathlib.Path) -> None:
    archive = Cpio()
    archive.file("init", HERE / "init", 0o755)
    archive.file("bin/busybox", program("busybox"), 0o755)
    archive.link("bin/sh", "busybox")
    archive.modules(module_order(modules, MODULES, needed=("virtio_pci", "virtio_blk")))
    libraries = {}
    for path in (program("fio"), agent):
        archive.file(f"bin/{path.name}", path, 0o755)
        libraries |= shared_libraries(path)
    for place, path in libraries.items():
        # One folder for all: the loader that every one of them names, /lib64/ld-linux-x86-64.so.2, searches /lib.
        archive.file(place.lstrip("/") if "ld-linux" in place else f"lib/{pathlib.Path(place).name}", path, 0o755)
    archive.write(target)


class Cpio:
    """A cpio archive in the newc form, which is what the kernel unpacks."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.seen: set[str] = set()
        # The kernel opens /dev/console for init before init can mount devtmpfs.
        self.entry("dev", stat.S_IFDIR | 0o755, b"")
        self.entry("dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))

    def file(self, name: str, source: pathlib.Path, mode: int) -> None:
        self.data(name, source.read_bytes(), mode)

    def data(self, name: str, content: bytes, mode: int) -> None:
        self.folders(name)
        self.entry(name, stat.S_IFREG | mode, content)

    def link(self, name: str, to: str) -> None:
        self.folders(name)
        self.entry(name, stat.S_IFLNK | 0o777, to.encode())

    def modules(self, order: list[pathlib.Path]) -> None:
        """Kernel modules, and in modules/order the order to load them in."""
        for path in order:
            self.file(f"modules/{path.name}", path, 0o644)
        self.data("modules/order", "".join(f"{path.name}\n" for path in order).encode(), 0o644)

    def folders(self, name: str) -> None:
        for parent in list(pathlib.PurePosixPath(name).parents)[-2::-1]:
            self.folder(str(parent), 0o755)

    def folder(self, name: str, mode: int) -> None:
        """Unless it is in it."""
        if name not in self.seen:
            self.entry(name, stat.S_IFDIR | mode, b"")

    def entry(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self.seen.add(name)
        fields = [len(self.seen), mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(name) + 1, 0]
        header = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        for block in (header, content):
            self.parts.append(block + b"\0" * (-len(block) % 4))

    def write(self, target: pathlib.Path) -> None:
        self.entry("TRAILER!!!", 0, b"")
        part = target.with_suffix(".part")
        with open(part, "wb") as stream:
            stream.writelines(self.parts)
        part.rename(target)


if __name__ == "__main__":
    try:
        built = build_in(pathlib.Path(sys.argv[1]).absolute()) if len(sys.argv) == 2 else build()
    except (ImageError, subprocess.SubprocessError, OSError) as error:
        sys.exit(f"guest image: {error}")
    print(f"{built.kernel}\n{built.initrd}")
