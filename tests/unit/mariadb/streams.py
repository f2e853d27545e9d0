# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes xbstreams, chunk by chunk."""

import struct
import zlib


def chunk(kind: bytes, name: bytes, rest: bytes = b"", flags: int = 0) -> bytes:
    return b"XBSTCK01" + bytes([flags]) + kind + struct.pack("<I", len(name)) + name + rest


def content(name: bytes, text: bytes, offset: int = 0, checksum: int | None = None) -> bytes:
    """A piece of a file, which is not its end."""
    checksum = zlib.crc32(text) if checksum is None else checksum
    return chunk(b"P", name, struct.pack("<QQI", len(text), offset, checksum) + text)


def end(name: bytes) -> bytes:
    return chunk(b"E", name)


def file(name: bytes, text: bytes = b"x") -> bytes:
    return content(name, text) + end(name)


def seek(name: bytes, offset: int) -> bytes:
    return chunk(b"S", name, struct.pack("<Q", offset))


def rename(old: bytes, new: bytes) -> bytes:
    return chunk(b"R", old, struct.pack("<I", len(new)) + new)


def remove(name: bytes) -> bytes:
    return chunk(b"D", name)
