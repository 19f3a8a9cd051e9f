# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine, between which libvirt migrates a guest: each a libvirtd of its own and what goes with it.

    with Host("a") as here, Host("b") as there:
        with MobileGuest(here) as guest:
            here.virsh("migrate", "--live", "--p2p", "--domain", guest.name, "--desturi", there.uri,
                       "--migrateuri", MIGRATE_URI)
            guest.moved(there)
            guest.check("uptime")

As found with libvirt 9.0 and QEMU 7.2 of Debian 12:
- libvirt refuses to migrate to itself; two daemons with host UUIDs of their own are two hosts to it.
- Peer to peer, the source's daemon connects to the destination's by itself, from its own mount namespace. Its socket has
  a path that all namespaces see, and both daemons run as root with auth_unix_rw "none", so qemu+unix:///system?socket=
  needs nothing else. Memory goes over loopback, with --migrateuri tcp://127.0.0.3; libvirt picks a port. (migration_address may not be 127.0.0.1.)
- What both QEMUs open for writing must not be the same file. PLACE is another folder on each host, by its daemon's mount
  namespace, so that the guest's XML is the same on both, as it is on real ones.
- Files on a local disk count as not shared: the disks need --unsafe, VIR_MIGRATE_UNSAFE.
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / folder) for folder in ("guest", "e2e", "engine")]
import guest as guests  # noqa: E402
import image  # noqa: E402
from engine_process import Engine  # noqa: E402
from harness import Aiolos, aiolos_binary  # noqa: E402
from libvirt_daemon import PLACES, LibvirtDaemon  # noqa: E402
from managed import Managed  # noqa: E402
from namespaces import kill  # noqa: E402

MIGRATE_URI = "tcp://127.0.0.3"
QEMU_CONF = """\
migration_address = "127.0.0.3"  # not all of them: leaves 127.0.0.2 to what stands between two hosts, relay.py
keepalive_interval = 2           # a destination that does not answer any more is given up after 8 s
keepalive_count = 3
migrate_tls_x509_cert_dir = "/etc/libvirt/pki"  # each daemon's own
"""
PLACE = f"{PLACES['run']}/g"  # where a guest's console and control port are, as its QEMU sees it


class Host(Managed):
    """A libvirtd, the aiolos command with its configuration and state, and an engine when a test wants one."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.libvirt = LibvirtDaemon(qemu_conf=QEMU_CONF)
        self.engine: Engine | None = None

    @property
    def uri(self) -> str:
        """Its libvirt, from anywhere on this machine."""
        return self.libvirt.uri

    @property
    def folder(self) -> pathlib.Path:
        """What belongs to this host alone; removed with it."""
        return self.libvirt.folder / "host"

    @property
    def certificates(self) -> pathlib.Path:
        """Where QEMU looks for those of an encrypted migration."""
        return self.libvirt.folder / "etc/pki"

    @property
    def guest_folder(self) -> pathlib.Path:
        """PLACE, as everybody else sees it."""
        return self.libvirt.folder / "run/g"

    def open(self) -> None:
        self.undo(self.libvirt.close)
        self.certificates.mkdir(parents=True)  # libvirtd wants it when it starts
        self.libvirt.open()
        self.folder.mkdir()
        self.guest_folder.mkdir()

    def command(self, *command: object) -> list[str]:
        """The command line that runs a command on this host, where qemu:///system is its libvirt."""
        return self.libvirt.command(*command)

    def start_engine(self, *options: str, kind: type[Engine] = Engine) -> Engine:
        """aiolos-engine, with its admin socket where configuration() says. kind: EngineUnit for one under systemd."""
        folder = self.folder / "e"
        folder.mkdir(exist_ok=True)
        self.engine = kind(folder, *options)
        self.undo(self.engine.close)
        return self.engine.start()

    def aiolos(self, guest: MobileGuest) -> HostAiolos:
        """The command on this host."""
        (self.folder / "aiolos").mkdir(exist_ok=True)
        return HostAiolos(aiolos_binary(), guest.on(self), self.folder / "aiolos", within=self)

    def virsh(self, *arguments: str, **options) -> str:
        return self.libvirt.virsh(*arguments, **options)

    def running(self) -> list[str]:
        """The names of the guests that run here."""
        return self.virsh("list", "--name", "--state-running").split()

    def kill_libvirt(self) -> None:
        """End its libvirtd as a crash would. Its guests go on; libvirt.start() makes another that finds them."""
        os.kill(int((self.libvirt.folder / "run/libvirtd.pid").read_text()), signal.SIGKILL)
        kill(self.libvirt.process)  # what waits for it

    def forget_guests(self) -> None:
        """End all guests here, also those that libvirt cannot end: on their way when its daemon died, or not even begun."""
        self.libvirt.stop()
        guests.end_left_over_processes(self.libvirt.folder)
        for place in ("run/qemu", "etc/qemu"):
            for known in (self.libvirt.folder / place).glob("*.xml"):
                known.unlink()
        self.libvirt.start()


class HostAiolos(Aiolos):
    """The command as it runs on one of the hosts."""

    def configure(self, more: str = "") -> None:
        """`more` is YAML to add at its end."""
        host = self.folder.parent
        self.config.write_text(f'libvirt: {{uri: "qemu:///system", virt_type: {self.guest.virt_type}}}\n'
                               f'state: {{dir: "{self.folder}/state"}}\n'
                               f'data_plane: {{admin: "{host}/e/admin", sockets: "{host}/d"}}\n{more}')


class MobileGuest(guests.Guest):
    """A guest that may be on either of several hosts; run() speaks to it where it is."""

    def __init__(self, host: Host, **options):
        super().__init__(host.guest_folder, libvirt=host.libvirt, **options)
        self.host = host
        self._options = options
        self._uuid: str | None = None

    def domain_definition(self, built: image.Image) -> str:
        return super().domain_definition(built).replace(str(self.root), PLACE)

    def uuid(self) -> str:
        if self._uuid is None:
            self._uuid = self.virsh("domuuid", self.name).strip()
        return self._uuid

    def on(self, host: Host) -> MobileGuest:
        """The same guest, as it is or would be on this host."""
        if host is self.host:
            return self
        return MobileGuest(host, **{**self._options, "name": self.name, "virt_type": self.virt_type})

    def moved(self, host: Host) -> MobileGuest:
        """From now on it is there."""
        if self._shell:
            self._shell.close()
            self._shell = None
        self.host, self.libvirt, self.root = host, host.libvirt, host.guest_folder
        return self

    def destroy(self, remove_root: bool = True) -> None:
        """Ends it where it is; the folder stays with its host, for the next guest."""
        super().destroy(remove_root=False)
        for name in os.listdir(self.root) if self.root.exists() and remove_root else []:
            (self.root / name).unlink()
