# SPDX-License-Identifier: Apache-2.0
"""What stands in for the storage VM where tests need nothing that this host's kernel lacks: mounts of its own.

    with StorageNamespaces() as machine:             # as StorageVm
        status, stdout, stderr = machine.run("mount.quobyte ...")

This host's processors run there, ten times as fast as the VM's emulated one. /run is empty, the storage tools lie over /usr
as they do in the VM, and what is written below these two is gone with the last process. Processes are the host's: a
command that still runs when this is closed is ended with all that it has started.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "guest"))
import image  # noqa: E402
import vm_image  # noqa: E402
from managed import Managed  # noqa: E402
from namespaces import NamespaceError, Namespaces  # noqa: E402
from storage_vm import SHARE, Result, StorageVmError  # noqa: E402

REAPER = HERE.parent / "guest/reaper.py"
END_ALL = signal.SIGUSR1  # as the reaper knows it
ENDING = 30  # seconds that it may take; what waits for a file system that hangs stays for ever

# Shared, so that what is mounted later is seen in the mount namespace of libvirt's daemon, too.
SETUP = """\
mount -t tmpfs -o mode=755 storage-test /run
mkdir {inside} /run/lock /run/upper /run/work /run/tmp
mount --bind "{share}" {inside}
mount -t overlay -o "lowerdir={layer}/usr:/usr,upperdir=/run/upper,workdir=/run/work" storage-test /usr
mount --make-rshared /
"""


class StorageNamespaces(Managed):
    """For one thread at a time."""

    def __init__(self, state: pathlib.Path | None = None):
        super().__init__()
        self.state = state or image.state_folder()
        self.boot_seconds = 0.0
        self.share = pathlib.Path()
        self._namespaces: Namespaces | None = None
        self._begun: dict[int, subprocess.Popen] = {}

    def open(self) -> None:
        begun = time.monotonic()
        built = vm_image.build(self.state)
        (self.state / "run").mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix="storage", dir=self.state / "run"))
        self.undo(shutil.rmtree, folder, ignore_errors=True)
        self.share = folder / "share"
        self.share.mkdir()
        self._namespaces = Namespaces(setup=SETUP.format(share=self.share, inside=SHARE, layer=built.layer))
        try:
            self._namespaces.open()
        except NamespaceError as error:
            raise StorageVmError(str(error)) from error
        self.undo(self._namespaces.close)
        self.undo(self.end_all)
        self.boot_seconds = time.monotonic() - begun

    def launch(self) -> None:
        """As StorageVm's; it is ready at once."""
        self.__enter__()

    def wait_ready(self) -> None:
        pass

    def stop(self) -> None:
        self.close()

    def end_all(self) -> None:
        """The commands that still run, with all that they have started. What ended by itself has cleaned up after itself."""
        for process in self._begun.values():
            process.send_signal(END_ALL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=ENDING)
        self._begun.clear()

    def send(self, command: str, timeout: float) -> int:
        """Begin a command without waiting for it; what answer() wants."""
        line = self._namespaces.command(sys.executable, REAPER, "timeout", "--signal=KILL", timeout, "env", "TMPDIR=/run/tmp",
                                        "sh", "-c", command)
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._begun[process.pid] = process
        return process.pid

    def answer(self, sent: int, wait: float) -> Result | None:
        """How the command ended; None if it has not after `wait` seconds."""
        process = self._begun[sent]
        try:
            stdout, stderr = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            return None
        del self._begun[sent]
        return Result(process.returncode, stdout, stderr)

    def run(self, command: str, timeout: float = 60) -> Result:
        """Run a shell command there; one that takes too long is killed."""
        found = self.answer(self.send(command, timeout), timeout + 30)
        if found is None:
            raise StorageVmError(f"did not end within {timeout + 30:.0f} s: {command}")
        return found

    def last_words(self) -> str:
        return ""
