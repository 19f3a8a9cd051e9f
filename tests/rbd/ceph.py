# SPDX-License-Identifier: Apache-2.0
"""A real Ceph cluster for the tests: monitors and one OSD that keeps all in memory, with cephx, in namespaces of its own.

    with CephCluster() as ceph:
        image = ceph.create_image("volume-1", 64 * MIB)            # "volumes/volume-1"
        key = ceph.user("cinder")                                  # may do what Cinder's user may, in this pool
        with LibvirtDaemon(network=ceph.network) as libvirt:       # only in there the monitors can be reached
            secret = libvirt.define_secret("ceph", "client.cinder", key)
            info = ceph.connection_info(image, "cinder", secret)
        ceph.stop_monitor()
        ...
        assert ceph.content(image, 0, MIB) == bytes(MIB)

The network namespace is for the ports: with others than the standard 6789 and 3300 a client that is given just an address
and a port, as QEMU is, cannot tell Ceph's two protocols apart, tries both, and a wrong key hangs for 300 s.

Ceph's packages are not installed (tests/guest/layer.py): they bring lvm2's udev rules and a dozen units along. The
cluster sees them laid over /usr; librbd, which QEMU's module needs, is installed on the host.
"""

from __future__ import annotations

import base64
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import uuid

import image
import layer
from managed import Managed
from namespaces import Namespaces, kill, stop, wait_until

PACKAGES = ["ceph-mon", "ceph-osd", "ceph-common"]
MIB = 1 << 20
V1_PORT, V2_PORT = 6789, 3300
USER = "cinder"  # whom the tests attach volumes as
HERE = pathlib.Path(__file__).resolve().parent

CONF = """\
[global]
fsid = {fsid}
mon_host = {mon_host}
auth_cluster_required = {authentication}
auth_service_required = {authentication}
auth_client_required = {authentication}
auth_allow_insecure_global_id_reclaim = false
ms_bind_ipv6 = false
public_addr = {address}
cluster_addr = {address}
run_dir = {data}
admin_socket =
log_file = {folder}/$name.log
mon_cluster_log_file =
crash_dir = {data}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
[mon]
mon_data = {data}/$name
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_lease = 1
mon_election_timeout = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[osd]
keyring = {folder}/$name.keyring
osd_data = {data}/$name
osd_objectstore = memstore
memstore_device_bytes = {capacity}
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
[client]
keyring = {folder}/$name.keyring
log_file =
"""

# What bounds each of a client's waits: without it a monitor is waited for 300 s, and an OSD for ever. The last is for those
# who ask a question; it would turn an OSD that stalls into I/O errors of a guest whose disk is attached with it.
IMPATIENT = """\
[global]
client_mount_timeout = {seconds}
rados_mon_op_timeout = {seconds}
rados_osd_op_timeout = {seconds}
"""


def packages(state: pathlib.Path | None = None) -> pathlib.Path:
    """The folder with Ceph's packages, downloaded and unpacked first if that was not done before."""
    folder = (state or image.state_folder()) / "ceph"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "stamp.json"
    inputs = " ".join([*PACKAGES, installed_version("librados2")])  # which theirs has to be, too
    with image.locked(folder / "lock"):
        if not layer.is_current(stamp, inputs):
            stamp.unlink(missing_ok=True)
            layer.unpack_packages(PACKAGES, folder / "layer")
            layer.write_stamp(stamp, inputs)
    return folder / "layer"


def installed_version(package: str) -> str:
    """As dpkg has it; empty where it has none."""
    return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, timeout=60).stdout


class CephCluster(Managed):
    pool = "volumes"
    # Besides the monitors' addresses, two that have none: one refuses a connection, one never says a word.
    refusing, black_hole = "127.0.1.1", "127.0.1.2"

    def __init__(self, monitors: int = 1, capacity: int = 1024 * MIB, state: pathlib.Path | None = None, *,
                 authentication: str = "cephx", subnet: str = "127.0.0"):
        """monitors: how many, on SUBNET.1, SUBNET.2, ...; more than half of them have to run for the cluster to answer.
        capacity: of its OSD, which takes as much memory as is written. authentication: or "none"."""
        super().__init__()
        self.state = state or image.state_folder()
        self.monitors = [f"{subnet}.{number}" for number in range(1, monitors + 1)]
        self.fsid = str(uuid.uuid4())
        self.folder = pathlib.Path()
        self.network = Namespaces()
        self._capacity = capacity
        self._authentication = authentication
        self._monitors: dict[int, subprocess.Popen] = {}
        self._osd: subprocess.Popen | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        packages_folder = packages(self.state)
        (self.state / "run").mkdir(exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ceph", dir=self.state / "run"))
        self.undo(shutil.rmtree, self.folder, ignore_errors=True)
        self.data.mkdir()
        # A monitor syncs each change to the disk, so that is memory, too; it goes with the namespace.
        addresses = "" if self.monitors[0].startswith("127.") else f"ip address add {self.monitors[0]}/24 dev lo\n"
        self.network = Namespaces(network=True, setup=addresses + (
            f'mount -t tmpfs -o size=512m ceph-test "{self.data}"\n'
            f'mount -t overlay -o "lowerdir={packages_folder}/usr:/usr" ceph-test /usr\n'))
        self.network.open()
        self.undo(self.network.close)
        self.configure()
        self.make_monitors()
        for number in range(len(self.monitors)):
            self.start_monitor(number)
        self.make_osd()
        self.start_osd()
        self.ceph("osd", "pool", "create", self.pool, 8, 8)
        self.ceph("osd", "pool", "application", "enable", self.pool, "rbd")
        self.swallow()

    @property
    def data(self) -> pathlib.Path:
        return self.folder / "data"

    @property
    def conf(self) -> pathlib.Path:
        return self.folder / "ceph.conf"

    def configure(self) -> None:
        addresses = [f"[v2:{address}:{V2_PORT},v1:{address}:{V1_PORT}]" for address in self.monitors]
        self.conf.write_text(CONF.format(fsid=self.fsid, mon_host=",".join(addresses), folder=self.folder, data=self.data,
                                         address=self.monitors[0], capacity=self._capacity,
                                         authentication=self._authentication))
        everything = {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}
        keyrings = {"mon.": {"mon": "allow *"}, "client.admin": everything,
                    "osd.0": {"mon": "allow profile osd", "osd": "allow *"}}
        written = {name: keyring(name, new_key(), rights) for name, rights in keyrings.items()}
        for name, text in written.items():
            self.write_secret(f"{name}.keyring", text)
        self.write_secret("all.keyring", "".join(written.values()))

    def write_secret(self, name: str, text: str) -> pathlib.Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def make_monitors(self) -> None:
        members = [argument for number, address in enumerate(self.monitors) for argument in
                   ("--addv", monitor_name(number), f"[v2:{address}:{V2_PORT},v1:{address}:{V1_PORT}]")]
        monitor_map = self.folder / "monmap"
        self.network.run("monmaptool", "--create", "--fsid", self.fsid, *members, monitor_map)
        for number, address in enumerate(self.monitors):
            self.network.run("ceph-mon", "-c", self.conf, "-i", monitor_name(number), "--mkfs", "--public-addr", address,
                             "--monmap", monitor_map, "--keyring", self.folder / "all.keyring")

    def start_monitor(self, number: int = 0) -> None:
        output = self.folder / f"mon.{monitor_name(number)}.out"
        started = self.network.start("ceph-mon", "-f", "-c", self.conf, "-i", monitor_name(number), "--public-addr",
                                     self.monitors[number], output=output)
        self.undo(kill, started)
        self._monitors[number] = started
        address = (self.monitors[number], V1_PORT)
        wait_until(lambda: self.connects(*address), started, output, f"Ceph's monitor on {address[0]}")

    def stop_monitor(self, number: int = 0) -> None:
        """From then on its port refuses connections; established ones end."""
        stop(self._monitors.pop(number))

    def freeze_monitor(self, number: int = 0) -> None:
        """It keeps its connections and says nothing more."""
        os.kill(self._monitors[number].pid, signal.SIGSTOP)

    def thaw_monitor(self, number: int = 0) -> None:
        os.kill(self._monitors[number].pid, signal.SIGCONT)

    def restore(self) -> None:
        """Have all of it run again."""
        for number in range(len(self.monitors)):
            if number in self._monitors:
                self.thaw_monitor(number)
            else:
                self.start_monitor(number)
        self.thaw_osd()

    def make_osd(self) -> None:
        osd_uuid = str(uuid.uuid4())
        self.ceph("osd", "new", osd_uuid, 0)
        self.network.run("mkdir", self.data / "osd.0")
        self.network.run("ceph-osd", "-c", self.conf, "-i", 0, "--mkfs", "--osd-uuid", osd_uuid)

    def start_osd(self) -> None:
        output = self.folder / "osd.0.out"
        self._osd = self.network.start("ceph-osd", "-f", "-c", self.conf, "-i", 0, output=output)
        self.undo(kill, self._osd)
        wait_until(lambda: b"1 up" in self.ceph("osd", "stat"), self._osd, output, "Ceph's OSD")

    def freeze_osd(self) -> None:
        """No I/O is answered from then on."""
        os.kill(self._osd.pid, signal.SIGSTOP)

    def thaw_osd(self) -> None:
        os.kill(self._osd.pid, signal.SIGCONT)

    def swallow(self) -> None:
        """Have the black hole: a listener whose queue is full, so that Linux drops what else comes. It needs no module of
        the kernel, as a dummy interface or a packet filter would."""
        output = self.folder / "black_hole.out"
        hole = self.network.start("/usr/bin/python3", HERE / "black_hole.py", self.black_hole, V1_PORT, V2_PORT,
                                  output=output)
        self.undo(kill, hole)
        wait_until(lambda: output.read_text() == "ready\n", hole, output, "the black hole")

    def connects(self, address: str, port: int) -> bool:
        probe = f"exec 3<>/dev/tcp/{address}/{port}"
        return self.network.run("bash", "-c", probe, check=False).returncode == 0

    # --- what is in it ------------------------------------------------------------------------------------------

    def ceph(self, *command: object) -> bytes:
        return self.network.run("ceph", "-c", self.conf, "--connect-timeout", 20, *command, text=False).stdout

    def rbd(self, *command: object) -> bytes:
        return self.network.run("rbd", "-c", self.conf, *command, text=False).stdout

    def create_image(self, name: str, size: int) -> str:
        """An image of so many bytes; "pool/name"."""
        self.rbd("create", "--size", f"{size}B", f"{self.pool}/{name}")
        return f"{self.pool}/{name}"

    def size(self, image_name: str) -> int:
        return int(self.python("print(image.size())", image_name))

    def content(self, image_name: str, offset: int, length: int) -> bytes:
        """What the image holds, as Ceph's own client reads it."""
        return self.python(f"sys.stdout.buffer.write(image.read({offset}, {length}))", image_name)

    def write(self, image_name: str, offset: int, data: bytes) -> None:
        self.python(f"image.write({data!r}, {offset})", image_name)

    def python(self, statement: str, image_name: str) -> bytes:
        """Run a statement on the opened `image`, as the administrator."""
        pool, name = image_name.split("/")
        script = (f"import rados, rbd, sys\n"
                  f"with rados.Rados(conffile={str(self.conf)!r}) as cluster, cluster.open_ioctx({pool!r}) as pool, "
                  f"rbd.Image(pool, {name!r}) as image:\n    {statement}\n")
        return self.network.run("/usr/bin/python3", "-", stdin=script.encode(), text=False).stdout

    def user(self, name: str) -> str:
        """A user that may use the pool, made if there is none; its key, in base64 as libvirt wants it, too."""
        rights = ("mon", "profile rbd", "osd", f"profile rbd pool={self.pool}")
        return self.ceph("auth", "get-or-create-key", f"client.{name}", *rights).decode().strip()

    def client_conf(self, seconds: int | None = None) -> pathlib.Path:
        """A configuration for clients that names no monitor; `seconds` bounds each of their waits."""
        path = self.folder / f"client-{seconds}.conf"
        path.write_text(IMPATIENT.format(seconds=seconds) if seconds else "[global]\n")
        return path

    def connection_info(self, image_name: str, user: str = "", secret_uuid: str | None = None,
                        hosts: list[str] | None = None) -> dict:
        """hosts: in place of the monitors' addresses."""
        return connection_info(self.monitors if hosts is None else hosts, image_name, user, secret_uuid)


def connection_info(hosts: list[str], image_name: str, user: str = "", secret_uuid: str | None = None) -> dict:
    """As Cinder gives it; without a user there is no authentication."""
    volume = str(uuid.uuid4())
    return {"driver_volume_type": "rbd", "serial": volume,
            "data": {"name": image_name, "hosts": hosts, "ports": [str(V1_PORT)] * len(hosts), "cluster_name": "ceph",
                     "auth_enabled": bool(user), "auth_username": user or None, "secret_type": "ceph",
                     "secret_uuid": secret_uuid, "volume_id": volume, "discard": True, "qos_specs": None,
                     "access_mode": "rw", "encrypted": False, "cacheable": False}}


def monitor_name(number: int) -> str:
    return "abcdefgh"[number]


def new_key() -> str:
    """A cephx key as ceph-authtool makes one: type (AES), time of creation, length, 16 random bytes."""
    return base64.b64encode(struct.pack("<HIIH", 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


def keyring(name: str, key: str, rights: dict[str, str]) -> str:
    return "\n".join([f"[{name}]", f"key = {key}", *(f'caps {kind} = "{right}"' for kind, right in rights.items()), ""])
