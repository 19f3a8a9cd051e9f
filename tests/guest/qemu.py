# SPDX-License-Identifier: Apache-2.0
"""A throw-away guest under QEMU itself, where libvirt stands in the way: for QEMU's traces.

    with QemuGuest(folder, devices=[...]) as guest:
        guest.check("fio ...")                                  # as Guest of guest.py
        guest.qmp.ask("stop")
        print(guest.drains())                                   # what the stops took, by QEMU's own traces
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import image  # noqa: E402
from guest import BOOT_TIMEOUT, CONTROL_PORT, KERNEL_ARGUMENTS, GuestError, Result, Shell, virt_type  # noqa: E402

# do_vm_stop of QEMU sets the state, pauses the processors, stops and drains the disks, and flushes them.
TRACES = ("runstate_set", "vm_stop_flush_all")
TRACE_LINE = re.compile(r"^\d+@(\d+\.\d+):(\w+) ?(.*)$", re.MULTILINE)
STOPS = re.compile(r"\(running\) new_state \d+ \((paused|finish-migrate)\)")
ANSWER_TIMEOUT = 60  # seconds that an answer may take


class Qmp:
    """QEMU's monitor. What it tells without being asked is dropped."""

    def __init__(self, path: pathlib.Path, process: subprocess.Popen | None = None):
        """process: who is to serve it, where it may not do so yet."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex(str(path)) != 0:
            if process is None or process.poll() is not None or time.monotonic() > deadline:
                raise GuestError(f"QEMU does not serve {path}")
            time.sleep(0.02)
        self.received = b""
        self.message(deadline)  # its greeting
        self.ask("qmp_capabilities")

    def message(self, deadline: float) -> dict:
        while b"\n" not in self.received:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except OSError as error:
                raise GuestError(f"QEMU's monitor: {error}") from error
            if not data:
                raise GuestError("QEMU ended: its monitor was closed")
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command: str, arguments: dict | None = None, timeout: float = ANSWER_TIMEOUT):
        """What QEMU returns; GuestError with its complaint."""
        self.socket.sendall((json.dumps({"execute": command, "arguments": arguments or {}}) + "\n").encode())
        deadline = time.monotonic() + timeout
        while True:
            message = self.message(deadline)
            if "error" in message:
                raise GuestError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def close(self) -> None:
        self.socket.close()


class QemuGuest:
    def __init__(self, folder: pathlib.Path, name: str = "guest", *, devices: list[str], memory_mib: int = 384,
                 state: pathlib.Path | None = None):
        """Nothing starts yet. `folder` holds its sockets, so its path has to be short.

        devices are arguments for QEMU. The guest's memory is shared (memfd).
        """
        self.folder = folder
        self.name = name
        self.devices = devices
        self.memory_mib = memory_mib
        self.state = state or image.state_folder()
        self.process: subprocess.Popen | None = None
        self.qmp: Qmp | None = None
        self.shell = Shell(self.path("ctl"))

    def path(self, what: str) -> pathlib.Path:
        return self.folder / f"{self.name}.{what}"

    def start(self, timeout: float = BOOT_TIMEOUT) -> QemuGuest:
        """Starts QEMU, and waits until its shell answers."""
        for what in ("ctl", "qmp", "log", "console"):
            self.path(what).unlink(missing_ok=True)
        with open(self.path("log"), "wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.qmp = Qmp(self.path("qmp"), self.process)
            self.shell.wait_ready(timeout)
        except BaseException as error:
            log = self.path("log").read_text(errors="replace")[-2000:]
            self.close()
            if isinstance(error, GuestError):
                raise GuestError(f"the guest did not start: {error}\n{log}") from error
            raise
        return self

    def command(self) -> list[str]:
        built = image.build(self.state)
        kvm = virt_type(self.state) == "kvm"
        arguments = ["qemu-system-x86_64", "-name", self.name, "-nodefaults", "-display", "none", "-no-reboot",
                     "-machine", "pc,memory-backend=memory", "-accel", "kvm" if kvm else "tcg", "-cpu", "host" if kvm else "max",
                     "-m", str(self.memory_mib), "-object", f"memory-backend-memfd,id=memory,size={self.memory_mib}M,share=on",
                     # A second processor, though it is not there, for the sake of memory barriers: see guest.py.
                     "-smp", "1" if kvm else "1,maxcpus=2",
                     "-kernel", str(built.kernel), "-initrd", str(built.initrd), "-append", KERNEL_ARGUMENTS,
                     "-serial", f"file:{self.path('console')}",
                     "-chardev", f"socket,id=control,path={self.path('ctl')},server=on,wait=off",
                     "-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=control,name={CONTROL_PORT}",
                     "-qmp", f"unix:{self.path('qmp')},server=on,wait=off", *self.devices]
        arguments += ["-msg", "timestamp=on"]  # on traces, too
        for trace in TRACES:
            arguments += ["-trace", trace]
        return arguments

    def close(self) -> None:
        """Ends QEMU. Calling it again does no harm."""
        self.shell.close()
        if self.qmp:
            self.qmp.close()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(20)

    def __enter__(self) -> QemuGuest:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, script: str, timeout: float = 60) -> Result:
        return self.shell.run(script, timeout)

    def check(self, script: str, timeout: float = 60) -> str:
        """run(), where any status but 0 is a GuestError. Returns the output."""
        status, output = self.run(script, timeout)
        if status != 0:
            raise GuestError(f"in the guest, status {status}: {script}\n{output}")
        return output

    def wait_disks(self, count: int, timeout: float = 30) -> list[str]:
        """Waits until the guest has so many virtio disks; their paths, in the order of QEMU's arguments."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.check("for each in /sys/block/vd*; do [ ! -e $each ] || echo /dev/${each##*/}; done").split()
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise GuestError(f"the guest has {found}, and not {count} disks, after {timeout} s")
            time.sleep(0.1)

    def drains(self) -> list[float]:
        """What each stop so far took, in seconds."""
        return drains(self.path("log").read_text(errors="replace"))


def drains(log: str) -> list[float]:
    """What each stop of a running guest took, in seconds: by QEMU's traces, from the change of its state, with which the
    guest stops, to the flush, before which all its disks are drained."""
    found, begun = [], None
    for at, trace, text in TRACE_LINE.findall(log):
        if trace == "runstate_set" and STOPS.search(text):
            begun = float(at)
        elif trace == "vm_stop_flush_all" and begun is not None:
            found.append(float(at) - begun)
            begun = None
    return found


def stock_disk(number: int, file: os.PathLike | str, aio: str, iothread: str | None = None, queue_size: int = 128) -> list[str]:
    """QEMU's arguments for a virtio disk that it serves by itself. iothread is the id of an object."""
    node = {"driver": "file", "node-name": f"file{number}", "filename": str(file), "aio": aio, "cache": {"direct": True},
            "locking": "off"}
    return ["-blockdev", json.dumps(node), "-device", f"virtio-blk-pci,id=disk{number},drive=file{number},queue-size={queue_size}"
            + (f",iothread={iothread}" if iothread else "")]


def vhost_user_disk(number: int, at: os.PathLike | str, queue_size: int = 128) -> list[str]:
    """QEMU's arguments for a virtio disk that is served at a socket."""
    return ["-chardev", f"socket,id=socket{number},path={at},reconnect=1",
            "-device", f"vhost-user-blk-pci,id=disk{number},chardev=socket{number},queue-size={queue_size}"]
