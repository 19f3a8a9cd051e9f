# SPDX-License-Identifier: Apache-2.0
"""A volume of each driver on real storage, for tests of what holds for all of them."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Callable
from typing import NamedTuple

import pytest
from shares import preallocated
from tools import MIB, run


class Ready(NamedTuple):
    """A volume that can be connected, and what the configuration has to say for it."""

    connection_info: dict
    configuration: str = ""


def iscsi(get: Callable, _: pathlib.Path, paths: int) -> Ready:
    """One portal is given; what else there is has to be discovered, with a password."""
    get("multipath")
    target = get("iscsi")
    if paths == 1:
        target.close_portal(1)
    info = target.connection_info(target.map(get("volume")))
    info["data"] |= target.want_discovery_chap("discovery-user", "discovery-secret")
    return Ready(info, "iscsi: {use_multipath: true}\n")


def fibre_channel(get: Callable, _: pathlib.Path, paths: int) -> Ready:
    """dm-multipath only where it has something to combine: its steps are the same as of iSCSI."""
    if paths > 1:
        get("multipath")
    fabrics = get("fibre_channel")
    info = fabrics.connection_info(fabrics.map(get("volume")))
    ports = info["data"]["initiator_target_map"]
    info["data"]["initiator_target_map"] = dict(list(ports.items())[:paths])
    info["data"]["target_wwn"] = info["data"]["target_wwn"][:paths]
    return Ready(info, f"fibre_channel: {{use_multipath: {str(paths > 1).lower()}}}\n")


def nvmeof(get: Callable, _: pathlib.Path, paths: int) -> Ready:
    subsystem = get("nvme")
    info = subsystem.connection_info(subsystem.map(get("volume")))
    info["data"]["portals"] = info["data"]["portals"][:paths]
    return Ready(info)


def nfs(get: Callable, folder: pathlib.Path, _: int) -> Ready:
    server = get("nfs")
    preallocated(server.folder / "volume")
    return Ready(server.connection_info("volume"), f"nfs: {{mount_point_base: {folder}/mnt}}\n")


def quobyte(get: Callable, folder: pathlib.Path, _: int) -> Ready:
    client = get("quobyte")
    preallocated(client.folder / "volume")
    return Ready(client.connection_info("volume"), f"quobyte: {{mount_point_base: {folder}/mnt}}\n")


def lvm(get: Callable, _: pathlib.Path, __: int) -> Ready:
    group = get("volume_group")
    path = group.thick("thick", 32 * MIB)
    run("lvchange", "-a", "n", f"{group.name}/thick")
    return Ready({"driver_volume_type": "local", "serial": str(uuid.uuid4())[:20], "data": {"device_path": str(path)}})


KINDS = (iscsi, fibre_channel, nvmeof, nfs, pytest.param(quobyte, marks=pytest.mark.any_kernel), lvm)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def ready(request, tmp_path) -> Ready:
    """On all the paths that there are: two."""
    return request.param(request.getfixturevalue, tmp_path, 2)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def ready_on_one_path(request, tmp_path) -> Ready:
    """As `ready` and by the same steps, which a second path would only repeat."""
    return request.param(request.getfixturevalue, tmp_path, 1)
