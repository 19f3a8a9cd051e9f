# SPDX-License-Identifier: Apache-2.0
"""black_hole.py ADDRESS PORT...: from "ready" on, nothing that is sent to these ports is ever answered.

The queue of connections that nobody accepts is filled, and Linux drops every SYN then: the same as packets that a
firewall swallows on their way.
"""

import signal
import socket
import sys


def main(address: str, ports: list[int]) -> None:
    held = []
    for port in ports:
        listener = socket.create_server((address, port), backlog=0)
        held.append(listener)
        while True:
            filler = socket.socket()
            filler.settimeout(0.2)
            held.append(filler)
            try:
                filler.connect((address, port))
            except TimeoutError:
                break
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], [int(port) for port in sys.argv[2:]])
