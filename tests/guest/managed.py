# SPDX-License-Identifier: Apache-2.0
"""What the tests start and take away again: the base of targets, daemons, clusters and namespaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable


class Managed:
    """A context manager: open() makes something and registers with undo() how to take it away, last first.

    What has been made goes when open() fails half-way, too. close() may be called again.
    """

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._undo.close()

    def undo(self, action: Callable, *arguments: object, **options: object) -> None:
        self._undo.callback(action, *arguments, **options)

    def __enter__(self):
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
