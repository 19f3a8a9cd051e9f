#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the fuzz targets' seeds into fixtures/fuzz: what a front end and a guest's driver say when all is well."""

import pathlib
import struct

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures/fuzz"
NEXT, WRITE, INDIRECT = 1, 2, 4
BASE = 0x10000
MEMORY, EVENT, ACK = 0x10, 0x20, 0x08


def memory(descriptors: list[tuple[int, int, int, int]], heads: list[int], at: dict[int, bytes]) -> bytes:
    """A ring of 16 at the beginning of the guest's memory, with what lies elsewhere."""
    image = bytearray(8192)
    for i, descriptor in enumerate(descriptors):
        struct.pack_into("<QIHH", image, 16 * i, *descriptor)
    struct.pack_into(f"<HH{len(heads)}H", image, 512, 0, len(heads), *heads)
    for offset, data in at.items():
        image[offset:offset + len(data)] = data
    return bytes(image)


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def chain(kind: int, data: int, writable: bool) -> bytes:
    middle = (BASE + 5000, data, NEXT | (WRITE if writable else 0), 2)
    return memory([(BASE + 4096, 16, NEXT, 1), middle, (BASE + 4112, 1, WRITE, 0)], [0], {4096: header(kind)})


def indirect() -> bytes:
    table = b"".join(struct.pack("<QIHH", *entry) for entry in [
        (BASE + 4096, 16, NEXT, 1), (BASE + 5120, 512, NEXT | WRITE, 2), (BASE + 4112, 1, WRITE, 0)])
    return memory([(BASE + 6144, len(table), INDIRECT, 0)], [0], {4096: header(0), 6144: table})


def message(request: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("<BBH", request, flags, len(payload)) + payload


def conversation() -> bytes:
    """From connecting to giving ring 0 back. The memory is the target's own, all zero."""
    numbers = [message(1), message(15), message(16, struct.pack("<Q", 0x922B)), message(17), message(36), message(3),
               message(2, struct.pack("<Q", 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28), ACK),
               message(24, struct.pack("<III", 0, 60, 0) + bytes(60)),
               message(31, struct.pack("<QQHHI", 0, 0, 2, 16, 0)),
               message(32, struct.pack("<QQHHI", 640, 0, 2, 16, 0), MEMORY | ACK)]
    region = struct.pack("<QQQQ", BASE, 32768, BASE, 4096)
    start = [message(37, bytes(8) + region, MEMORY | ACK),
             message(8, struct.pack("<II", 0, 16)), message(10, struct.pack("<II", 0, 0)),
             message(9, struct.pack("<IIQQQQ", 0, 0, BASE, BASE + 1024, BASE + 512, BASE + 1024)),
             message(13, struct.pack("<Q", 0), EVENT), message(12, struct.pack("<Q", 0), EVENT | ACK),
             message(18, struct.pack("<II", 0, 1))]
    migrate = [message(6, struct.pack("<QQ", 4096, 0), MEMORY), message(2, struct.pack("<Q", 1 << 32 | 1 << 30 | 1 << 26)),
               message(9, struct.pack("<IIQQQQ", 0, 1, BASE, BASE + 1024, BASE + 512, BASE + 1024))]
    stop = [message(18, struct.pack("<II", 0, 0)), message(11, struct.pack("<II", 0, 0)),
            message(38, bytes(8) + region, ACK), message(5, struct.pack("<II", 1, 0) + region, MEMORY | ACK)]
    return b"".join(numbers + start + migrate + stop)


SEEDS = {
    "descriptors/read": chain(0, 512, True),
    "descriptors/write": chain(1, 512, False),
    "descriptors/flush": memory([(BASE + 4096, 16, NEXT, 1), (BASE + 4112, 1, WRITE, 0)], [0], {4096: header(4)}),
    "descriptors/get_id": chain(8, 20, True),
    "descriptors/discard": chain(11, 16, False),
    "descriptors/write_zeroes": chain(13, 16, False),
    "descriptors/indirect": indirect(),
    "messages/conversation": conversation(),
    "messages/features": message(1) + message(15) + message(2, struct.pack("<Q", 1 << 32)),
    "messages/table": message(5, struct.pack("<IIQQQQ", 1, 0, BASE, 4096, BASE, 0), MEMORY | ACK),
}

for name, seed in SEEDS.items():
    path = FIXTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seed)
