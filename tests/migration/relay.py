# SPDX-License-Identifier: Apache-2.0
"""The network between two hosts, which a test can slow down, stall and cut.

    with Relay(("127.0.0.2", 49300), ("127.0.0.3", 49300)) as network:
        ...
        network.stall()
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from managed import Managed

CHUNK = 1 << 16


def address_family(address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.3", 0))
        return probe.getsockname()[1]


class Relay(Managed):
    """Passes on what comes to one address to another one, and back. An address is (host, port), or a unix socket's path."""

    def __init__(self, listen: tuple[str, int] | str, target: tuple[str, int] | str, rate: float | None = None):
        """rate: bytes a second each way of each connection."""
        super().__init__()
        self.listen = listen
        self.target = target
        self.rate = rate
        self.passed = 0  # bytes
        self._flows = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        self._flows.set()
        listener = socket.create_server(self.listen, family=address_family(self.listen))
        self.undo(self.cut)
        self.undo(end, listener)
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def stall(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._flows.clear()

    def cut(self) -> None:
        """All connections end. Later ones get through."""
        with self._lock:
            for each in self._sockets:
                end(each)
            self._sockets.clear()
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(address_family(self.target))
                try:
                    far.connect(self.target)
                except OSError:
                    end(near)
                    continue
                with self._lock:
                    self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=[one, other], daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(CHUNK):
                self._flows.wait()
                other.sendall(data)
                self.passed += len(data)
                if self.rate:
                    time.sleep(len(data) / self.rate)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


def end(connection: socket.socket) -> None:
    """Also for a thread that waits for it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
