#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What Nova itself makes of a volume: the reference that profile `nova` is compared with.

Runs Nova 26's own classes (Debian's python3-nova, installed by bench/nova/setup): the volume driver's `get_config`,
then `LibvirtDriver._set_cache_mode` on its result, then `to_xml`, which is what `LibvirtDriver._get_volume_config` does
for a guest without SEV. Only libvirt's look-up of a secret is faked.

Input, a JSON object a line:   {"connection_info": {..}, "disk_info": {..}, "config": {..}}
Output, a JSON object a line:  {"xml": ".."} or {"error": "KeyError: 'device_path'"}

`config` is Aiolos' configuration as JSON (docs/configuration), mapped to nova.conf's options here, and `secrets`, which
stands for the host's libvirt: {"<volume id>": "<uuid of the secret with usage type volume>"}.

Needs Debian's /usr/bin/python3, whose packages Nova is one of.
"""

import importlib
import json
import logging
import sys

logging.disable(logging.CRITICAL)

try:
    import nova.conf
    from nova.virt.libvirt import driver as libvirt_driver
except ImportError as error:
    sys.exit(f"{error}: run bench/nova/setup, which installs Debian's python3-nova, and use /usr/bin/python3")

CONF = nova.conf.CONF
CONF([], project="nova", default_config_files=[], default_config_dirs=[])

# driver_volume_type -> Nova's class, as nova.virt.libvirt.driver.VOLUME_DRIVERS has them. `file` is Aiolos' own type.
CLASSES = {
    "iscsi": "iscsi.LibvirtISCSIVolumeDriver",
    "nfs": "nfs.LibvirtNFSVolumeDriver",
    "fibre_channel": "fibrechannel.LibvirtFibreChannelVolumeDriver",
    "rbd": "net.LibvirtNetVolumeDriver",
    "quobyte": "quobyte.LibvirtQuobyteVolumeDriver",
    "local": "volume.LibvirtVolumeDriver",
}


class Secret:
    """libvirt's virSecret, as far as Nova asks it."""

    def __init__(self, uuid):
        self.uuid = uuid

    def UUIDString(self):
        return self.uuid


class Host:
    """nova.virt.libvirt.host.Host, as far as volume drivers ask it."""

    def __init__(self, secrets):
        self.secrets = secrets

    def find_secret(self, usage_type, usage_id):
        uuid = self.secrets.get(usage_id) if usage_type == "volume" else None
        return Secret(uuid) if uuid else None


def nova_options(config):
    """nova.conf's [libvirt] options for a configuration of ours. An empty string of ours is an option not set."""
    def section(name):
        return config.get(name) or {}

    return {
        "virt_type": section("libvirt").get("virt_type", "qemu"),
        "disk_cachemodes": [f"{kind}={mode}" for kind, mode in section("disk_cachemodes").items()],
        "nfs_mount_point_base": section("nfs").get("mount_point_base", "/var/lib/aiolos/mnt"),
        "quobyte_mount_point_base": section("quobyte").get("mount_point_base", "/var/lib/aiolos/mnt"),
        "rbd_user": section("rbd").get("user") or None,
        "rbd_secret_uuid": section("rbd").get("secret_uuid") or None,
    }


class Nova:
    """Nova's drivers on a host with one configuration."""

    def __init__(self, config):
        for option, value in nova_options(config).items():
            CONF.set_override(option, value, group="libvirt")
        # The real class without the connection to libvirt that its constructor opens. The one attribute that
        # _set_cache_mode reads is filled by the constructor's own rule.
        self.virt = object.__new__(libvirt_driver.LibvirtDriver)
        self.virt.disk_cachemodes = {
            kind: mode
            for kind, _, mode in (text.partition("=") for text in CONF.libvirt.disk_cachemodes)
            if mode in libvirt_driver.VALID_DISK_CACHEMODES
        }
        host = Host(config.get("secrets") or {})
        self.drivers = {}
        for volume_type, name in CLASSES.items():
            module, class_name = name.split(".")
            module = importlib.import_module(f"nova.virt.libvirt.volume.{module}")
            self.drivers[volume_type] = getattr(module, class_name)(host)

    def disk(self, connection_info, disk_info):
        """Nova's LibvirtConfigGuestDisk for a volume; raises what Nova raises."""
        driver = self.drivers[connection_info["driver_volume_type"]]
        conf = driver.get_config(connection_info, disk_info)
        self.virt._set_cache_mode(conf)
        return conf

    def place(self, connection_info):
        """The part of NFS's connect_volume that is computed: it sets device_path before get_config reads it."""
        data = connection_info.get("data")
        if connection_info.get("driver_volume_type") == "nfs" and "device_path" not in data:
            path = self.drivers["nfs"]._get_device_path(connection_info)
            return {**connection_info, "data": {**data, "device_path": path}}
        return connection_info

    def answer(self, connection_info, disk_info):
        try:
            return {"xml": self.disk(self.place(connection_info), disk_info).to_xml()}
        except Exception as error:  # whatever Nova trips over is its answer
            return {"error": f"{type(error).__name__}: {error}"}


def answers(cases):
    """Nova's answers to cases, in order; a Nova is built anew only when the configuration changes."""
    nova, of = None, None
    for case in cases:
        config = case.get("config") or {}
        if nova is None or config != of:
            nova, of = Nova(config), config
        yield nova.answer(case["connection_info"], case["disk_info"])


def main():
    cases = (json.loads(line) for line in sys.stdin if line.strip())
    for answer in answers(cases):
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
