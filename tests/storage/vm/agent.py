# SPDX-License-Identifier: Apache-2.0
"""Makes the storage VM usable, then serves as its end of StorageVm.run().

One JSON document a line, both ways. Commands run side by side, so that one which hangs can be looked at by another:

    host:  {"id": 7, "command": "multipath -ll", "timeout": 30}
    VM:    {"id": 7, "status": 0, "stdout": "...", "stderr": "..."}

A command gets a process group of its own, which is killed when the time is over; the status is 124 then, as with
timeout(1). The first line of all is {"ready": <seconds since the kernel started>}. An empty line asks for nothing.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
import threading

MOUNTS = [("proc", "/proc"), ("sysfs", "/sys"), ("devpts", "/dev/pts"), ("tmpfs", "/dev/shm"),
          ("configfs", "/sys/kernel/config"), ("cgroup2", "/sys/fs/cgroup")]
# What the host's own storage has in these is not to be seen here.
FRESH_FOLDERS = ["/etc/iscsi", "/etc/multipath", "/etc/nvme", "/etc/target", "/var/lib/nfs",
                 "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"]
# Rules of udev's that have it start a program for each mount and device, and that nothing here is about: NFS's read-ahead.
UDEV_RULES_OFF = ["99-nfs.rules"]
# libvirt asks each emulator that it finds for its capabilities, which takes 9 s here. Nothing uses this one.
EMULATOR_OFF = "/usr/bin/qemu-system-i386"
LINKS = {"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
         "/dev/stderr": "/proc/self/fd/2", "/etc/mtab": "/proc/self/mounts"}
# What udev looks at after its start. The rest of this machine would have it load many modules for nothing.
COLDPLUG = ["block", "virtio", "net", "misc", "mem"]

MS_REC, MS_SHARED = 1 << 14, 1 << 20
TIMED_OUT = 124
UNKILLABLE = 5  # seconds that a killed command may take to go; one that waits for a disk stays for ever


def main() -> None:
    set_up()
    control = os.open(control_port(), os.O_RDWR)  # once: the port is taken while it is open
    sending = threading.Lock()

    def send(message: dict) -> None:
        rest = json.dumps(message).encode() + b"\n"
        with sending:
            while rest:
                rest = rest[os.write(control, rest):]

    def answer(request: dict) -> None:
        send(serve(**request))

    send({"ready": float(pathlib.Path("/proc/uptime").read_text().split()[0])})
    with os.fdopen(control, "rb") as lines:
        for line in filter(bytes.strip, lines):
            threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()


def set_up() -> None:
    """The file systems and links that every Linux has, empty configuration, the network's loopback, and udev."""
    # Without forking for each: an emulated processor takes long to start a program.
    mount = ctypes.CDLL(None, use_errno=True).mount
    for kind, place in [*MOUNTS, *(("tmpfs", folder) for folder in FRESH_FOLDERS)]:
        os.makedirs(place, exist_ok=True)
        if mount(kind.encode(), place.encode(), kind.encode(), 0, b"mode=755" if kind == "tmpfs" else None) != 0:
            print(f"storage VM: mount {kind} on {place}: {os.strerror(ctypes.get_errno())}")
    # As systemd does it: what is mounted later is seen in the mount namespace of libvirt's daemon, too.
    if mount(None, b"/", None, MS_REC | MS_SHARED, None) != 0:
        print(f"storage VM: mount --make-rshared /: {os.strerror(ctypes.get_errno())}")
    for link, target in LINKS.items():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(target, link)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/etc/multipath.conf")
    pathlib.Path("/etc/exports").write_text("")
    os.makedirs("/run/lock", exist_ok=True)
    os.makedirs("/run/udev/rules.d", exist_ok=True)
    for rules in UDEV_RULES_OFF:
        os.symlink("/dev/null", f"/run/udev/rules.d/{rules}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(EMULATOR_OFF)
    socket.sethostname("storage-vm")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    subprocess.run(["/lib/systemd/systemd-udevd", "--daemon"], check=False)
    subsystems = [f"--subsystem-match={name}" for name in COLDPLUG]
    subprocess.run(["udevadm", "trigger", "--action=add", *subsystems], check=False)
    subprocess.run(["udevadm", "settle", "--timeout=60"], check=False)


def control_port() -> str:
    for port in pathlib.Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text() == "storage.control\n":
            return f"/dev/{port.name}"
    raise SystemExit("storage VM: no control port")


def serve(id: int, command: str, timeout: float) -> dict:
    # Files, not pipes: a daemon that the command leaves behind would keep a pipe open.
    with tempfile.TemporaryFile(dir="/run") as stdout, tempfile.TemporaryFile(dir="/run") as stderr:
        process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                   start_new_session=True)
        if ends_within(process, timeout):
            status = process.wait()
        else:
            status = TIMED_OUT
            os.killpg(process.pid, signal.SIGKILL)
            if ends_within(process, UNKILLABLE):
                process.wait()
        return {"id": id, "status": status, "stdout": content(stdout), "stderr": content(stderr)}


def ends_within(process: subprocess.Popen, seconds: float) -> bool:
    """Asleep until then, where Popen.wait(seconds) looks twenty times a second: of each second a hundredth here."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def content(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


if __name__ == "__main__":
    main()
