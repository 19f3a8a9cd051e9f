# SPDX-License-Identifier: Apache-2.0
"""reaper.py COMMAND...: runs the command in the foreground, and reaps what it leaves behind, as process 1 should.

libvirt takes a QEMU that has ended for alive until somebody has reaped it. QEMU is process 1's child then, and where that
is slow about it, or a container's command that never does, libvirt waits: 4 s for each question about QEMU's capabilities.

When the process that started it dies without ending it first, the command and all it left behind are killed.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def kill_children(*_: object) -> None:
    """Kill all children, and the children that those leave to this process, until there are none."""
    while True:
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    os.kill(int(stat.parent.name), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            os._exit(1)


def main() -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGUSR1, kill_children)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
    child = subprocess.Popen(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
