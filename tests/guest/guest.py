# SPDX-License-Identifier: Apache-2.0
"""A throw-away guest under libvirt's embedded QEMU driver, for the quickstart and the end-to-end tests; or under a daemon.

    with Guest(root) as guest:              # starts it, waits for its shell; destroys it and removes root at the end
        guest.virsh("attach-device", guest.name, "disk.xml", "--live")
        disk = guest.wait_disk("my-serial")                    # "/dev/vda", as the guest names it
        status, output = guest.run(f"fio --filename={disk} ...", timeout=60)

As a program it does the same in steps: guest.py start|run|wait-disk|wait-no-disk|stop --root DIR ...; see --help.

About qemu:///embed?root=DIR, as found with libvirt 9.0 and QEMU 7.2 of Debian 12:
- Whoever opens the URI becomes the driver: it locks DIR/run/qemu/driver.pid for as long as it stays connected. A second
  process fails at once (20 ms) with "Failed to acquire pid file '...': Resource temporarily unavailable"; nothing waits,
  so callers have to try again. virsh() here does.
- A domain goes on when that process ends, and the next one that opens the same root finds it again, hot plug included.
- QEMU does not exit when the guest powers off (libvirt passes -no-shutdown): it waits for the driver, so it stays until
  the next process opens the root. destroy() does that in any case.
- As root, libvirt looks up the user and group `libvirt-qemu` before it reads any configuration, and fails with "Failed
  to parse user 'libvirt-qemu'" where they do not exist, even if qemu.conf names others. scripts/setup makes them.
- The configuration is DIR/etc/qemu.conf; see QEMU_CONF below for what it has to say.
- Creating a domain asks QEMU for its capabilities and keeps the answer in DIR/cache. The answer counts as outdated when
  CPUID differs, and CPUID has the number of the processor that it is read on: on a host where libvirt sees that, the
  question (0.3 s; 4 s where process 1 is slow to reap) is asked again by each process that runs on another processor.
  Attaching to a running domain does not ask.
- libvirt gives QEMU all processors again, whatever the process that creates the domain is bound to.
- libvirt counts a killed QEMU as alive until process 1 has reaped it, so destroying takes as long as that.
- QEMU's monitor is DIR/lib/qemu/domain-<id>-<name>/monitor.sock, and a socket's path has at most 107 bytes.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import errno
import json
import os
import pathlib
import platform
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import quoteattr

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import image  # noqa: E402  (beside this file; imported by path, for there is no package to install)

if TYPE_CHECKING:
    from libvirt_daemon import LibvirtDaemon

# How libvirt runs QEMU under an embedded root. Only stdio_handler is needed to start a guest at all. With the defaults for
# the rest QEMU runs as libvirt-qemu in a /dev of its own, which works too; and with user libvirt-qemu but without
# dynamic_ownership it cannot open what belongs to root.
QEMU_CONF = """\
# Written by tests/guest/guest.py.
user = "root"                    # QEMU opens the same files as the tests do, with no change of owner
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0    # without it libvirt warns on every connection
namespaces = []                  # no /dev of QEMU's own: block devices that are made later just exist
cgroup_controllers = []
stdio_handler = "file"           # the default needs the daemon virtlogd
"""

# norandmaps: TCG (QEMU 7.2) finds what it has translated by its virtual address, too, and would translate a program's
# libraries anew for each process. init_on_alloc=0: Debian's kernels have all memory zeroed before each use.
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr norandmaps init_on_alloc=0"

# monitor.sock has to fit into a socket's 107 bytes; libvirt cuts the name in that path to 20 characters.
ROOT_LENGTH_LIMIT = 107 - len("/lib/qemu/domain-999999-") - 20 - len("/monitor.sock")

CONTROL_PORT, NEWLINE = "aiolos.control", "\1"  # as init knows them
BOOT_TIMEOUT = 120          # seconds; 4 are usual
KVM_PROBE_TIMEOUT = 6       # seconds; where KVM works, the same boot takes less than one
QUERIES = ("dumpxml", "domblklist", "domstate", "list")  # of virsh: they change nothing
VIRSH_TIMEOUT = 60
LOCK_TIMEOUT = 60           # for another process to leave the root
HERE = pathlib.Path(__file__).resolve().parent


class GuestError(Exception):
    """The guest or libvirt did not do what was asked; the text says what, with what they printed."""


class Result(NamedTuple):
    status: int
    output: str


class Guest:
    def __init__(self, root: os.PathLike | str | None = None, *, name: str = "aiolos-guest", memory_mib: int = 384,
                 virt_type: str | None = None, machine: str = "pc", shared_memory: bool = False, iothreads: int = 0,
                 devices: str = "", state: pathlib.Path | None = None, libvirt: LibvirtDaemon | None = None):
        """Nothing starts yet. `root` is made if it is missing, and removed by destroy(); by default a short new one.

        libvirt: the daemon to run under, in place of an embedded driver of its own; the root then holds the guest's
        console and control port only.

        virt_type is kvm or qemu, by default what boots here. shared_memory gives the guest's memory to other processes
        (memfd), as vhost-user needs. devices is XML to add inside <devices>.
        """
        self.state = state or image.state_folder()
        self.root = pathlib.Path(root).absolute() if root else new_root(self.state)
        if len(os.fsencode(self.root)) > ROOT_LENGTH_LIMIT:
            raise GuestError(f"{self.root}: QEMU's monitor socket would pass 107 bytes; use at most {ROOT_LENGTH_LIMIT}")
        self.libvirt = libvirt
        self.name = name
        self.memory_mib = memory_mib
        self.virt_type = virt_type
        self.machine = machine
        self.shared_memory = shared_memory
        self.iothreads = iothreads
        self.devices = devices
        self._shell: Shell | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        return self.libvirt.uri if self.libvirt else f"qemu:///embed?root={self.root}"

    @property
    def libvirt_folder(self) -> pathlib.Path:
        """Where libvirt has what it knows of the guest."""
        return self.libvirt.folder if self.libvirt else self.root

    @property
    def console_log(self) -> pathlib.Path:
        return self.root / "console.log"

    @property
    def qemu_log(self) -> pathlib.Path:
        return self.libvirt_folder / "log/qemu" / f"{self.name}.log"

    @property
    def control_socket(self) -> pathlib.Path:
        return self.root / "ctl"

    def start(self, timeout: float = BOOT_TIMEOUT) -> Guest:
        """Create the domain and wait until its shell answers. On failure nothing is left running."""
        built = image.build(self.state)
        self.virt_type = self.virt_type or virt_type(self.state)
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.libvirt:
            prepare_root(self.root, self.state)
        (self.root / "guest.json").write_text(json.dumps({"name": self.name, "virt_type": self.virt_type}))
        definition = self.root / "domain.xml"
        definition.write_text(self.domain_definition(built))
        try:
            self.virsh("create", str(definition), timeout=timeout, one_cpu=True)
            keep_capabilities(self.libvirt_folder, self.state)
            self.shell.wait_ready(timeout)
        except BaseException as error:
            report = self.log_tails()
            self.destroy(remove_root=False)
            if isinstance(error, GuestError):
                raise GuestError(f"the guest did not start: {error}\n{report}") from error
            raise
        return self

    @classmethod
    def open(cls, root: os.PathLike | str, state: pathlib.Path | None = None) -> Guest:
        """A guest that an earlier process started under this root."""
        try:
            known = json.loads((pathlib.Path(root) / "guest.json").read_text())
        except OSError as error:
            raise GuestError(f"no guest was started under {root}") from error
        return cls(root, name=known["name"], virt_type=known["virt_type"], state=state)

    def destroy(self, remove_root: bool = True) -> None:
        """End the guest, whatever state it is in, and remove its root. Calling it again does no harm."""
        if self._shell:
            self._shell.close()
            self._shell = None
        if self.root.exists():
            with contextlib.suppress(GuestError):
                self.virsh("destroy", self.name)
            end_left_over_processes(self.libvirt_folder, self.root)
            if remove_root:
                shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Guest:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def log_tails(self, lines: int = 15) -> str:
        """The last lines of the console and of QEMU's log, for an error message."""
        shown = []
        for path in (self.console_log, self.qemu_log):
            if path.exists():
                text = path.read_text(errors="replace").splitlines()[-lines:]
                shown.append(f"--- last lines of {path}\n" + "\n".join(text))
        return "\n".join(shown)

    # --- the host's side ----------------------------------------------------------------------------------------

    def virsh(self, *arguments: str, timeout: float = VIRSH_TIMEOUT, one_cpu: bool = False) -> str:
        """What virsh printed; GuestError with its complaint if it failed. Waits for its turn at the root.

        one_cpu runs it on the first processor, for the sake of the capabilities (see above); QEMU still gets them all.
        """
        command = ["virsh", "-q", "-c", self.uri, *arguments]
        if one_cpu:
            command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
            except FileNotFoundError as error:
                raise GuestError("virsh is not installed: run scripts/setup run") from error
            except subprocess.TimeoutExpired as error:
                raise GuestError(f"virsh {' '.join(arguments)} did not end within {timeout} s") from error
            if done.returncode == 0:
                return done.stdout
            # virsh has no status of its own for this, so its text has to do. It is not translated: see the log line.
            waits_for_turn = "driver.pid" in done.stderr
            # libvirt's embedded driver may crash when its process ends while it still takes guests over.
            crashed_looking = done.returncode < 0 and arguments[0] in QUERIES
            if not (waits_for_turn or crashed_looking) or time.monotonic() > deadline:
                raise GuestError(f"virsh {' '.join(arguments)} failed with status {done.returncode}: {done.stderr.strip()}")
            time.sleep(0.1)

    def domain_xml(self) -> str:
        return self.libvirt.domain_xml(self.name) if self.libvirt else self.virsh("dumpxml", self.name)

    def disk_targets(self) -> list[str]:
        """The targets, such as vdb, of the domain's disks."""
        return [line.split()[0] for line in self.virsh("domblklist", self.name).splitlines()]

    def qemu_pid(self) -> int:
        return int((self.libvirt_folder / "run/qemu" / f"{self.name}.pid").read_text())

    # --- the guest's side ---------------------------------------------------------------------------------------

    @property
    def shell(self) -> Shell:
        if self._shell is None:
            self._shell = Shell(self.control_socket)
        return self._shell

    def run(self, script: str, timeout: float = 60) -> Result:
        """Run a shell script in the guest: its exit status, and its stdout and stderr together.

        A script that is still running after `timeout` seconds is killed by the guest, and its status is then 143.
        GuestError if the guest does not answer at all.
        """
        return self.shell.run(script, timeout)

    def check(self, script: str, timeout: float = 60) -> str:
        """run(), where any status but 0 is a GuestError. Returns the output."""
        status, output = self.run(script, timeout)
        if status != 0:
            raise GuestError(f"in the guest, status {status}: {script}\n{output}")
        return output

    def disks(self) -> dict[str, str]:
        """The guest's disks: device path -> serial number. It names them in the order they come: target vdb may be vda.

        virtio-blk shows the first 20 bytes of a serial number.
        """
        listed = self.check("for d in /sys/block/vd* /sys/block/sd*; do [ -e $d ] || continue; s=;"
                            " if [ -e $d/serial ]; then read -r s <$d/serial; else s=$(tail -c +5 $d/device/vpd_pg80); fi"
                            " 2>/dev/null; echo /dev/${d##*/} $s; done")
        return dict((line.split(" ", 1) + [""])[:2] for line in listed.splitlines())

    def disk_with(self, serial: str) -> str | None:
        """The device path of the disk with this serial number, if the guest has it."""
        for path, shown in self.disks().items():
            if shown and (shown == serial or (len(shown) == 20 and serial.startswith(shown))):
                return path
        return None

    def wait_disk(self, serial: str, timeout: float = 30) -> str:
        """Wait for the disk with this serial number to come; its device path."""
        deadline = time.monotonic() + timeout
        while True:
            path = self.disk_with(serial)
            if path:
                return path
            if time.monotonic() > deadline:
                raise GuestError(f"the guest shows no disk {serial} after {timeout} s; it has {self.disks()}")
            time.sleep(0.1)

    def wait_no_disk(self, serial: str, timeout: float = 30) -> None:
        """Wait for the disk with this serial number to go."""
        deadline = time.monotonic() + timeout
        while self.disk_with(serial):
            if time.monotonic() > deadline:
                raise GuestError(f"the guest still shows the disk {serial} after {timeout} s")
            time.sleep(0.1)

    def size(self, device: str) -> int:
        """The bytes that the guest's disk at this path has, as the guest knows it now."""
        return int(self.check(f"blockdev --getsize64 {device}"))

    def wait_size(self, device: str, size: int, timeout: float = 30) -> None:
        """Wait until the guest's disk at this path has so many bytes. QEMU tells of a new size by an interrupt, which the
        guest handles some moments later."""
        deadline = time.monotonic() + timeout
        while (shown := self.size(device)) != size:
            if time.monotonic() > deadline:
                raise GuestError(f"the guest's {device} still has {shown} bytes, not {size}, after {timeout} s")
            time.sleep(0.1)

    # --- the domain ---------------------------------------------------------------------------------------------

    def domain_definition(self, built: image.Image) -> str:
        """The domain's XML. <acpi/> is what makes hot plug work; on_reboot makes a kernel panic end the guest.

        `pc` has 31 PCI slots that take devices at run time as they are. q35 needs a pcie-root-port for each, so it
        gets eight of them. The SCSI controller is there for SCSI disks to be plugged in: by itself libvirt would add
        one of the model lsilogic, for which the guest has no driver. The control port is the last of its kind, as init
        expects.
        """
        emulator = shutil.which("qemu-system-x86_64")
        if not emulator:
            raise GuestError("qemu-system-x86_64 is not installed: run scripts/setup run")
        ports = "<controller type='pci' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 8
        backing = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
        # TCG leaves the guest's memory barriers out if the domain can never have a second processor (QEMU 7.2,
        # mttcg_start_vcpu_thread in accel/tcg/tcg-accel-ops-mttcg.c, tcg_gen_mb). But a device that another thread or
        # process serves needs them, or now and then a kick or an interrupt is lost and the guest waits for ever.
        spare = 0 if self.virt_type == "kvm" else 1
        # Without a NUMA cell, libvirt 9.0 that has been started anew, as each virsh on an embedded root is, forgets that
        # the memory is shared: it then refuses to plug a vhost-user disk.
        cell = f"<numa><cell id='0' cpus='0-{spare}' memory='{self.memory_mib}' unit='MiB' memAccess='shared'/></numa>"
        return f"""<domain type='{self.virt_type}'>
  <name>{self.name}</name>
  <memory unit='MiB'>{self.memory_mib}</memory>
  {backing if self.shared_memory else ""}
  <vcpu current='1'>{1 + spare}</vcpu>
  {f"<iothreads>{self.iothreads}</iothreads>" if self.iothreads else ""}
  <os>
    <type arch='x86_64' machine='{self.machine}'>hvm</type>
    <kernel>{built.kernel}</kernel>
    <initrd>{built.initrd}</initrd>
    <cmdline>{KERNEL_ARGUMENTS}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='{"host-passthrough" if self.virt_type == "kvm" else "maximum"}'>{cell if self.shared_memory else ""}</cpu>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    {ports if "q35" in self.machine else ""}
    <controller type='usb' model='none'/>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <memballoon model='none'/>
    <serial type='file'><source path={quoteattr(str(self.console_log))}/><target port='0'/></serial>
    {self.devices}
    <channel type='unix'>
      <source mode='bind' path={quoteattr(str(self.control_socket))}/>
      <target type='virtio' name='{CONTROL_PORT}'/>
    </channel>
  </devices>
</domain>
"""


class Shell:
    """The host's end of the guest's control port; tests/guest/init describes what goes over it."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.socket: socket.socket | None = None
        self.received = b""

    def wait_ready(self, timeout: float) -> None:
        """Wait until the guest says that it listens."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.connect()
                break
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ECONNREFUSED) or time.monotonic() > deadline:
                    raise GuestError(f"the guest's control port {self.path}: {error}") from error
                time.sleep(0.1)
        if self.receive(rb"AIOLOS-READY\r?\n", deadline) is None:
            raise GuestError(f"no answer on the control port within {timeout:.0f} s")

    def run(self, script: str, timeout: float) -> Result:
        try:
            token = self.send(script, timeout)
            found = self.answer(token, time.monotonic() + timeout + 15)
        except OSError as error:
            raise GuestError(f"the guest's control port {self.path}: {error}") from error
        if found is None:
            raise GuestError(f"the guest did not answer within {timeout + 15} s: {script}")
        return found

    def connect(self) -> None:
        if self.socket is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(10)
            connection.connect(str(self.path))
            self.socket = connection

    def send(self, script: str, timeout: float) -> str:
        self.connect()
        token = secrets.token_hex(6)
        encoded = script.replace("\n", NEWLINE)
        # The empty line ends whatever an earlier, interrupted host left on the port.
        self.socket.sendall(f"\nAIOLOS-RUN {token} {max(1, round(timeout))} {encoded}\n".encode())
        return token

    def answer(self, token: str, deadline: float) -> Result | None:
        """The answer to the script sent with this token; None at the deadline."""
        found = self.receive(rb"AIOLOS-END " + token.encode() + rb" (\d+) ([A-Za-z0-9+/=]*)\r?\n", deadline)
        return found and Result(int(found.group(1)), base64.b64decode(found.group(2)).decode(errors="replace"))

    def receive(self, pattern: bytes, deadline: float) -> re.Match[bytes] | None:
        """What the guest said that matches, and drop all up to its end; None at the deadline."""
        while True:
            found = re.search(pattern, self.received)
            if found:
                self.received = self.received[found.end():]
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if select.select([self.socket], [], [], left)[0]:
                data = self.socket.recv(65536)
                if not data:
                    raise GuestError("the guest ended: its control port was closed")
                self.received += data

    def close(self) -> None:
        if self.socket:
            self.socket.close()
            self.socket = None


# --- libvirt's root -------------------------------------------------------------------------------------------------


def new_root(state: pathlib.Path) -> pathlib.Path:
    """A new folder for a root, prepared: in the state folder if its path is short enough for sockets, else in /tmp."""
    parent = state / "run"
    if len(os.fsencode(parent)) + len("/g12345678") > ROOT_LENGTH_LIMIT:
        parent = pathlib.Path("/tmp")
    parent.mkdir(parents=True, exist_ok=True)
    root = pathlib.Path(tempfile.mkdtemp(prefix="g", dir=parent))
    prepare_root(root, state)
    return root


def prepare_root(root: pathlib.Path, state: pathlib.Path) -> None:
    """Write the root's configuration, and give it the QEMU capabilities that an earlier root found."""
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/qemu.conf").write_text(QEMU_CONF)
    known = state / "capabilities"
    if known.exists():
        # libvirt checks them against QEMU's, its own and the kernel's version, and asks QEMU anew if they do not fit.
        shutil.copytree(known, root / "cache/qemu/capabilities", dirs_exist_ok=True)


def keep_capabilities(root: pathlib.Path, state: pathlib.Path) -> None:
    found = root / "cache/qemu/capabilities"
    if found.exists():
        shutil.copytree(found, state / "capabilities", dirs_exist_ok=True)


def end_left_over_processes(libvirt_folder: pathlib.Path, root: pathlib.Path | None = None) -> None:
    """Kill a QEMU that libvirt could not end: only one that has this root's control port on its command line, or any."""
    for pid_file in (libvirt_folder / "run/qemu").glob("*.pid"):
        if pid_file.name == "driver.pid":
            continue
        with contextlib.suppress(OSError, ValueError):
            pid = int(pid_file.read_text())
            command_line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"qemu-system" in command_line and os.fsencode(root / "ctl" if root else b"guest=") in command_line:
                os.kill(pid, signal.SIGKILL)


# --- KVM ------------------------------------------------------------------------------------------------------------


def virt_type(state: pathlib.Path | None = None) -> str:
    """`kvm` if a guest boots with it here, else `qemu`. /dev/kvm says little: there are hosts where it opens and the
    guest then hangs at its first instructions. So the guest is booted once, and the answer kept."""
    state = state or image.state_folder()
    answer = state / "guest/virt-type"
    asked = f"{platform.release()} {image.program('qemu-system-x86_64').stat().st_mtime_ns} {os.access('/dev/kvm', os.R_OK | os.W_OK)}"
    try:
        known = json.loads(answer.read_text())
        if known["asked"] == asked:
            return known["virt_type"]
    except (OSError, ValueError, KeyError):
        pass
    found = "kvm" if kvm_boots(image.build(state)) else "qemu"
    answer.write_text(json.dumps({"asked": asked, "virt_type": found}))
    return found


def kvm_boots(built: image.Image) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    arguments = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "384", "-machine", "pc", "-nodefaults",
                 "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(built.kernel), "-initrd",
                 str(built.initrd), "-append", f"{KERNEL_ARGUMENTS} aiolos.probe"]
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=KVM_PROBE_TIMEOUT)
    except (subprocess.TimeoutExpired, OSError):
        return False
    return b"AIOLOS-PROBE-OK" in done.stdout


# --- the program ----------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="guest.py", description="A throw-away guest under qemu:///embed.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--root", required=True, type=pathlib.Path, help="libvirt's root; holds one guest")
        return added

    start = command("start", "start a guest, wait for its shell, print its virt type")
    start.add_argument("--name", default="aiolos-guest")
    start.add_argument("--machine", default="pc")
    run = command("run", "run a shell script in the guest; its status becomes this program's")
    run.add_argument("--timeout", type=float, default=60)
    run.add_argument("script")
    for name, text in (("wait-disk", "wait for a disk and print its device path"), ("wait-no-disk", "wait for it to go")):
        waiting = command(name, text)
        waiting.add_argument("--timeout", type=float, default=30)
        waiting.add_argument("serial")
    command("virsh", "run virsh on the root").add_argument("arguments", nargs=argparse.REMAINDER)
    command("logs", "print the last lines of the guest's logs")
    command("stop", "end the guest and remove its root")
    commands.add_parser("new-root", help="make and print a new folder for a root, with a path short enough for sockets")
    commands.add_parser("virt-type", help="print kvm if a guest boots with it here, else qemu")
    options = parser.parse_args()
    if options.command == "virt-type":
        print(virt_type())
    elif options.command == "new-root":
        print(new_root(image.state_folder()))
    elif options.command == "start":
        print(Guest(options.root, name=options.name, machine=options.machine).start().virt_type)
    elif options.command == "stop":
        if options.root.exists():
            try:
                guest = Guest.open(options.root)
            except GuestError:
                guest = Guest(options.root)
            guest.destroy()
    else:
        return on_running_guest(Guest.open(options.root), options)
    return 0


def on_running_guest(guest: Guest, options: argparse.Namespace) -> int:
    if options.command == "run":
        status, output = guest.run(options.script, options.timeout)
        print(output, end="")
        return status
    if options.command == "wait-disk":
        print(guest.wait_disk(options.serial, options.timeout))
    elif options.command == "wait-no-disk":
        guest.wait_no_disk(options.serial, options.timeout)
    elif options.command == "virsh":
        print(guest.virsh(*options.arguments), end="")
    elif options.command == "logs":
        print(guest.log_tails())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (GuestError, image.ImageError) as failure:
        sys.exit(f"guest: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
