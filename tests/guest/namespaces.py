# SPDX-License-Identifier: Apache-2.0
"""Mount and network namespaces for daemons that a test starts: many can run side by side, and the host sees nothing of it.

    with Namespaces(network=True) as cluster:                     # loopback only
        cluster.run("ip", "address")
        with Namespaces(setup=script, within=cluster) as inner:   # the same network, but mounts of its own
            daemon = inner.start("libvirtd", output=log)
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Mapping

from managed import Managed

# A daemon ends with the process that started it, however that ends.
WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


class NamespaceError(Exception):
    """A namespace cannot be made, or a command in it failed; the text says which, with what it printed."""


class Namespaces(Managed):
    def __init__(self, *, network: bool = False, within: Namespaces | None = None, setup: str = ""):
        """A mount namespace, which sees the host's later mounts as well, and with `network` one with nothing but loopback.

        within: start from these namespaces instead of the host's. setup: a shell script to run in the new ones first,
        as for its mounts; it stops at the first command that fails.
        """
        super().__init__()
        self._network = network
        self._within = within
        self._setup = setup
        self._keeper: subprocess.Popen | None = None

    def open(self) -> None:
        kinds = ["--mount", "--propagation", "slave", *(["--net"] if self._network else [])]
        script = "set -eu\n" + ("ip link set lo up\n" if self._network else "") + self._setup + "\necho ready; exec sleep inf"
        outer = self._within.command() if self._within else []
        keeper = subprocess.Popen([*outer, *WITH_PARENT, "unshare", *kinds, "sh", "-c", script], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.undo(stop, keeper)
        with keeper.stdout, keeper.stderr:
            if not (select.select([keeper.stdout], [], [], 30)[0] and keeper.stdout.readline() == "ready\n"):
                kill(keeper)
                raise NamespaceError(f"no namespace of its own could be made: {keeper.stderr.read().strip()}")
        self._keeper = keeper

    def command(self, *command: object) -> list[str]:
        """The command line that runs this command inside. Its process is the command's own: nsenter does not fork."""
        kinds = ["--mount", *(["--net"] if self._network or self._within else [])]
        return ["nsenter", "--target", str(self._keeper.pid), *kinds, "--", *(str(argument) for argument in command)]

    def run(self, *command: object, stdin: str | bytes | None = None, timeout: float = 60, check: bool = True,
            text: bool = True) -> subprocess.CompletedProcess:
        """Run a command inside; NamespaceError with what it printed if its status is not 0, unless check is false."""
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        shown = " ".join(str(argument) for argument in command)
        try:
            done = subprocess.run(self.command(*command), capture_output=True, text=text, timeout=timeout, **given)
        except subprocess.TimeoutExpired as error:
            raise NamespaceError(f"{shown} did not end within {timeout} s") from error
        if check and done.returncode != 0:
            said = done.stdout + done.stderr
            said = said if text else said.decode(errors="replace")
            raise NamespaceError(f"{shown} ended with status {done.returncode}:\n{said}")
        return done

    def start(self, *command: object, output: pathlib.Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
        """Start a daemon inside that stays in the foreground; what it prints is added to `output`."""
        with open(output, "ab") as log:
            return subprocess.Popen(self.command(*WITH_PARENT, *command), stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})


def why_impossible() -> str:
    """Why no namespaces can be made here, as in a container without CAP_SYS_ADMIN; empty if they can."""
    try:
        with Namespaces(network=True, setup="mount -t tmpfs aiolos-test /mnt"):
            return ""
    except NamespaceError as error:
        return str(error)


def stop(process: subprocess.Popen, timeout: float = 10) -> None:
    """Ask a process that start() gave to end; kill it if it does not."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)  # a stopped process would not hear it
        process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def kill(process: subprocess.Popen) -> None:
    """End a process that start() gave at once, for those whose state nobody needs any more."""
    process.kill()
    process.wait()


def wait_until(condition, process: subprocess.Popen, output: pathlib.Path, what: str, timeout: float = 30) -> None:
    """Wait for a daemon to be ready; NamespaceError with its last words if it ends before, or takes too long."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            why = f"ended with status {process.returncode}" if process.returncode is not None else f"took over {timeout} s"
            words = "\n".join(output.read_text(errors="replace").splitlines()[-15:]) if output.exists() else ""
            raise NamespaceError(f"{what} {why}:\n{words}")
        time.sleep(0.02)
