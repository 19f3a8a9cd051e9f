# SPDX-License-Identifier: Apache-2.0
"""Aiolos' flows with images of the cluster and QEMU's client, without a guest: tests/storage's, in the cluster's network."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "storage"))
from flows import Flows  # noqa: E402


class RbdFlows(Flows):
    def __init__(self, folder: pathlib.Path, ceph, libvirt, **options):
        self.conf_dir = folder / "conf"
        configuration = f"libvirt: {{uri: '{libvirt.uri}'}}\nrbd: {{conf_dir: '{self.conf_dir}'}}\n"
        super().__init__(folder, configuration, within=ceph.network, **options)

    def confs(self) -> list[pathlib.Path]:
        """The files for QEMU, which are all that the driver makes on this host."""
        return list(self.conf_dir.glob("*"))
