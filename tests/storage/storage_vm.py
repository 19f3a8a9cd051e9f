# SPDX-License-Identifier: Apache-2.0
"""A throw-away VM with the storage stacks that this host's kernel may lack: SCSI, iSCSI, FC, NVMe, NFS, LVM, multipath.

    with StorageVm(disks={"lvm": "1G"}) as vm:          # boots it; ends it, with all that was in it
        status, stdout, stderr = vm.run("lsblk /dev/disk/by-id/virtio-lvm")
        vm.check("dmesg >/run/share/dmesg")             # StorageVmError unless the status is 0
        (vm.share / "dmesg").read_text()

As a program it runs one command in a new VM: storage_vm.py [--disk NAME=SIZE]... COMMAND; its status is the command's.

The kernel is Debian's own (vm_image.py) under emulation. Its root is this host's `/`, read-only, with a tmpfs over it:
what was built here runs there at its own path, /usr/bin/python3 and pytest included, and all that is written is gone
with the VM, except in vm.share, which is the same folder on both sides. What the VM has read once it does not read again,
so a file that changes here while the VM runs may stay old there. It has no network but what it makes for itself, unless
it is started in a network namespace of others: then a NIC leads there.

Measured with two cores: 13 to 17 s until it is ready, 60 to 100 ms a command.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "guest"))
import image  # noqa: E402
import vm_image  # noqa: E402

if TYPE_CHECKING:
    from namespaces import Namespaces

BOOT_TIMEOUT = 180  # seconds; 13 to 17 are usual
SHARE = pathlib.Path("/run/share")  # where the VM has its share
# Of the command that is tested in it.
BUILD = pathlib.Path(os.environ["AIOLOS"]).parent.parent if os.environ.get("AIOLOS") else image.PROJECT / "build/dev"

KERNEL_ARGUMENTS = [
    "console=ttyS0", "quiet", "net.ifnames=0",
    "panic=-1", "oops=panic",  # a kernel that is broken says so and ends, instead of hanging one test after the other
    # An emulated processor is slow: leave out what a test machine can do without. norandmaps: TCG (QEMU 7.2) finds what it has
    # translated by its virtual address, too, and would translate each library anew for each process: 3 times as long for one.
    "mitigations=off", "nokaslr", "norandmaps", "tsc=reliable", "no_timer_check", "cryptomgr.notests", "random.trust_cpu=on",
    "rcupdate.rcu_expedited=1",
    "rcutree.jiffies_till_first_fqs=8", "rcutree.jiffies_till_next_fqs=8",  # or its thread takes a fortieth of all
    "init_on_alloc=0",  # Debian's kernels have all memory zeroed before each use
    # What looks on at each system call, page or switch of processes: a quarter of the time that starting a program takes.
    "lsm=", "audit=0", "psi=0", "cgroup_disable=memory", "hardened_usercopy=off", "randomize_kstack_offset=off",
]

# The VM's FC adapters: two NICs and two targets' NICs, on two wires that go nowhere else. FCoE runs on them (targets.py).
# They are PCI devices, unlike veth, so udev makes the by-path links that FC disks have on real hosts.
FC_WIRES = {0: ("02:fc:00:00:00:0a", "02:fc:00:00:00:0b"), 1: ("02:fc:00:00:01:0a", "02:fc:00:00:01:0b")}

# The VM's way out, where it has one. QEMU forwards what goes to any address by the gateway, from where it runs itself.
OUT_MAC, OUT_ADDRESS, OUT_GATEWAY = "02:00:00:00:00:0a", "10.0.2.15/24", "10.0.2.2"


# rdtsc; shl rdx, 32; or rax, rdx; ret
READ_TSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")


def tsc_khz() -> int:
    """The rate of this host's time stamp counter, which is the emulated processor's as well.

    The VM's kernel is told: on a busy host it takes its own measure while it does not run, and may be wrong by a factor of
    seven (seen). Its seconds are that much shorter then, and every deadline in the VM passes too soon.
    """
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(READ_TSC)
        code = ctypes.c_char.from_buffer(page)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(code))
        begun, before = time.monotonic_ns(), read()
        time.sleep(0.1)
        rate = (read() - before) * 1_000_000 // (time.monotonic_ns() - begun)
        del code  # or the page could not be unmapped
    return rate


class StorageVmError(Exception):
    """The VM did not do what was asked; the text says what, with what it printed."""


class Result(NamedTuple):
    status: int
    stdout: str
    stderr: str


class StorageVm:
    def __init__(self, *, memory_mib: int = 2048, disks: Mapping[str, str] | None = None,
                 within: Namespaces | None = None, state: pathlib.Path | None = None):
        """Nothing starts yet. disks: name -> size as truncate(1) has it; the VM has each, empty, as
        /dev/disk/by-id/virtio-NAME. They are thin here and take as much as is written. within: where to start it; its
        root is what is mounted there, and it can reach what that network has."""
        self.state = state or image.state_folder()
        self.memory_mib = memory_mib
        self.disks = dict(disks or {})
        self.within = within
        self.boot_seconds = 0.0
        self._launched = 0.0
        self._folder: pathlib.Path | None = None
        self._lock = None
        self._qemu: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._received = b""
        self._answers: dict[int, Result] = {}
        self._last_id = 0
        self._ready = False

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self, timeout: float = BOOT_TIMEOUT) -> StorageVm:
        """Boot, and wait until commands are answered. On failure nothing is left running."""
        self.launch()
        self.wait_ready(timeout)
        return self

    def launch(self) -> None:
        """Begin to boot, for who has something else to do meanwhile."""
        built = vm_image.build(self.state)
        self._launched = time.monotonic()
        with self._explained():
            self._make_folder(built)
            self._start_qemu(built)

    def wait_ready(self, timeout: float = BOOT_TIMEOUT) -> None:
        with self._explained():
            while not self._ready:
                if time.monotonic() > self._launched + timeout:
                    raise StorageVmError(f"not ready after {timeout:.0f} s\n{self.last_words()}")
                self._receive(1)
        self.boot_seconds = time.monotonic() - self._launched

    @contextlib.contextmanager
    def _explained(self):
        """What fails within ends the VM and is shown as that."""
        try:
            yield
        except BaseException as error:
            self.stop()
            if isinstance(error, StorageVmError):
                raise StorageVmError(f"the storage VM did not start: {error}") from error
            raise

    def stop(self) -> None:
        """End the VM, whatever state it is in, and remove what it had. Calling it again does no harm."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
        if self._control:
            self._control.close()
            self._control = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()
            self._folder = None

    def __enter__(self) -> StorageVm:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def share(self) -> pathlib.Path:
        """This host's side of the folder that the VM has at /run/share."""
        return self._folder / "share"

    def last_words(self, lines: int = 100) -> str:
        """The last lines of the VM's console and of what QEMU printed, for an error message."""
        shown = []
        for title, name in (("the storage VM's console", "console.log"), ("QEMU's output", "qemu.log")):
            path = self._folder / name if self._folder else None
            text = path.read_text(errors="replace").splitlines()[-lines:] if path and path.exists() else []
            # Of the FC wires: they are to end in this VM.
            text = [line for line in text if "is not connected to host network" not in line]
            shown += [f"--- last lines of {title}", *text] if text else []
        return "\n".join(shown) or "--- neither the storage VM's console nor QEMU says anything"

    # --- commands -----------------------------------------------------------------------------------------------

    def run(self, command: str, timeout: float = 60) -> Result:
        """Run a shell command in the VM. One that runs longer than `timeout` seconds is killed; its status is then 124.

        StorageVmError if the VM does not answer at all.
        """
        sent = self.send(command, timeout)
        found = self.answer(sent, timeout + 30)
        if found is None:
            raise StorageVmError(f"the storage VM did not answer within {timeout + 30:.0f} s: {command}\n"
                                 f"{self.last_words()}")
        return found

    def check(self, command: str, timeout: float = 60) -> str:
        """run(), where any status but 0 is a StorageVmError. Returns the standard output."""
        status, stdout, stderr = self.run(command, timeout)
        if status != 0:
            raise StorageVmError(f"in the storage VM, status {status}: {command}\n{stdout}{stderr}")
        return stdout

    def send(self, command: str, timeout: float) -> int:
        """Begin a command without waiting for it; what answer() wants. Commands run side by side."""
        self._last_id += 1
        self._say(json.dumps({"id": self._last_id, "command": command, "timeout": timeout}))
        return self._last_id

    def nudge(self) -> None:
        """Interrupt its processor, and nothing else."""
        self._say("")

    def _say(self, line: str) -> None:
        try:
            self._control.sendall(line.encode() + b"\n")
        except OSError as error:
            raise StorageVmError(f"the storage VM is gone: {error}\n{self.last_words()}") from error

    def answer(self, sent: int, wait: float) -> Result | None:
        """How the command ended; None if it has not after `wait` seconds."""
        deadline = time.monotonic() + wait
        while sent not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._receive(left)
        return self._answers.pop(sent)

    def _receive(self, wait: float) -> None:
        """Take in what the VM says within so many seconds."""
        if not select.select([self._control], [], [], wait)[0]:
            return
        try:
            data = self._control.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise StorageVmError(f"the storage VM ended\n{self.last_words()}")
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self._ready = True
            if "id" in message:
                self._answers[message["id"]] = Result(message["status"], message["stdout"], message["stderr"])

    # --- the machine --------------------------------------------------------------------------------------------

    def _make_folder(self, built: vm_image.VmImage) -> None:
        runs = self.state / "storage-vm/run"
        runs.mkdir(parents=True, exist_ok=True)
        for old in runs.iterdir():  # of processes that were killed
            with contextlib.suppress(OSError), open(old / "lock", "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
        self._folder = pathlib.Path(tempfile.mkdtemp(dir=runs))
        self._lock = open(self._folder / "lock", "w", encoding="utf-8")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        vm_image.write_initrd(self._folder / "initrd", built, BUILD)
        self.share.mkdir()
        for name in ("init", "agent.py"):
            shutil.copy(HERE / "vm" / name, self.share)
        for name, size in self.disks.items():
            subprocess.run(["truncate", "-s", size, self._folder / f"{name}.raw"], check=True)

    def _start_qemu(self, built: vm_image.VmImage) -> None:
        emulator = shutil.which("qemu-system-x86_64")
        if not emulator:
            raise StorageVmError("qemu-system-x86_64 is not installed: run scripts/setup run")
        self._control, other = socket.socketpair()
        with other, open(self._folder / "qemu.log", "wb") as log:
            # setpriv: the VM ends with this process, however that ends.
            command = ["setpriv", "--pdeathsig", "KILL", emulator, *self._qemu_arguments(built, other)]
            if self.within:
                command = self.within.command(*command)
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          pass_fds=[other.fileno()])

    def _qemu_arguments(self, built: vm_image.VmImage, control: socket.socket) -> list[str]:
        # -cpu max has SVM, with which the VM can run a guest of its own under KVM, ten times as fast as under TCG in TCG.
        # One processor: of two that share one of a busy host, each waits for locks that the other holds while it does not
        # run, and the tests take two and a half times as long. But a second one that is never there, for TCG to keep the
        # memory barriers that the devices need; see guest.py.
        # AVX off: emulating what glibc's string functions do with it takes longer than doing without, by a tenth in all. ERMS
        # and FSRM off: the kernel would zero and copy memory byte by byte, which are so many steps to TCG. SMAP off: each
        # access to a program's memory would end a translated block twice. LA57 off: pages are found in four steps, not five.
        arguments = ["-machine", "q35,sata=off,smbus=off,hpet=off", "-accel", "tcg,thread=multi,tb-size=1024",
                     "-cpu", "max,avx=off,avx2=off,erms=off,fsrm=off,smap=off,smep=off,la57=off", "-smp", "1,maxcpus=2",
                     "-m", str(self.memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                     "-kernel", str(built.kernel), "-initrd", f"{self._folder}/initrd",
                     "-append", " ".join([*KERNEL_ARGUMENTS, f"tsc_early_khz={tsc_khz()}"]),
                     "-serial", f"file:{self._folder}/console.log",
                     "-device", "virtio-serial-pci", "-chardev", f"socket,id=control,fd={control.fileno()}",
                     "-device", "virtserialport,chardev=control,name=storage.control"]
        for tag, path, mode in (("layer", built.layer, ",readonly=on"), ("host", "/", ",readonly=on"),
                                ("share", self.share, "")):
            arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{mode}",
                          "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        for name in self.disks:
            image_file = f"file={self._folder}/{name}.raw,format=raw"
            arguments += ["-drive", f"{image_file},if=none,id={name},cache=unsafe,discard=unmap",
                          "-device", f"virtio-blk-pci,drive={name},serial={name}"]
        for wire, ends in FC_WIRES.items():
            for end, mac in enumerate(ends):
                arguments += ["-netdev", f"hubport,id=fc{wire}{end},hubid={wire}",
                              "-device", f"virtio-net-pci,netdev=fc{wire}{end},mac={mac},romfile="]
        if self.within:
            arguments += ["-netdev", "user,id=out,ipv6=off", "-device", f"virtio-net-pci,netdev=out,mac={OUT_MAC},romfile="]
        return arguments


def main() -> int:
    parser = argparse.ArgumentParser(prog="storage_vm.py", description="Run a command in a new storage VM.")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB")
    parser.add_argument("--disk", action="append", default=[], metavar="NAME=SIZE", help="such as lvm=1G; repeatable")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    parser.add_argument("command")
    options = parser.parse_args()
    with StorageVm(memory_mib=options.memory, disks=dict(disk.split("=", 1) for disk in options.disk)) as vm:
        print(f"storage VM: booted in {vm.boot_seconds:.1f} s", file=sys.stderr)
        status, stdout, stderr = vm.run(options.command, options.timeout)
        sys.stdout.write(stdout)
        sys.stderr.write(stderr)
        return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (StorageVmError, image.ImageError) as failure:
        sys.exit(f"storage VM: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
