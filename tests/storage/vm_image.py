# SPDX-License-Identifier: Apache-2.0
"""What the storage VM boots, made from Debian's packages and kept in the state folder: kernel, initramfs and a layer.

The layer is a folder with the storage tools and the kernel's modules, unpacked from their packages. The VM lays it over
this host's `/`, so nothing of it is installed here. Installing would do more than the tests need: open-iscsi,
multipath-tools, rpcbind, nfs-kernel-server and lvm2 all come with units that start at the next boot, or with udev rules
that work at once.

Run as a program it builds all that if it is needed and prints where it is.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "guest"))
import image  # noqa: E402
from image import ImageError, command, program  # noqa: E402

# apt adds what these depend on and this host does not have installed.
PACKAGES = ["kmod", "udev", "iproute2", "e2fsprogs", "dmsetup", "lvm2", "thin-provisioning-tools", "open-iscsi",
            "multipath-tools", "nvme-cli", "nfs-common", "nfs-kernel-server"]
KERNEL_METAPACKAGE = "linux-image-amd64"
# What it takes to reach the root file system; udev and modprobe load the rest from the layer.
BOOT_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "configfs"]


@dataclasses.dataclass(frozen=True)
class VmImage:
    kernel: pathlib.Path
    initrd: pathlib.Path
    layer: pathlib.Path


def build(state: pathlib.Path | None = None) -> VmImage:
    """The image, built first unless that was done before. Safe to call from several processes."""
    folder = (state or image.state_folder()) / "storage-vm"
    folder.mkdir(parents=True, exist_ok=True)
    built = VmImage(folder / "vmlinuz", folder / "initrd", folder / "layer")
    stamp = folder / "stamp.json"
    with image.locked(folder / "lock"):
        if not is_current(stamp):
            stamp.unlink(missing_ok=True)
            unpack_layer(folder, built.layer)
            version = write_kernel(built)
            index_modules(built.layer, version)
            write_initrd(built.initrd, built.layer / "lib/modules" / version)
            stamp.write_text(json.dumps({"inputs": inputs(), "host_packages": sorted(host_packages())}))
    return built


def is_current(stamp: pathlib.Path) -> bool:
    """Whether the image was made of the same inputs, and every package that it could rely on then is still installed."""
    try:
        known = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return False
    return known["inputs"] == inputs() and host_packages().issuperset(known["host_packages"])


def inputs() -> str:
    digest = hashlib.sha256()
    for source in (HERE / "vm_image.py", HERE / "vm/initramfs_init", pathlib.Path(image.__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def host_packages() -> set[str]:
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"], capture_output=True, text=True,
                           timeout=60, check=True)
    return {line.partition(" ")[2] for line in shown.stdout.splitlines() if line.startswith("installed ")}


def unpack_layer(folder: pathlib.Path, layer: pathlib.Path) -> None:
    """Download the packages, without installing them, and unpack them all into the layer."""
    download = folder / "download"
    for old in (download, layer):
        shutil.rmtree(old, ignore_errors=True)
    (download / "partial").mkdir(parents=True)
    # kernel_package() first: it gets apt's lists where there are none. --reinstall is for what this host has already:
    # its modules and tools have to be those of the layer's kernel, and to stay when the host's go.
    packages = [image.kernel_package(KERNEL_METAPACKAGE), *PACKAGES]
    command(["apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "--reinstall",
             "-o", f"Dir::Cache::archives={download}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
             "install", *packages], timeout=900)
    for name in ("bin", "sbin", "lib", "lib64"):  # as on the host, whose /lib would vanish below a real folder
        (layer / "usr" / name).mkdir(parents=True)
        (layer / name).symlink_to(f"usr/{name}")
    for package in sorted(download.glob("*.deb")):
        unpack(package, layer)
    shutil.rmtree(download)


def unpack(package: pathlib.Path, into: pathlib.Path) -> None:
    """As dpkg-deb --extract, but what the package has in /lib goes where the link /lib points to."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as reading:
        done = subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", str(into)], stdin=reading.stdout,
                              stderr=subprocess.PIPE, text=True, timeout=300)
    if done.returncode != 0 or reading.returncode != 0:
        raise ImageError(f"cannot unpack {package}: {done.stderr}")


def write_kernel(built: VmImage) -> str:
    """Place the kernel where QEMU finds it; its version."""
    kernels = list((built.layer / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ImageError(f"expected one kernel in {built.layer}/boot, found {len(kernels)}")
    shutil.copyfile(kernels[0], built.kernel)
    return kernels[0].name.removeprefix("vmlinuz-")


def index_modules(layer: pathlib.Path, version: str) -> None:
    """Write modules.dep and its like, which the kernel package leaves to its installation."""
    done = subprocess.run(["depmod", "-b", str(layer), version], executable=layer / "bin/kmod", timeout=300,
                          env={**os.environ, "LD_LIBRARY_PATH": f"{layer}/lib/x86_64-linux-gnu"}, capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise ImageError(f"depmod ended with status {done.returncode}: {done.stderr}")


def write_initrd(target: pathlib.Path, modules: pathlib.Path) -> None:
    archive = image.Cpio()
    archive.file("init", HERE / "vm/initramfs_init", 0o755)
    archive.file("bin/busybox", program("busybox"), 0o755)
    archive.modules(image.module_order(modules, BOOT_MODULES, needed=("9p", "overlay")))
    archive.write(target)


if __name__ == "__main__":
    try:
        print(*dataclasses.astuple(build()), sep="\n")
    except (ImageError, subprocess.SubprocessError, OSError) as error:
        sys.exit(f"storage VM image: {error}")
