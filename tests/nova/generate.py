#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Volumes to compare Aiolos with Nova on: the six storage types as Cinder's drivers send them, and in odder shapes.

    generate.py [--seed N] [--count N]     cases as JSON lines, in the form that reference.py reads
    generate.py --goldens FOLDER           writes fixtures/nova anew with Nova's answers (needs python3-nova)

A folder of goldens is one configuration:
    aiolos.yaml    the configuration, profile nova
    cases.jsonl    a line a case: {"connection_info", "disk_info", "secrets"?, "odd"?, "nova": {"xml"} | {"error"}}
`secrets` is what the host's libvirt knows: volume id -> uuid; no two cases share an id. `odd` names what is unusual
about the case (ODDITIES).

The same seed gives the same cases.
"""

import argparse
import copy
import dataclasses
import json
import pathlib
import random
import subprocess
import sys

TYPES = ("iscsi", "nfs", "fibre_channel", "rbd", "quobyte", "local")

# Configurations by the name of their folder of goldens. What a case needs of libvirt is added to it as `secrets`.
CONFIGURATIONS = {
    "plain": {},
    "kvm": {"libvirt": {"virt_type": "kvm"}},
    "cache-writeback": {"disk_cachemodes": {"file": "writeback", "block": "writeback", "network": "writeback"}},
    "cache-direct": {"disk_cachemodes": {"file": "none", "block": "directsync", "network": "writeback"}},
    "cache-rest": {"disk_cachemodes": {"file": "writethrough", "block": "unsafe", "network": "default"}},
    "cache-block-only": {"disk_cachemodes": {"block": "default"}},
    "mounts": {
        "nfs": {"mount_point_base": "/srv/nova mounts/"},
        "quobyte": {"mount_point_base": "/srv/quobyte/für alle"},
    },
    "rbd-fallback": {"rbd": {"user": "nova", "secret_uuid": "457eb676-33da-42ec-9a8c-9293d545c337"}},
    "rbd-user-only": {"rbd": {"user": "nova", "secret_uuid": ""}},
    "rbd-secret-only": {"rbd": {"user": "", "secret_uuid": "457eb676-33da-42ec-9a8c-9293d545c337"}},
}

TUNE_KEYS = ("bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max")


def uuid(rng):
    text = f"{rng.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


# --- connection_info, as Cinder's drivers send it ---

def iscsi(rng, volume_id):
    lun = rng.randrange(256)
    portal = f"192.0.2.{rng.randrange(1, 255)}:3260"
    iqn = f"iqn.2010-10.org.openstack:volume-{volume_id}"
    data = {
        "target_discovered": False, "target_portal": portal, "target_iqn": iqn, "target_lun": lun,
        "device_path": rng.choice((
            f"/dev/sd{rng.choice('bcdefgh')}", f"/dev/disk/by-path/ip-{portal}-iscsi-{iqn}-lun-{lun}",
            f"/dev/disk/by-id/dm-uuid-mpath-36001405{rng.getrandbits(64):016x}", f"/dev/dm-{rng.randrange(64)}",
        )),
    }
    if rng.random() < 0.3:
        data |= {"auth_method": "CHAP", "auth_username": "user", "auth_password": "pass & <word>"}
    return data


def fibre_channel(rng, volume_id):
    wwns = [f"{rng.getrandbits(64):016x}" for _ in range(rng.choice((1, 2, 4)))]
    data = {
        "target_discovered": True, "target_wwn": wwns if len(wwns) > 1 else wwns[0], "target_lun": rng.randrange(256),
        "device_path": rng.choice((
            f"/dev/disk/by-path/pci-0000:05:00.2-fc-0x{wwns[0]}-lun-1", f"/dev/dm-{rng.randrange(64)}",
            f"/dev/mapper/36005{rng.getrandbits(80):020x}",
        )),
    }
    if rng.random() < 0.5:
        data["initiator_target_map"] = {"50014380186b3f65": wwns}
    return data


def nfs(rng, volume_id):
    data = {
        "export": rng.choice((
            "nas.example.org:/export/cinder", f"192.0.2.{rng.randrange(1, 255)}:/vol{rng.randrange(9)}",
            "[2001:db8::1]:/cinder", "nas:/données/été", "nas:/")),
        "name": f"volume-{volume_id}",
    }
    if rng.random() < 0.6:
        data["format"] = rng.choice(("raw", "qcow2"))
    if rng.random() < 0.3:
        data["options"] = rng.choice((None, "-o nfsvers=4.2"))
    if rng.random() < 0.3:  # as it looks after Nova's own connect_volume
        data["device_path"] = f"/var/lib/nova/mnt/{rng.getrandbits(128):032x}/{data['name']}"
    return data


def quobyte(rng, volume_id):
    data = {
        "export": rng.choice(("quobyte://", "")) + rng.choice(("registry.example.org/cinder", "192.0.2.7/volume one",
                                                               "quobyte1,quobyte2/ünïcode")),
        "name": f"volume-{volume_id}",
    }
    if rng.random() < 0.6:
        data["format"] = rng.choice(("raw", "qcow2"))
    return data


def rbd(rng, volume_id):
    monitors = rng.choice((0, 1, 3, 3, 5))
    data = {
        "name": f"volumes/volume-{volume_id}",
        "hosts": [rng.choice((f"192.0.2.{n + 1}", f"2001:db8::{n + 1:x}", f"mon{n}.example.org"))
                  for n in range(monitors)],
        "ports": [rng.choice(("6789", "3300")) for _ in range(monitors)],
        "cluster_name": "ceph",
        "auth_enabled": rng.random() < 0.7,
        "auth_username": rng.choice(("cinder", "client & co")),
        "secret_type": "ceph",
        "secret_uuid": None if rng.random() < 0.2 else uuid(rng),
        "volume_id": volume_id,
    }
    if rng.random() < 0.1:
        del data["hosts"], data["ports"]
    return data


def local(rng, volume_id):
    return {"device_path": rng.choice((f"/dev/vg0/volume-{volume_id}", f"/dev/mapper/vg0-{volume_id[:8]}", "/dev/loop7",
                                       "/dev/disk/by-id/wwn-0x5000c500a0b1c2d3"))}


DATA = {name: globals()[name] for name in TYPES}


def qos_specs(rng):
    specs = {}
    for key in TUNE_KEYS:
        if rng.random() < 0.4:
            names = ("total",) if rng.random() < 0.5 else ("read", "write")
            for name in names:
                number = rng.choice((1, 500, 1000, 10485760, 10 ** 9, 2 ** 40))
                specs[f"{name}_{key}"] = rng.choice((number, str(number)))
    if rng.random() < 0.2:
        specs["size_iops_sec"] = rng.choice((4096, "4096"))
    return specs


def disk_info(rng):
    bus = rng.choice(("virtio", "virtio", "virtio", "scsi", "scsi", "sata", "ide", "usb"))
    prefix = {"virtio": "vd", "ide": "hd"}.get(bus, "sd")
    info = {"bus": bus, "dev": prefix + rng.choice("abcdefgh"), "type": "disk"}
    if bus == "scsi" and rng.random() < 0.8 or rng.random() < 0.1:
        info["unit"] = rng.choice((0, 0, 1, 7, 42, 255))
    if rng.random() < 0.3:
        info["boot_index"] = str(rng.randrange(1, 4))  # Nova's own is text
    if bus in ("scsi", "sata", "ide") and rng.random() < 0.1:
        info["type"] = "cdrom"
    return info


def volume(rng, volume_type):
    """One case of a storage type: (connection_info, disk_info, secrets)."""
    volume_id = uuid(rng)
    data = DATA[volume_type](rng, volume_id)
    info = {"driver_volume_type": volume_type, "data": data}
    if rng.random() < 0.9:
        info["serial"] = rng.choice((volume_id, volume_id, volume_id, None, f"serial <&'\"> {volume_id[:8]}"))
    if rng.random() < 0.5:
        data.setdefault("volume_id", volume_id)
    if rng.random() < 0.5:
        data["qos_specs"] = rng.choice((None, {}, qos_specs(rng), qos_specs(rng), qos_specs(rng)))
    if rng.random() < 0.6:
        data["access_mode"] = rng.choice(("rw", "rw", "ro", "", None))
    if rng.random() < 0.4:
        data["discard"] = rng.choice((True, True, False))
    if rng.random() < 0.15:
        data["logical_block_size"] = rng.choice(("512", "4096"))
    if rng.random() < 0.15:
        data["physical_block_size"] = rng.choice(("512", "4096"))
    if rng.random() < 0.3:
        info["multiattach"] = rng.choice((True, False))
    if rng.random() < 0.9:  # Cinder always says so
        data["encrypted"] = rng.random() < 0.3
    if rng.random() < 0.1:
        data["cacheable"] = False
    secrets = {}
    if data.get("encrypted") and rng.random() < 0.8:
        known = rng.choice((volume_id, volume_id, info.get("serial"), f"not {volume_id}"))
        if known:
            secrets[known] = uuid(rng)
    return info, disk_info(rng), secrets


# --- oddities: each makes a case unusual in one way ---

DROP = object()  # takes a member out, which must be there
DROP_IF_ANY = object()  # takes a member out if it is there

PATHS = ("iscsi", "fibre_channel", "local")
SHARES = ("nfs", "quobyte")
RBD = ("rbd",)

# What makes NFS compute its path as Quobyte does, and an RBD volume authenticate: before the oddity itself.
COMPUTED = {"data/device_path": DROP_IF_ANY}
AUTH = {"data/auth_enabled": True}


@dataclasses.dataclass(frozen=True)
class Oddity:
    changes: dict  # place ("data/name", "serial", "disk_info/bus") -> new value, DROP or DROP_IF_ANY
    types: tuple = TYPES  # the storage types it applies to

    def apply(self, info, disk):
        """Changes a case; false if it does not apply to it."""
        if info["driver_volume_type"] not in self.types:
            return False
        for place, value in self.changes.items():
            *path, key = place.split("/")
            owner = {"": info, "data": info["data"], "disk_info": disk}["".join(path)]
            if value is DROP and key not in owner:
                return False
            if value in (DROP, DROP_IF_ANY):
                owner.pop(key, None)
            else:
                owner[key] = copy.deepcopy(value)
        return True


SECRET_UNASKED = "secret of a volume not encrypted"

ODDITIES = {
    # what Nova cannot work without
    "no data": Oddity({"data": DROP}),
    "no bus": Oddity({"disk_info/bus": DROP}),
    "no dev": Oddity({"disk_info/dev": DROP}),
    "no type": Oddity({"disk_info/type": DROP}),
    "no device_path": Oddity({"data/device_path": DROP}, PATHS),
    "device_path null": Oddity({"data/device_path": None}, PATHS),
    "device_path a number": Oddity({"data/device_path": 5}, PATHS),
    "no export": Oddity({**COMPUTED, "data/export": DROP}, SHARES),
    "no name of the file": Oddity({**COMPUTED, "data/name": DROP}, SHARES),
    "export a number": Oddity({**COMPUTED, "data/export": 5}, SHARES),
    "name of the file a number": Oddity({**COMPUTED, "data/name": 5}, SHARES),
    "rbd name a number": Oddity({"data/name": 5}, RBD),
    "rbd port a number": Oddity({"data/hosts": ["mon1"], "data/ports": [6789]}, RBD),
    "rbd host null": Oddity({"data/hosts": [None], "data/ports": ["6789"]}, RBD),
    "rbd ports no list": Oddity({"data/hosts": ["mon1"], "data/ports": 6789}, RBD),
    "rbd no auth_username": Oddity({**AUTH, "data/auth_username": DROP}, RBD),
    "rbd no secret_type": Oddity({**AUTH, "data/secret_type": DROP}, RBD),
    "access_mode unknown": Oddity({"data/access_mode": "rx"}),
    "access_mode a number": Oddity({"data/access_mode": 5}),
    "logical_block_size a list": Oddity({"data/logical_block_size": [512]}),
    # what Nova takes in its stride
    "rbd fewer ports than hosts": Oddity({"data/hosts": ["mon1", "mon2", "mon3"], "data/ports": ["6789"]}, RBD),
    "rbd no ports": Oddity({"data/hosts": ["mon1"], "data/ports": DROP_IF_ANY}, RBD),
    "rbd port null": Oddity({"data/hosts": ["mon1", "mon2"], "data/ports": [None, "6789"]}, RBD),
    "rbd no auth keys": Oddity({"data/auth_enabled": DROP, "data/auth_username": DROP, "data/secret_uuid": DROP}, RBD),
    "discard 1": Oddity({"data/discard": 1}),
    "discard text": Oddity({"data/discard": "true"}),
    "discard null": Oddity({"data/discard": None}),
    "qos unknown keys": Oddity({"data/qos_specs": {"total_iops_sec": 100, "consumer_x": "5", "maxIOPS": 7}}),
    "qos only unknown keys": Oddity({"data/qos_specs": {"minIOPS": "5"}}),
    "qos a list": Oddity({"data/qos_specs": ["total_iops_sec"]}),
    "qos text": Oddity({"data/qos_specs": "total_iops_sec=5"}),
    "qos value null": Oddity({"data/qos_specs": {"total_iops_sec": None, "read_bytes_sec": 7}}),
    "qos zero": Oddity({"data/qos_specs": {"total_iops_sec": 0, "total_bytes_sec": "0"}}),
    "qos total and read": Oddity({"data/qos_specs": {"total_iops_sec": 100, "read_iops_sec": "50"}}),
    "block sizes null": Oddity({"data/logical_block_size": None, "data/physical_block_size": None}),
    "volume_id null": Oddity({"data/volume_id": None}),
    "volume_id empty": Oddity({"data/volume_id": ""}),
    "multiattach null": Oddity({"multiattach": None}),
    "multiattach text": Oddity({"multiattach": "yes"}),
    "serial empty": Oddity({"serial": ""}),
    "unit on another bus": Oddity({"disk_info/bus": "virtio", "disk_info/unit": 3}),
    "boot_index a number": Oddity({"disk_info/boot_index": 1}),
    "boot_index null": Oddity({"disk_info/boot_index": None}),
    "lun": Oddity({"disk_info/bus": "scsi", "disk_info/type": "lun"}, PATHS),
    "format unknown": Oddity({"data/format": "ploop9"}, SHARES),
    "more keys": Oddity({"data/vendor": {"a": [1, None]}, "status": "x", "disk_info/format": "ext4"}),
    # where Aiolos differs on purpose: compare.DEVIATIONS says why
    "logical_block_size a number": Oddity({"data/logical_block_size": 512}),
    "qos value no number": Oddity({"data/qos_specs": {"total_iops_sec": "fast"}}),
    "qos value negative": Oddity({"data/qos_specs": {"total_iops_sec": -5}}),
    "device_path empty": Oddity({"data/device_path": ""}, PATHS),
    "device_path relative": Oddity({"data/device_path": "dev/sdb"}, PATHS),
    "name leaves the share": Oddity({**COMPUTED, "data/name": "../../etc/shadow"}, SHARES),
    "name absolute": Oddity({**COMPUTED, "data/name": "/etc/shadow"}, SHARES),
    "format null": Oddity({"data/format": None}, SHARES),
    "rbd no name": Oddity({"data/name": DROP}, RBD),
    "rbd no secret_uuid": Oddity({**AUTH, "data/secret_uuid": DROP}, RBD),
    "rbd secret_type null": Oddity({**AUTH, "data/secret_type": None}, RBD),
    "rbd auth_enabled text": Oddity({"data/auth_enabled": "yes"}, RBD),
    "rbd hosts null": Oddity({"data/hosts": None}, RBD),
    SECRET_UNASKED: Oddity({"data/encrypted": False}),  # case_of adds the secret
    "serial a number": Oddity({"serial": 5}),
    "unit null": Oddity({"disk_info/bus": "scsi", "disk_info/unit": None}),
}


def case_of(rng, configuration, volume_type=None, odd=None):
    """A case under a configuration; odd: the oddity's name, or None. None if that oddity does not apply to the type."""
    info, disk, secrets = volume(rng, volume_type or rng.choice(TYPES))
    if odd and info["driver_volume_type"] == "rbd":
        info["data"]["secret_uuid"] = uuid(rng)  # no failing fallback: odd in one way only
    if odd and not ODDITIES[odd].apply(info, disk):
        return None
    if odd == SECRET_UNASKED:
        info["data"]["volume_id"] = uuid(rng)
        secrets = {info["data"]["volume_id"]: uuid(rng)}
    case = {"connection_info": info, "disk_info": disk}
    if secrets:
        case["secrets"] = secrets
    if odd:
        case["odd"] = odd
    case["configuration"] = configuration
    return case


def random_cases(seed, count):
    """`count` cases, an eighth of them odd, grouped by configuration."""
    rng = random.Random(seed)
    cases = []
    while len(cases) < count:
        odd = rng.choice(list(ODDITIES)) if rng.random() < 0.125 else None
        case = case_of(rng, rng.choice(list(CONFIGURATIONS)), odd=odd)
        if case:
            cases.append(case)
    return sorted(cases, key=lambda case: list(CONFIGURATIONS).index(case["configuration"]))


def golden_cases():
    """The committed choice: every type under every configuration, every oddity with every type it applies to."""
    rng = random.Random(26)
    cases = []
    for configuration in CONFIGURATIONS:
        for volume_type in TYPES:
            relevant = not configuration.startswith("rbd") or volume_type == "rbd"
            for _ in range(6 if relevant else 1):
                cases.append(case_of(rng, configuration, volume_type))
        if configuration == "plain":
            for odd in ODDITIES:
                cases += filter(None, (case_of(rng, configuration, volume_type, odd) for volume_type in TYPES))
        if configuration == "rbd-fallback":
            odd_rbd = [odd for odd in ODDITIES if odd.startswith("rbd")]
            cases += filter(None, (case_of(rng, configuration, "rbd", odd) for odd in odd_rbd))
    return cases


def for_reference(case):
    """The case as reference.py reads it."""
    config = {**CONFIGURATIONS[case["configuration"]], "secrets": case.get("secrets", {})}
    return {"connection_info": case["connection_info"], "disk_info": case["disk_info"], "config": config}


def nova_answers(cases, python="/usr/bin/python3"):
    """What reference.py says to each case."""
    lines = "".join(json.dumps(for_reference(case)) + "\n" for case in cases)
    reference = pathlib.Path(__file__).with_name("reference.py")
    done = subprocess.run([python, str(reference)], input=lines, capture_output=True, text=True, check=False,
                          timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"{reference} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def yaml(config):
    """The configuration file; two levels of plain scalars are all there is."""
    lines = ["# Written by tests/nova/generate.py.", "aio: {profile: nova}"]
    for section, members in config.items():
        inside = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in members.items())
        lines.append(f"{section}: {{{inside}}}")
    return "\n".join(lines) + "\n"


def write_goldens(folder):
    cases = golden_cases()
    answers = nova_answers(cases)
    for name, config in CONFIGURATIONS.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "aiolos.yaml").write_text(yaml(config), encoding="utf-8")
        with (place / "cases.jsonl").open("w", encoding="utf-8") as out:
            for case, answer in zip(cases, answers):
                if case["configuration"] == name:
                    line = {key: value for key, value in case.items() if key != "configuration"}
                    out.write(json.dumps({**line, "nova": answer}, ensure_ascii=False) + "\n")
    print(f"{len(cases)} cases in {len(CONFIGURATIONS)} folders under {folder}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--goldens", type=pathlib.Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.goldens:
        write_goldens(arguments.goldens)
        return
    for case in random_cases(arguments.seed, arguments.count):
        print(json.dumps(for_reference(case)))


if __name__ == "__main__":
    main()
