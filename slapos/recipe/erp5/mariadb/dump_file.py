# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump as a compressed file: written from a stream, read again to prove it, and what its text says about itself."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from slapos.recipe.erp5.errors import BackupError

CHUNK = 1 << 20
LEVEL = 3
_HEAD = 4096
_TAIL = 1 << 16

# What mariadb-dump 10.11 writes: the version near the beginning, the position just before the end (FACTS 3).
_VERSION = re.compile(rb"^-- Server version\t(\S+)$", re.MULTILINE)
_GTID = re.compile(rb"^SET GLOBAL gtid_slave_pos='([0-9,\s-]*)';$", re.MULTILINE)
_END_MARK = b"-- Dump completed"


@dataclass(frozen=True)
class Written:
    """A file as it was written: `size` and `sha256` of its bytes; `plain_size`, `head` and `tail` of the text."""

    size: int
    sha256: str
    plain_size: int
    head: bytes
    tail: bytes


@dataclass(frozen=True)
class Facts:
    """What a complete dump says: the GTID position that it stands for, and the server that it is from."""

    gtid: str
    server_version: str


class _Text:
    """Follows a text that passes by in chunks: its length, its first bytes and its last ones."""

    def __init__(self) -> None:
        self.size, self.head, self.tail = 0, b"", b""

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.head += chunk[: _HEAD - len(self.head)]
        self.tail = (self.tail + chunk[-_TAIL:])[-_TAIL:]


class _Counted:
    """A file under way: size and sha256 of all that was written to or read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        self.file.write(chunk)
        return self._count(chunk)

    def read(self, size: int) -> bytes:
        chunk = self.file.read(size)
        self._count(chunk)
        return chunk

    def _count(self, chunk: bytes) -> int:
        self.size += len(chunk)
        self.hash.update(chunk)
        return len(chunk)


def write(source: IO[bytes], path: Path, progress: Callable[[int, int], None]) -> Written:
    """Compress all that `source` gives into the new file `path` (mode 0600), and sync it.

    `progress` is called after each chunk with the bytes read and the bytes written so far. Raises OSError.
    """
    text, compressor = _Text(), zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    with open(path, "xb", opener=_private) as file:
        counted = _Counted(file)
        while chunk := source.read(CHUNK):
            text.feed(chunk)
            counted.write(compressor.compress(chunk))
            progress(text.size, counted.size)
        counted.write(compressor.flush())
        file.flush()
        os.fsync(file.fileno())
        # So that verify() reads what the disk holds, and the server keeps its share of the page cache.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return Written(counted.size, counted.hash.hexdigest(), text.size, text.head, text.tail)


def verify(path: Path, written: Written) -> None:
    """Read `path` to its end: it has to be the bytes that were written, and to unpack to the text that was read.

    Raises BackupError when it is not, and OSError.
    """
    text = _Text()
    with open(path, "rb") as file:
        counted = _Counted(file)
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], counted), read_size=CHUNK)
            while chunk := reader.read(CHUNK):
                text.feed(chunk)
        except zstandard.ZstdError as error:
            raise BackupError(f"{path} does not unpack: {error}: check the disk") from error
        while counted.read(CHUNK):
            pass
    if (counted.size, counted.hash.hexdigest()) != (written.size, written.sha256):
        raise BackupError(f"{path} has {counted.size} bytes that are not the {written.size} written: check the disk")
    if (text.size, text.tail) != (written.plain_size, written.tail):
        raise BackupError(f"{path} unpacks to {text.size} bytes, not to the {written.plain_size} read: check the disk")


def facts(written: Written) -> Facts:
    """What a complete dump says about itself. Raises BackupError when it is cut short, or lacks what we asked for."""
    last = written.tail.rstrip(b"\n").rpartition(b"\n")[2]
    if not last.startswith(_END_MARK):
        raise BackupError(f"mariadb-dump ended without its last line `{_END_MARK.decode()}`: the dump is cut short")
    # The last one: a procedure may hold such a line as well, but nothing that people wrote comes after the real one.
    positions, version = _GTID.findall(written.tail), _VERSION.search(written.head)
    if not positions or version is None:
        raise BackupError("the dump does not name its GTID position and its server's version: is this mariadb-dump?")
    return Facts(b"".join(positions[-1].split()).decode(), version[1].decode())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
