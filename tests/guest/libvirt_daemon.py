# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of its own for tests, for what libvirt's embedded driver has not: secrets, and migration between two hosts.

    with LibvirtDaemon() as libvirt:
        secret = libvirt.define_secret("ceph", "client.volumes", key)
        with Guest(libvirt=libvirt) as guest:
            ...
    with LibvirtDaemon(network=ceph.network) as libvirt: ...      # libvirtd and its guests see what that network has

It runs in a mount namespace in which /etc/libvirt, /run/libvirt and /var/{lib,log,cache}/libvirt are folders of `folder`,
so nothing of the host's libvirt is touched, and several run side by side. Each counts as a host of its own. Sockets with a
path are reached from every namespace, so that `uri` works for everybody.

It loads QEMU's driver and that of secrets, and no other: those for networks, firewall rules and devices have no business
on the host's. Debian 12's libvirt has no virtqemud, only libvirtd.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import uuid

import guest
import image
import libvirt
from guest import GuestError
from managed import Managed
from namespaces import NamespaceError, Namespaces, stop, wait_until

REAPER = pathlib.Path(__file__).resolve().parent / "reaper.py"
DRIVERS = pathlib.Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver")
PLACES = {"etc": "/etc/libvirt", "run": "/run/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt",
          "cache": "/var/cache/libvirt"}

LIBVIRTD_CONF = """\
# Written by tests/guest/libvirt_daemon.py.
host_uuid = "{host_uuid}"        # two daemons on one machine count as two hosts
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"            # the default asks polkit
auth_unix_rw = "none"
log_outputs = "3:stderr"
"""

# Have a folder at $1. Where there is none, its parent is covered with a tmpfs that has the same in it, so that the new
# folder is not on the host's disk.
HAVE_FOLDER = """\
have_folder() {
  [ ! -d "$1" ] || return 0
  parent=$(dirname "$1")
  mount -t tmpfs -o mode=755 libvirt-test "$stage"
  for each in "$parent"/* "$parent"/.[!.]*; do
    if [ -h "$each" ]; then cp -P "$each" "$stage/"
    elif [ -d "$each" ]; then mkdir "$stage/${each##*/}"; mount --rbind "$each" "$stage/${each##*/}"
    elif [ -e "$each" ]; then touch "$stage/${each##*/}"; mount --bind "$each" "$stage/${each##*/}"
    fi
  done
  mkdir "$stage/${1##*/}"
  mount --rbind "$stage" "$parent"
}
"""


libvirt.registerErrorHandler(lambda *_: None, None)  # its errors come as exceptions, too


class LibvirtDaemon(Managed):
    def __init__(self, folder: os.PathLike | str | None = None, *, network: Namespaces | None = None,
                 state: pathlib.Path | None = None, qemu_conf: str = ""):
        """folder: what libvirt keeps; made, and removed by close(); by default a short new one. It has the same parts as
        the root of an embedded driver. network: the namespaces to start in, by default the host's. qemu_conf: lines to add
        to qemu.conf."""
        super().__init__()
        self.state = state or image.state_folder()
        self.folder = pathlib.Path(folder).absolute() if folder else guest.new_root(self.state)
        self.host_uuid = str(uuid.uuid4())
        self.process: subprocess.Popen | None = None
        self._connection: libvirt.virConnect | None = None
        self._network = network
        self._qemu_conf = qemu_conf
        self._namespaces: Namespaces | None = None

    @property
    def socket(self) -> pathlib.Path:
        return self.folder / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def log(self) -> pathlib.Path:
        return self.folder / "libvirtd.log"

    def open(self) -> None:
        self.undo(shutil.rmtree, self.folder, ignore_errors=True)
        for name in (*PLACES, "drivers", "stage"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        guest.prepare_root(self.folder, self.state)
        with open(self.folder / "etc/qemu.conf", "a", encoding="utf-8") as conf:
            conf.write(self._qemu_conf)
        (self.folder / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF.format(host_uuid=self.host_uuid))
        for driver in ("qemu", "secret"):
            (self.folder / f"drivers/libvirt_driver_{driver}.so").symlink_to(DRIVERS / f"libvirt_driver_{driver}.so")
        self._namespaces = Namespaces(within=self._network, setup=self.mounts())
        self._namespaces.open()
        self.undo(self._namespaces.close)
        self.undo(guest.end_left_over_processes, self.folder)
        self.undo(self.stop)
        self.start()

    def mounts(self) -> str:
        script = [HAVE_FOLDER, f'stage="{self.folder}/stage"']
        for name, place in PLACES.items():
            script += [f"have_folder {place}", f'mount --bind "{self.folder}/{name}" {place}']
        return "\n".join(script)

    def start(self) -> None:
        """Start the daemon, which finds guests again that run already; for after stop()."""
        # With a bus it would register its guests with the host's systemd-machined.
        environment = {"LIBVIRT_DRIVER_DIR": str(self.folder / "drivers"), "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/dev/null",
                       "LC_ALL": "C.UTF-8"}
        # One processor, for the sake of the capabilities (see guest.py); QEMU still gets them all.
        self.process = self._namespaces.start(
            "taskset", "-c", min(os.sched_getaffinity(0)), sys.executable, REAPER, "libvirtd", "--pid-file",
            "/run/libvirt/libvirtd.pid", output=self.log, environment=environment)
        wait_until(self.listens, self.process, self.log, "libvirtd")

    def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def command(self, *command: object) -> list[str]:
        """The command line that runs a command where this daemon is qemu:///system, and its pid files are found."""
        return self._namespaces.command(*command)

    def stop(self) -> None:
        """End the daemon. Its guests go on."""
        stop(self.process)

    def virsh(self, *arguments: str, stdin: str | None = None, timeout: float = guest.VIRSH_TIMEOUT) -> str:
        """What virsh printed; GuestError with its complaint if it failed."""
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        try:
            done = subprocess.run(["virsh", "-q", "-c", self.uri, *arguments], capture_output=True, text=True,
                                  timeout=timeout, **given)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"virsh {' '.join(arguments)} did not end within {timeout} s") from error
        if done.returncode != 0:
            raise GuestError(f"virsh {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def domain_xml(self, name: str) -> str:
        """Without a virsh of its own, which takes an emulated processor most of a second. GuestError if there is no such domain."""
        for is_last in (False, True):
            try:
                self._connection = self._connection or libvirt.open(self.uri)
                return self._connection.lookupByName(name).XMLDesc()
            except libvirt.libvirtError as error:
                self._connection = None  # it may be one to a daemon that has ended since
                if is_last:
                    raise GuestError(f"{name}: {error}") from error
        raise AssertionError

    def define_secret(self, usage: str, name: str, value: str | None, secret_uuid: str | None = None) -> str:
        """A secret that this libvirtd forgets when it ends; its UUID.

        usage is libvirt's word: ceph, volume, iscsi, tls, vtpm. value is base64, as Ceph's keys are by themselves, and
        None for a secret without one.
        """
        secret_uuid = secret_uuid or str(uuid.uuid4())
        element = "volume" if usage == "volume" else "target" if usage == "iscsi" else "name"
        self.virsh("secret-define", "/dev/stdin", stdin=(
            f"<secret ephemeral='yes' private='no'><uuid>{secret_uuid}</uuid>"
            f"<usage type='{usage}'><{element}>{name}</{element}></usage></secret>"))
        if value is not None:
            self.set_secret(secret_uuid, value)
        return secret_uuid

    def set_secret(self, secret_uuid: str, value: str) -> None:
        """Give the secret another value, base64."""
        self.virsh("secret-set-value", secret_uuid, "--file", "/dev/stdin", stdin=value)
