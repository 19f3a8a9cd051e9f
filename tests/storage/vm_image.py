# SPDX-License-Identifier: Apache-2.0
"""What the storage VM boots, made from Debian's packages and kept in the state folder: a kernel and a layer.

The layer (tests/guest/layer.py) has the storage tools and the kernel's modules. The VM lays it over this host's `/`, so
nothing of it is installed here: open-iscsi, multipath-tools, rpcbind, nfs-kernel-server and lvm2 all come with units that
start at the next boot, or with udev rules that work at once.

Run as a program it builds all that if it is needed and prints where it is.
"""

import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "guest"))
import image  # noqa: E402
import layer  # noqa: E402
import resident  # noqa: E402
from image import ImageError, program  # noqa: E402

# apt adds what these depend on and this host does not have installed.
PACKAGES = ["kmod", "udev", "iproute2", "e2fsprogs", "dmsetup", "lvm2", "thin-provisioning-tools", "open-iscsi",
            "multipath-tools", "nvme-cli", "nfs-common", "nfs-kernel-server", "python3-fusepy"]
KERNEL_METAPACKAGE = "linux-image-amd64"
# What it takes to reach the root file system; udev and modprobe load the rest from the layer.
BOOT_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "configfs"]


@dataclasses.dataclass(frozen=True)
class VmImage:
    kernel: pathlib.Path
    layer: pathlib.Path


def build(state: pathlib.Path | None = None) -> VmImage:
    """The image, built first unless that was done before. Safe to call from several processes."""
    folder = (state or image.state_folder()) / "storage-vm"
    folder.mkdir(parents=True, exist_ok=True)
    built = VmImage(folder / "vmlinux", folder / "layer")
    stamp = folder / "stamp.json"
    with image.locked(folder / "lock"):
        if not layer.is_current(stamp, inputs()):
            stamp.unlink(missing_ok=True)
            # kernel_package() first: it gets apt's lists where there are none. reinstall is for what this host has
            # already: its modules and tools have to be those of the layer's kernel, and to stay when the host's go.
            layer.unpack_packages([image.kernel_package(KERNEL_METAPACKAGE), *PACKAGES], built.layer, reinstall=True)
            index_modules(built.layer, write_kernel(built))
            layer.write_stamp(stamp, inputs())
    return built


def inputs() -> str:
    digest = hashlib.sha256()
    for source in (HERE / "vm_image.py", pathlib.Path(image.__file__), pathlib.Path(layer.__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def write_kernel(built: VmImage) -> str:
    """Place the kernel, uncompressed, where QEMU finds it; its version."""
    kernels = list((built.layer / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ImageError(f"expected one kernel in {built.layer}/boot, found {len(kernels)}")
    built.kernel.write_bytes(image.uncompressed(kernels[0].read_bytes()))
    return kernels[0].name.removeprefix("vmlinuz-")


def index_modules(folder: pathlib.Path, version: str) -> None:
    """Write modules.dep and its like, which the kernel package leaves to its installation."""
    done = subprocess.run(["depmod", "-b", str(folder), version], executable=folder / "bin/kmod", timeout=300,
                          env={**os.environ, "LD_LIBRARY_PATH": f"{folder}/lib/x86_64-linux-gnu"}, capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise ImageError(f"depmod ended with status {done.returncode}: {done.stderr}")


def write_initrd(target: pathlib.Path, built: VmImage, tested: pathlib.Path) -> None:
    """For each VM anew, as this host's programs and what is tested may be others. tested: a build tree."""
    archive = image.Cpio()
    archive.file("init", HERE / "vm/initramfs_init", 0o755)
    archive.file("bin/busybox", program("busybox"), 0o755)
    archive.modules(image.module_order(next((built.layer / "lib/modules").iterdir()), BOOT_MODULES, needed=("9p", "overlay")))
    resident.add_to(archive, built.layer, tested)
    archive.write(target)


if __name__ == "__main__":
    try:
        print(*dataclasses.astuple(build()), sep="\n")
    except (ImageError, subprocess.SubprocessError, OSError) as error:
        sys.exit(f"storage VM image: {error}")
