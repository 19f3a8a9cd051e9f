# SPDX-License-Identifier: Apache-2.0
"""reaper.py COMMAND...: runs the command in the foreground, and reaps what it leaves behind, as process 1 should.

libvirt takes a QEMU that has ended for alive until somebody has reaped it. QEMU is process 1's child then, and where that
is slow about it, or a container's command that never does, libvirt waits: 4 s for each question about QEMU's capabilities.
"""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
