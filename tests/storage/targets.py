# SPDX-License-Identifier: Apache-2.0
"""Storage to connect to, made of the kernel's own targets, and this host's side of it. Works inside the storage VM only.

    with Network() as network, Initiator() as initiator, Volume(64 * MIB) as volume:
        with IscsiTarget(network, initiator, chap=("user", "secret")) as target:
            lun = target.map(volume)
            before = host_state()
            initiator.login(target)
            path = initiator.disk(target, 0, lun)
            ...
            initiator.forget_all()
            wait_for_host_state(before)

Everything here is a context manager that takes away what it made, whatever state a test has left it in. The targets
listen in a network namespace of their own, "storage", on 10.1.0.1 and 10.2.0.1; the host under test, which is the VM, is
10.1.0.2 and 10.2.0.2.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import re
import socket
import subprocess
import uuid
from collections.abc import Iterable

from host_state import maps
from storage_vm import FC_WIRES
from tools import RUN, SYS, Managed, StorageError, end_process, load, read, run, terminate, wait_for, write

LIO = SYS / "kernel/config/target"
NVMET = SYS / "kernel/config/nvmet"
LIO_WWID = "36001405"  # NAA 6 and LIO's OUI, with which the WWIDs of its disks begin


# --- the network ----------------------------------------------------------------------------------------------------


class Network(Managed):
    """Two separate IP paths between the host and the storage."""

    portals = ("10.1.0.1", "10.2.0.1")
    namespace = "storage"

    def open(self) -> None:
        run("ip", "netns", "add", self.namespace)
        self.undo(run, "ip", "netns", "delete", self.namespace)
        self.inside("ip", "link", "set", "lo", "up")
        for path, portal in enumerate(self.portals):
            ours, theirs = self.ends(path)
            run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.namespace)
            self.undo(run, "ip", "link", "delete", ours)
            self.inside("ip", "address", "add", f"{portal}/24", "dev", theirs)
            self.inside("ip", "link", "set", theirs, "up")
            run("ip", "address", "add", f"{portal[:-1]}2/24", "dev", ours)
            run("ip", "link", "set", ours, "up")

    def inside(self, *command: object, **options) -> subprocess.CompletedProcess[str]:
        """Run a command on the storage's side. Not with `ip netns exec`, which would hide configfs."""
        return run("nsenter", f"--net=/run/netns/{self.namespace}", "--", *command, **options)

    @staticmethod
    def ends(path: int) -> tuple[str, str]:
        return f"path{path}", f"storage{path}"

    def pull(self, path: int) -> None:
        """Pull the cable of a path: no carrier, `no route to host` after some seconds."""
        self.inside("ip", "link", "set", self.ends(path)[1], "down")

    def plug(self, path: int) -> None:
        self.inside("ip", "link", "set", self.ends(path)[1], "up")

    def swallow(self, path: int) -> None:
        """Let every packet of a path vanish without a word, as a dropping firewall does."""
        run("ip", "neigh", "replace", self.portals[path], "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev",
            self.ends(path)[0])

    def deliver(self, path: int) -> None:
        """The end of swallow()."""
        run("ip", "neigh", "flush", "to", self.portals[path], "nud", "permanent", "dev", self.ends(path)[0])

    def restore(self) -> None:
        """Have both paths work again: the kernel may go on for a second to refuse what goes over one that was pulled."""
        for path, portal in enumerate(self.portals):
            self.plug(path)
            self.deliver(path)
            wait_for(lambda: is_reachable(portal), f"the path to {portal} to work again")


def is_reachable(address: str) -> bool:
    """Whether packets get there and back. Nobody listens on the port for discarding."""
    try:
        socket.create_connection((address, 9), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


# --- configfs -------------------------------------------------------------------------------------------------------


class Tree:
    """Folders and links in configfs, where each mkdir makes an object; they go in the reverse order."""

    def __init__(self) -> None:
        self._made: list[pathlib.Path] = []

    def folder(self, path: pathlib.Path) -> pathlib.Path:
        path.mkdir()
        self._made.append(path)
        return path

    def link(self, path: pathlib.Path, target: pathlib.Path) -> None:
        path.symlink_to(target)
        self._made.append(path)

    def close(self) -> None:
        while self._made:
            remove(self._made.pop())


def remove(path: pathlib.Path) -> None:
    """From configfs. What a test has removed already is no error."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink() if path.is_symlink() else path.rmdir()


# --- volumes that targets offer -------------------------------------------------------------------------------------


class Volume(Managed):
    """A sparse file in memory as a loop device, and a LIO backstore over that (which any number of targets can offer)."""

    numbers = itertools.count(1)

    def __init__(self, size: int, *, thin: bool = False):
        """thin: tells the initiator that unmapping gives space back (TPU)."""
        super().__init__()
        number = next(self.numbers)
        self.serial = f"{number:08x}a10105ca"  # of hex digits only, since they become the WWID's vendor-specific part
        self.wwid = LIO_WWID + f"{self.serial:0<25}"
        self.file = RUN / f"volume-{number}"
        self.device = ""
        self._size = size
        self._thin = thin
        self._store: pathlib.Path | None = None

    def open(self) -> None:
        RUN.mkdir(exist_ok=True)
        with open(self.file, "wb") as stream:
            stream.truncate(self._size)
        self.undo(self.file.unlink)
        load("loop")
        self.device = run("losetup", "--find", "--show", self.file).stdout.strip()
        self.undo(run, "losetup", "--detach", self.device)

    @property
    def store(self) -> pathlib.Path:
        """The LIO backstore, made when it is first wanted."""
        if self._store is None:
            load("target_core_mod", "target_core_iblock")
            tree = Tree()
            self.undo(tree.close)
            number = self.file.name.rpartition("-")[2]
            hba = tree.folder(LIO / f"core/iblock_{number}")
            store = tree.folder(hba / f"volume-{number}")
            write(store / "control", f"udev_path={self.device}")
            write(store / "udev_path", self.device)
            write(store / "enable", 1)
            write(store / "wwn/vpd_unit_serial", self.serial)
            write(store / "attrib/emulate_tpu", int(self._thin))
            self._store = store
        return self._store

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    def grow(self, size: int) -> None:
        """On the storage's side; the host learns it when it rescans."""
        os.truncate(self.file, size)
        run("losetup", "--set-capacity", self.device)

    def content(self, offset: int, length: int) -> bytes:
        """What the storage holds, whatever the host believes it wrote."""
        with open(self.file, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)


class LunMap(Managed):
    """The LUNs of a LIO target port (iSCSI or FC), shown to one initiator."""

    def __init__(self, port: pathlib.Path, initiator: str):
        super().__init__()
        self.port = port
        self.acl = port / "acls" / initiator
        self._luns: dict[int, Tree] = {}

    def open(self) -> None:
        self.acl.mkdir()
        self.undo(remove, self.acl)
        self.undo(self.unmap_all)

    def map(self, volume: Volume, number: int) -> None:
        store = volume.store
        tree = self._luns[number] = Tree()
        volume.undo(tree.close)  # a volume may go before its target does
        lun = tree.folder(self.port / f"lun/lun_{number}")
        tree.link(lun / volume.file.name, store)
        shown = tree.folder(self.acl / f"lun_{number}")
        tree.link(shown / "lun", lun)

    def unmap(self, number: int) -> None:
        self._luns.pop(number).close()

    def unmap_all(self) -> None:
        for number in list(self._luns):
            self.unmap(number)

    def free_number(self) -> int:
        return next(number for number in itertools.count() if number not in self._luns)


# --- iSCSI ----------------------------------------------------------------------------------------------------------


class IscsiTarget(Managed):
    """A LIO target with a portal on each path."""

    port = 3260
    numbers = itertools.count(1)

    def __init__(self, network: Network, initiator: Initiator, *, chap: tuple[str, str] | None = None):
        super().__init__()
        self.network = network
        self.chap = chap
        self.iqn = f"iqn.2026-01.example.storage:target{next(self.numbers)}"
        self._group = LIO / "iscsi" / self.iqn / "tpgt_1"
        self.luns = LunMap(self._group, initiator.iqn)

    def open(self) -> None:
        load("iscsi_target_mod")
        (LIO / "iscsi").mkdir(exist_ok=True)
        tree = Tree()
        self.undo(tree.close)
        tree.folder(self._group.parent)
        tree.folder(self._group)
        self.undo(lambda: [self.close_portal(path) for path in (0, 1)])
        for path in (0, 1):
            self.open_portal(path)
        self.undo(self.luns.close)
        self.luns.open()
        write(self._group / "attrib/authentication", int(self.chap is not None))
        if self.chap:
            write(self.luns.acl / "auth/userid", self.chap[0])
            write(self.luns.acl / "auth/password", self.chap[1])
        self.enable()
        self.undo(self.disable)

    @property
    def portals(self) -> list[str]:
        return [f"{address}:{self.port}" for address in self.network.portals]

    def map(self, volume: Volume, number: int | None = None) -> int:
        """Offer a volume as a LUN, by default the lowest free one; its number."""
        number = self.luns.free_number() if number is None else number
        self.luns.map(volume, number)
        return number

    def unmap(self, number: int) -> None:
        """Take a LUN away. map() may then put another volume at its address."""
        self.luns.unmap(number)

    def enable(self) -> None:
        write(self._group / "enable", 1)

    def disable(self) -> None:
        """Refuse logins, and end the sessions there are."""
        write(self._group / "enable", 0)

    def open_portal(self, path: int) -> None:
        self.network.inside("mkdir", self._portal(path))

    def close_portal(self, path: int) -> None:
        """Stop listening there: connections are refused."""
        remove(self._portal(path))

    def _portal(self, path: int) -> pathlib.Path:
        return self._group / "np" / self.portals[path]

    def want_discovery_chap(self, user: str, password: str) -> dict[str, str]:
        """Have the portals tell their targets to nobody else, until this target goes. What a connection_info has for it."""
        folder = LIO / "iscsi/discovery_auth"
        write(folder / "userid", user)
        write(folder / "password", password)
        write(folder / "enforce_discovery_auth", 1)
        self.undo(write, folder / "enforce_discovery_auth", 0)
        return {"discovery_auth_method": "CHAP", "discovery_auth_username": user, "discovery_auth_password": password}

    def connection_info(self, number: int, *, multipath: bool = False) -> dict:
        """As Cinder gives it for a LUN."""
        data: dict[str, object] = {"target_discovered": False, "target_iqn": self.iqn, "target_portal": self.portals[0],
                                   "target_lun": number, "volume_id": str(uuid.uuid4()), "access_mode": "rw"}
        if self.chap:
            data |= {"auth_method": "CHAP", "auth_username": self.chap[0], "auth_password": self.chap[1]}
        if multipath:
            data |= {"target_iqns": [self.iqn] * 2, "target_portals": self.portals, "target_luns": [number] * 2}
        return {"driver_volume_type": "iscsi", "serial": data["volume_id"], "data": data}


class Initiator(Managed):
    """open-iscsi on this host: iscsid with no records, under an initiator name of its own."""

    iqn = "iqn.2026-01.example.host:initiator"

    def open(self) -> None:
        load("iscsi_tcp", "sd_mod")
        write(pathlib.Path("/etc/iscsi/initiatorname.iscsi"), f"InitiatorName={self.iqn}\n")
        # The defaults, but for noticing a dead connection in 3 s instead of 10.
        write(pathlib.Path("/etc/iscsi/iscsid.conf"), "node.startup = manual\nnode.conn[0].timeo.noop_out_interval = 1\n"
                                                      "node.conn[0].timeo.noop_out_timeout = 2\n")
        run("iscsid")
        self.undo(end_process, "iscsid", lambda: run("iscsiadm", "-k", "0", check=False))
        self.undo(self.forget_all)
        # 20: iscsid does not answer yet; 21: no session
        wait_for(lambda: run("iscsiadm", "-m", "session", check=False).returncode in (0, 21), "iscsid")

    @staticmethod
    def forget_all() -> None:
        """Log out of everything and delete all records."""
        for command in (["-m", "node", "--logoutall=all"], ["-m", "node", "-o", "delete"]):
            run("iscsiadm", *command, check=False)

    def login(self, target: IscsiTarget, paths: Iterable[int] = (0, 1)) -> None:
        for path in paths:
            node = ["iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portals[path]]
            run(*node, "-o", "new")
            if target.chap:
                for key, value in (("authmethod", "CHAP"), ("username", target.chap[0]), ("password", target.chap[1])):
                    run(*node, "-o", "update", "-n", f"node.session.auth.{key}", "-v", value)
            run(*node, "--login")

    def disk(self, target: IscsiTarget, path: int, number: int) -> pathlib.Path:
        """The by-path link of a LUN; waits until it is there."""
        link = pathlib.Path(f"/dev/disk/by-path/ip-{target.portals[path]}-iscsi-{target.iqn}-lun-{number}")
        wait_for(link.exists, str(link))
        return link


# --- multipath ------------------------------------------------------------------------------------------------------


class Multipath(Managed):
    """multipathd on this host, which makes a map of every SCSI disk."""

    def __init__(self, no_path_retry: str | int = "fail"):
        super().__init__()
        self.no_path_retry = no_path_retry

    def open(self) -> None:
        load("dm_multipath", "dm_service_time", "dm_round_robin", "scsi_dh_alua")
        configuration = pathlib.Path("/etc/multipath.conf")
        # A section on one line would be ignored without an error.
        configuration.write_text(f"""defaults {{
  user_friendly_names no
  find_multipaths no
  polling_interval 1
  max_polling_interval 2
  no_path_retry {self.no_path_retry}
}}
blacklist {{
  devnode "^(loop|vd|nvme|sr|dm-)"
}}
""")
        self.undo(configuration.unlink)
        run("multipathd")
        self.undo(self.flush_all)
        self.undo(end_process, "multipathd", lambda: run("multipathd", "shutdown", check=False))
        wait_for(lambda: run("multipathd", "show", "daemon", check=False).stdout.endswith("idle\n"), "multipathd")

    @staticmethod
    def flush_all() -> None:
        """No multipathd is there to do it any more; a map whose writers wait for paths is told to fail them first."""
        for name in maps():
            if name.startswith(LIO_WWID):
                run("dmsetup", "message", name, "0", "fail_if_no_path", check=False)
                run("dmsetup", "remove", "--retry", name, check=False)

    def wait_map(self, wwid: str, paths: int = 2, timeout: float = 30) -> pathlib.Path:
        """Wait until the map is there with so many working paths; its device."""
        device = pathlib.Path("/dev/mapper") / wwid
        try:
            wait_for(lambda: device.exists() and list(self.paths(wwid).values()).count("active") == paths,
                     f"{device} with {paths} active paths", timeout)
        except StorageError as error:
            raise StorageError(f"{error}; it has {self.paths(wwid)}") from None
        return device

    @staticmethod
    def paths(wwid: str) -> dict[str, str]:
        """The map's paths: device name -> "active" or "failed", as device mapper has them. Empty without the map."""
        status = run("dmsetup", "status", "--target", "multipath", wwid, check=False).stdout
        return {(SYS / "dev/block" / number).resolve().name: "active" if state == "A" else "failed"
                for number, state in re.findall(r" (\d+:\d+) ([AF]) ", status)}


# --- Fibre Channel --------------------------------------------------------------------------------------------------


class FibreChannel(Managed):
    """Two fabrics, each with an adapter of the host and a target port, over FCoE in VN2VN mode (so without a switch).

    The target ports are FC hosts of the same kernel, so /sys/class/fc_host has four. Making ports is the dangerous part:
    Linux 6.1 crashes on a frame that arrives while one is made. So it is done once, with all links down.
    """

    wires = FC_WIRES

    def __init__(self) -> None:
        super().__init__()
        self._adapters = [interface(ends[0]) for ends in self.wires.values()]
        self._ports = [interface(ends[1]) for ends in self.wires.values()]
        self.luns = [LunMap(LIO / "fc" / self.target_wwpn(fabric, ":") / "tpgt_1", self.host_wwpn(fabric, ":"))
                     for fabric in self.wires]

    def open(self) -> None:
        load("fcoe", "tcm_fc", "sd_mod")
        parameters = SYS / "module/libfcoe/parameters"
        (LIO / "fc").mkdir(exist_ok=True)
        for nic in self._adapters + self._ports:
            run("ip", "link", "set", nic, "down")
            run("ip", "link", "set", nic, "mtu", 2500)
        for fabric, luns in enumerate(self.luns):
            write(parameters / "create_vn2vn", self._ports[fabric])
            self.undo(write, parameters / "destroy", self._ports[fabric])
            tree = Tree()
            self.undo(tree.close)
            tree.folder(luns.port.parent)
            tree.folder(luns.port)
            self.undo(luns.close)
            luns.open()
            write(parameters / "create_vn2vn", self._adapters[fabric])
            self.undo(write, parameters / "destroy", self._adapters[fabric])
        for nic in self._ports + self._adapters:
            self.undo(run, "ip", "link", "set", nic, "down")
            run("ip", "link", "set", nic, "up")

    def target_wwpn(self, fabric: int, separator: str = "") -> str:
        return wwpn(self.wires[fabric][1], separator)

    def host_wwpn(self, fabric: int, separator: str = "") -> str:
        return wwpn(self.wires[fabric][0], separator)

    def host(self, fabric: int) -> str:
        """The SCSI host of our adapter, such as host3."""
        for port in (SYS / "class/fc_host").iterdir():
            if read(port / "port_name") == f"0x{self.host_wwpn(fabric)}":
                return port.name
        raise StorageError(f"no FC host has the port name {self.host_wwpn(fabric)}")

    def remote_port(self, fabric: int) -> pathlib.Path | None:
        """The target port as our adapter sees it, in /sys/class/fc_remote_ports."""
        number = self.host(fabric).removeprefix("host")
        for port in (SYS / "class/fc_remote_ports").glob(f"rport-{number}:*"):
            with contextlib.suppress(OSError):  # it may go while it is looked at
                if read(port / "port_name") == f"0x{self.target_wwpn(fabric)}":
                    return port
        return None

    def is_online(self, fabric: int) -> bool:
        port = self.remote_port(fabric)
        try:
            return port is not None and read(port / "port_state") == "Online" and "FCP Target" in read(port / "roles")
        except OSError:  # it has gone since
            return False

    def wait_online(self, fabric: int, timeout: float = 60) -> None:
        wait_for(lambda: self.is_online(fabric), f"the target port of fabric {fabric}", timeout)

    def map(self, volume: Volume, number: int | None = None) -> int:
        """Offer a volume as a LUN on both fabrics; its number. The host sees it when it scans."""
        number = self.luns[0].free_number() if number is None else number
        for luns in self.luns:
            luns.map(volume, number)
        return number

    def unmap(self, number: int) -> None:
        for luns in self.luns:
            luns.unmap(number)

    def pull(self, fabric: int) -> None:
        """Pull the cable out of our adapter."""
        run("ip", "link", "set", self._adapters[fabric], "down")

    def plug(self, fabric: int) -> None:
        run("ip", "link", "set", self._adapters[fabric], "up")

    def scan(self, fabric: int, number: int) -> None:
        """Have our adapter look for this LUN at the target port."""
        port = self.remote_port(fabric)
        if port is None:
            raise StorageError(f"the target port of fabric {fabric} was never seen")
        target = read(port / "scsi_target_id")
        write(SYS / f"class/scsi_host/{self.host(fabric)}/scan", f"0 {target} {number}")

    def disk(self, fabric: int, number: int) -> pathlib.Path:
        """The by-path link of a LUN; waits until it is there."""
        folder = pathlib.Path("/dev/disk/by-path")
        pattern = f"pci-*-fc-0x{self.target_wwpn(fabric)}-lun-{number}"
        return wait_for(lambda: next(folder.glob(pattern), None), f"{folder}/{pattern}")

    @staticmethod
    def delete(disk: pathlib.Path) -> None:
        """Take a disk from this host, and wait until it is gone: its node may stay for two more seconds."""
        device = SYS / "class/block" / os.path.basename(os.path.realpath(disk))
        write(device / "device/delete", 1)
        wait_for(lambda: not device.exists() and not disk.is_symlink(), f"{disk} to go")

    def restore(self) -> None:
        """Have the links up, no LUN offered, and no FC disk on this host."""
        for fabric in self.wires:
            self.plug(fabric)
        for fabric in self.wires:
            self.wait_online(fabric)
        for disk in pathlib.Path("/dev/disk/by-path").glob("pci-*-fc-*-lun-*"):
            if "-part" not in disk.name:
                self.delete(disk)
        for luns in self.luns:
            luns.unmap_all()

    def connection_info(self, number: int) -> dict:
        """As Cinder gives it for a LUN."""
        targets = [self.target_wwpn(fabric) for fabric in self.wires]
        volume = str(uuid.uuid4())
        return {"driver_volume_type": "fibre_channel", "serial": volume,
                "data": {"target_discovered": True, "target_lun": number, "target_wwn": targets, "volume_id": volume,
                         "initiator_target_map": {self.host_wwpn(fabric): [targets[fabric]] for fabric in self.wires},
                         "access_mode": "rw"}}


def interface(mac: str) -> str:
    for nic in (SYS / "class/net").iterdir():
        if read(nic / "address") == mac:
            return nic.name
    raise StorageError(f"this VM has no network interface {mac}")


def wwpn(mac: str, separator: str) -> str:
    """The port name that FCoE makes of a MAC address."""
    return separator.join(["20", "00", *mac.split(":")])


# --- NVMe/TCP -------------------------------------------------------------------------------------------------------


class NvmeTcpTarget(Managed):
    """A subsystem of the kernel's NVMe target with a TCP port on each path."""

    port = 4420
    numbers = itertools.count(1)

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        number = next(self.numbers)
        self.nqn = f"nqn.2026-01.example.storage:subsystem{number}"
        self._subsystem = NVMET / "subsystems" / self.nqn
        self._ports = [NVMET / "ports" / str(2 * number + path) for path in (0, 1)]
        self._namespaces: dict[int, Tree] = {}

    def open(self) -> None:
        load("nvmet-tcp", "nvme-tcp")
        tree = Tree()
        self.undo(tree.close)
        tree.folder(self._subsystem)
        write(self._subsystem / "attr_allow_any_host", 1)
        self.undo(lambda: [self.unmap(number) for number in list(self._namespaces)])
        self.undo(lambda: [self.close_port(path) for path in (0, 1)])
        for path, address in enumerate(self.network.portals):
            tree.folder(self._ports[path])
            for key, value in (("trtype", "tcp"), ("adrfam", "ipv4"), ("traddr", address), ("trsvcid", self.port)):
                write(self._ports[path] / f"addr_{key}", value)
            self.open_port(path)

    def map(self, volume: Volume, number: int = 1) -> str:
        """Offer a volume as a namespace; its UUID."""
        tree = self._namespaces[number] = Tree()
        volume.undo(tree.close)
        namespace = tree.folder(self._subsystem / "namespaces" / str(number))
        write(namespace / "device_path", volume.device)
        write(namespace / "device_uuid", uuid.uuid4())
        write(namespace / "enable", 1)
        return read(namespace / "device_uuid")

    def unmap(self, number: int = 1) -> None:
        self._namespaces.pop(number).close()

    def grow(self, volume: Volume, size: int, number: int = 1) -> None:
        """Grow the volume, and tell the hosts."""
        volume.grow(size)
        write(self._subsystem / f"namespaces/{number}/revalidate_size", 1)

    def open_port(self, path: int) -> None:
        link = self._ports[path] / "subsystems" / self.nqn
        self.network.inside("ln", "-s", self._subsystem, link)

    def close_port(self, path: int) -> None:
        """Stop listening there: connections end, and are refused from then on."""
        remove(self._ports[path] / "subsystems" / self.nqn)

    def connect(self, paths: Iterable[int] = (0, 1)) -> None:
        """The host's side."""
        for path in paths:
            run("nvme", "connect", "-t", "tcp", "-a", self.network.portals[path], "-s", self.port, "-n", self.nqn)
        self.undo(self.disconnect)

    def disconnect(self) -> None:
        run("nvme", "disconnect", "-n", self.nqn)

    @staticmethod
    def disk(namespace_uuid: str) -> pathlib.Path:
        """The disk by its UUID, for its number may be any; waits until it is there."""
        link = pathlib.Path(f"/dev/disk/by-id/nvme-uuid.{namespace_uuid}")
        wait_for(link.exists, str(link))
        return link

    def connection_info(self, namespace_uuid: str) -> dict:
        """As Cinder gives it for a namespace."""
        volume = str(uuid.uuid4())
        return {"driver_volume_type": "nvmeof", "serial": volume,
                "data": {"target_nqn": self.nqn, "vol_uuid": namespace_uuid, "volume_id": volume, "access_mode": "rw",
                         "portals": [[address, self.port, "tcp"] for address in self.network.portals]}}


# --- NFS ------------------------------------------------------------------------------------------------------------


class NfsServer(Managed):
    """knfsd, NFS 4.2 only, which exports an ext4 file system as 10.1.0.1:/ and 10.2.0.1:/ ."""

    database = pathlib.Path("/var/lib/nfs")
    lease = 10  # seconds, the kernel's least; so long may a restart keep clients waiting

    def __init__(self, network: Network, disk: os.PathLike | str):
        super().__init__()
        self.network = network
        self.disk = disk
        self.folder = RUN / "export"

    def open(self) -> None:
        load("nfsd", "nfsv4")
        self.folder.mkdir(parents=True)
        self.undo(self.folder.rmdir)
        # -m 0: root, too, finds a full disk full
        run("mkfs.ext4", "-q", "-F", "-m", 0, "-E", "nodiscard", self.disk)
        run("mount", self.disk, self.folder)
        self.undo(run, "umount", self.folder)
        # Both file systems belong to the network namespace that mounts them, so nfsd and its helpers work for that one.
        control, pipes = pathlib.Path("/proc/fs/nfsd"), pathlib.Path("/run/rpc_pipefs")
        pipes.mkdir(exist_ok=True)
        for kind, place in (("nfsd", control), ("rpc_pipefs", pipes)):
            self.network.inside("mount", "-t", kind, kind, place)
            self.undo(run, "umount", place)
        for name in ("etab", "rmtab"):
            (self.database / name).touch()
        (self.database / "nfsdcld").mkdir(exist_ok=True)
        write(control / "nfsv4gracetime", self.lease)
        write(control / "nfsv4leasetime", self.lease)
        options = "rw,no_root_squash,fsid=0,insecure,no_subtree_check"
        self.network.inside("exportfs", "-o", options, f"10.0.0.0/8:{self.folder}")
        self.undo(self.network.inside, "exportfs", "-ua")
        # nfsdcld remembers the clients. Without it the first open waits until the grace period is over.
        self.network.inside("nfsdcld", "-p", pipes)
        self.undo(end_process, "nfsdcld", lambda: terminate("nfsdcld"))
        self.network.inside("rpc.mountd", "-N", 2, "-N", 3, "--no-udp")
        self.undo(end_process, "rpc.mountd", lambda: terminate("rpc.mountd"))
        self.start()
        self.undo(self.stop)

    @property
    def export(self) -> str:
        return f"{self.network.portals[0]}:/"

    def start(self) -> None:
        self.network.inside("rpc.nfsd", "-N", 3, "-U", 4)

    def stop(self) -> None:
        """Connections are refused from then on; what clients have open is served again after start()."""
        self.network.inside("rpc.nfsd", 0)

    def fill(self, leave: int = 0) -> None:
        """Take all of the disk's space but so many bytes."""
        state = os.statvfs(self.folder)
        with open(self.folder / ".full", "wb") as stream:
            # Some of what is free goes into ext4's own tables, so the rest is tried in ever smaller pieces.
            size, offset = state.f_bavail * state.f_frsize - leave, 0
            while size >= 4096:
                try:
                    os.posix_fallocate(stream.fileno(), offset, size)
                    offset += size
                    size = os.statvfs(self.folder).f_bavail * state.f_frsize - leave
                except OSError:
                    size //= 2

    def empty(self) -> None:
        """The end of fill()."""
        (self.folder / ".full").unlink()

    def connection_info(self, name: str, volume_format: str = "raw") -> dict:
        """As Cinder gives it for a file of the export."""
        return {"driver_volume_type": "nfs", "serial": str(uuid.uuid4()),
                "data": {"export": self.export, "name": name, "options": None, "format": volume_format}}


# --- LVM ------------------------------------------------------------------------------------------------------------


class VolumeGroup(Managed):
    """A volume group on a disk of its own; the only one that LVM looks at."""

    def __init__(self, disk: os.PathLike | str, name: str = "vg0"):
        super().__init__()
        self.name = name
        self.disk = os.path.realpath(disk)

    def open(self) -> None:
        load("dm_thin_pool", "dm_snapshot")
        local = pathlib.Path("/etc/lvm/lvmlocal.conf")
        # monitoring: dmeventd would be started by the first thin pool, and stay.
        local.write_text("activation { monitoring = 0 }\n"
                         f'devices {{ global_filter = [ "a|^{self.disk}$|", "r|.*|" ] }}\n')
        self.undo(local.unlink)
        run("vgcreate", "-y", self.name, self.disk)
        self.undo(run, "vgremove", "-f", "-y", self.name)

    def thick(self, name: str, size: int) -> pathlib.Path:
        run("lvcreate", "-y", "-W", "y", "-n", name, "-L", f"{size}b", self.name)
        return self.device(name)

    def pool(self, name: str, size: int) -> None:
        run("lvcreate", "-y", "--type", "thin-pool", "-n", name, "-L", f"{size}b", self.name)

    def thin(self, pool: str, name: str, size: int) -> pathlib.Path:
        """A thin volume, which may be larger than the pool."""
        run("lvcreate", "-y", "-n", name, "-V", f"{size}b", "-T", f"{self.name}/{pool}")
        return self.device(name)

    def grow(self, name: str, size: int) -> None:
        run("lvextend", "-L", f"{size}b", f"{self.name}/{name}")

    def remove(self, name: str) -> None:
        run("lvremove", "-y", f"{self.name}/{name}")

    def device(self, name: str) -> pathlib.Path:
        return pathlib.Path("/dev") / self.name / name
