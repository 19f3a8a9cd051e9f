# SPDX-License-Identifier: Apache-2.0
"""Debian packages unpacked into a folder of the state folder, and not installed: a layer to lay over this host's `/`.

For what would do more to a machine than the tests need: packages with units that start at the next boot, or with udev
rules that work at once. Only who mounts the layer sees it, in a VM or in a mount namespace.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess

from image import ImageError, command


def is_current(stamp: pathlib.Path, inputs: str) -> bool:
    """Whether write_stamp() wrote this for the same inputs, and every package that the layer relies on is still installed."""
    try:
        known = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return False
    return known["inputs"] == inputs and host_packages().issuperset(known["host_packages"])


def write_stamp(stamp: pathlib.Path, inputs: str) -> None:
    stamp.write_text(json.dumps({"inputs": inputs, "host_packages": sorted(host_packages())}))


def host_packages() -> set[str]:
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"], capture_output=True, text=True,
                           timeout=60, check=True)
    return {line.partition(" ")[2] for line in shown.stdout.splitlines() if line.startswith("installed ")}


def unpack_packages(packages: list[str], layer: pathlib.Path, *, reinstall: bool = False) -> None:
    """Download the packages and what they depend on, and unpack it all into the layer, which is made anew.

    What this host has installed is left out; of `packages` too, unless `reinstall` says otherwise.
    """
    download = layer.parent / "download"
    for old in (download, layer):
        shutil.rmtree(old, ignore_errors=True)
    (download / "partial").mkdir(parents=True)
    command(["apt-get", "-q", "-y", "--no-install-recommends", "--download-only", *(["--reinstall"] if reinstall else []),
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
