# SPDX-License-Identifier: Apache-2.0
"""The aiolos command as the RBD tests run it."""

import pathlib

from harness import Aiolos


class RbdAiolos(Aiolos):
    """The command in the cluster's network, with files of its own for QEMU."""

    @property
    def conf_dir(self) -> pathlib.Path:
        return self.folder / "conf"

    def confs(self) -> list[str]:
        """What it keeps for QEMU."""
        return [path.read_text() for path in self.conf_dir.glob("*")]

    def configure(self, more: str = "") -> None:
        """`more` is YAML for the section rbd, in one line."""
        super().configure(f'rbd: {{conf_dir: "{self.conf_dir}"{", " if more else ""}{more}}}\n')
