# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: the command under test, volumes to attach, and looking at what came of it."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ElementTree

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT / "tests/guest"))

MIB = 1 << 20
COMMAND_TIMEOUT = 90  # seconds; an attach takes well under one
DONE, FAILED, BAD_INPUT, REFUSED, TRY_AGAIN = range(5)  # the documented exit statuses


def aiolos_binary() -> pathlib.Path:
    """The command under test."""
    path = pathlib.Path(os.environ.get("AIOLOS") or PROJECT / "build/dev/bin/aiolos")
    assert path.exists(), f"{path} is not built: run ./test, which builds it, or set AIOLOS"
    return path


def command(*arguments: object, timeout: float = 60) -> str:
    """Run a tool of the host that has to succeed; what it printed."""
    done = subprocess.run([str(a) for a in arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout)
    assert done.returncode == 0, f"{arguments} ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclasses.dataclass
class Outcome:
    """How one run of the aiolos command ended."""

    arguments: list[str]
    status: int
    out: str
    err: str

    def json(self) -> dict:
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise AssertionError(f"standard output is not JSON ({error}):\n{self}") from error

    def error(self) -> dict:
        """The error that --json gives, after a look at its form."""
        found = self.json()["error"]
        assert {"kind", "message", "next"} <= set(found), f"an error lacks parts:\n{self}"
        assert found["message"], f"an error without a message:\n{self}"
        return found

    def __str__(self) -> str:
        return (f"aiolos {' '.join(self.arguments)}\nstatus {self.status}\n--- standard output\n{self.out}"
                f"--- standard error\n{self.err}")


@dataclasses.dataclass
class Volume:
    """A volume as an orchestrator describes it, and where it really is."""

    path: pathlib.Path
    format: str
    connection_info: dict
    size: int

    @property
    def serial(self) -> str:
        return self.connection_info["serial"]

    def has_pattern(self, byte: int, offset: int, length: int) -> bool:
        """Whether the host reads this byte all over this range, as QEMU's own tool sees the volume."""
        shown = command("qemu-io", "-r", "-U", "-f", self.format, "-c", f"read -P {byte} {offset} {length}", self.path)
        return "Pattern verification failed" not in shown


class Volumes:
    """Makes volumes in one folder, and removes what is not a file of that folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.loops: list[str] = []

    def file(self, name: str, image_format: str, size: int) -> Volume:
        path = self.folder / name
        info = {"driver_volume_type": "file", "serial": str(uuid.uuid4()),
                "data": {"path": str(path), "format": image_format}}
        return Volume(path, image_format, info, size)

    def raw_written(self, size: int = 32 * MIB) -> Volume:
        volume = self.file("written.raw", "raw", size)
        with open(volume.path, "wb") as stream:
            for _ in range(size // MIB):
                stream.write(bytes(MIB))
            os.fsync(stream.fileno())
        return volume

    def raw_fallocated(self, size: int = 32 * MIB) -> Volume:
        """Preallocated as Nova's preallocate_images=space does it."""
        volume = self.file("fallocated.raw", "raw", size)
        with open(volume.path, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
            os.fsync(stream.fileno())
        return volume

    def raw_sparse(self, size: int = 32 * MIB) -> Volume:
        volume = self.file("sparse.raw", "raw", size)
        with open(volume.path, "wb") as stream:
            stream.truncate(size)
        return volume

    def qcow2(self, name: str, size: int = 32 * MIB, **options: str) -> Volume:
        volume = self.file(name, "qcow2", size)
        shown = [f"{key}={value}" for key, value in options.items()]
        command("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", ",".join(shown)] if shown else []), volume.path, size)
        return volume

    def qcow2_preallocated(self) -> Volume:
        return self.qcow2("full.qcow2", preallocation="full")

    def qcow2_sparse(self) -> Volume:
        return self.qcow2("sparse.qcow2")

    def qcow2_backed(self) -> Volume:
        """An overlay whose base holds a pattern: the second MiB is 0xb5."""
        base = self.qcow2("base.qcow2", preallocation="full")
        command("qemu-io", "-f", "qcow2", "-c", "write -P 0xb5 1M 1M", base.path)
        return self.qcow2("overlay.qcow2", backing_file=str(base.path), backing_fmt="qcow2")

    def block_device(self) -> Volume:
        """A loop device over a preallocated file, in the form that Nova has for local block devices."""
        backing = self.raw_written()
        device = command("losetup", "--find", "--show", backing.path).strip()
        self.loops.append(device)
        info = {"driver_volume_type": "local", "serial": str(uuid.uuid4()), "data": {"device_path": device}}
        return Volume(pathlib.Path(device), "raw", info, backing.size)

    def close(self) -> None:
        for device in self.loops:
            command("losetup", "--detach", device)
        self.loops.clear()


class Aiolos:
    """The command under test with its own configuration and state, and the guest it works on."""

    def __init__(self, binary: pathlib.Path, guest, folder: pathlib.Path, root: pathlib.Path | None = None,
                 within=None):
        """`root` is the embedded hypervisor's, where there is no guest. `within`: the namespaces to run in."""
        self.binary = binary
        self.command = within.command(binary) if within else [str(binary)]
        self.guest = guest
        self.root = root
        self.folder = folder
        self.config = folder / "aiolos.yaml"
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the configuration; `more` is YAML to add at its end."""
        uri, virt_type = (
            (self.guest.uri, self.guest.virt_type) if self.guest else (f"qemu:///embed?root={self.root}", "qemu"))
        self.config.write_text(f'libvirt: {{uri: "{uri}", virt_type: {virt_type}}}\n'
                               f'state: {{dir: "{self.folder}/state"}}\n{more}')

    def run(self, *arguments: str, stdin: str = "", expect: int | None = 0, timeout: float = COMMAND_TIMEOUT,
            env: dict[str, str] | None = None) -> Outcome:
        """Run the command; `expect` is the exit status to insist on (-9: killed), None for any."""
        done = subprocess.run([*self.command, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout,
                              env=env)
        outcome = Outcome(list(arguments), done.returncode, done.stdout, done.stderr)
        assert expect is None or done.returncode == expect, f"expected status {expect}:\n{outcome}"
        return outcome

    def write(self, name: str, document: object) -> str:
        path = self.folder / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    def request(self, connection_info: object, dev: str = "vdb", bus: str = "virtio") -> list[str]:
        """The arguments that name a volume and the disk it is to be."""
        return ["--config", str(self.config), "--connection", self.write("connection.json", connection_info),
                "--disk", self.write("disk.json", {"bus": bus, "dev": dev, "type": "disk"})]

    def explain(self, volume: Volume, *more: str, **options) -> Outcome:
        return self.run("explain", *self.request(volume.connection_info), *more, **options)

    def attach(self, volume: Volume, *more: str, dev: str = "vdb", bus: str = "virtio", **options) -> Outcome:
        return self.run("attach", "--domain", self.guest.name, *self.request(volume.connection_info, dev, bus), *more,
                        **options)

    def detach(self, *more: str, dev: str = "vdb", **options) -> Outcome:
        return self.run("detach", "--config", str(self.config), "--domain", self.guest.name, "--target", dev, *more,
                        **options)

    def extend(self, size: int, *more: str, dev: str = "vdb", **options) -> Outcome:
        return self.run("extend", "--config", str(self.config), "--domain", self.guest.name, "--target", dev, "--size",
                        str(size), *more, **options)


def domain_disks(guest) -> dict[str, ElementTree.Element]:
    """The <disk> elements of the running domain by their target's name."""
    return {disk.find("target").get("dev"): disk for disk in ElementTree.fromstring(guest.domain_xml()).iter("disk")}


def uses_linux_aio(guest) -> bool:
    """Whether the running QEMU has a Linux AIO context: what is so, whatever the XML says."""
    return "/[aio]" in pathlib.Path(f"/proc/{guest.qemu_pid()}/maps").read_text()


def write_and_verify(guest, device: str) -> None:
    """The guest writes all of the disk with fio, checking a crc32c of every block."""
    guest.check(f"fio --name=verify --filename={device} --rw=randwrite --bs=64k --iodepth=16 --ioengine=libaio --direct=1 "
                "--verify=crc32c --do_verify=1 --verify_fatal=1", timeout=180)


def write_pattern(guest, device: str, character: str = "Z") -> None:
    """The guest fills the first MiB with one character."""
    guest.check(f"tr '\\0' {character} </dev/zero | dd of={device} bs=64k count=16 iflag=fullblock conv=fsync 2>&1")
