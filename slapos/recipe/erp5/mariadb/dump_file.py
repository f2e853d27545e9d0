# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup as a compressed file: written from a stream, read again to prove it, and what a dump says about itself."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from slapos.recipe.erp5.errors import BackupError

CHUNK = 1 << 20
LEVEL = 3
HEAD = 4096
_TAIL = 1 << 16

# What mariadb-dump 10.11 writes: the version near the beginning, the position just before the end (measured).
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


class Text:
    """Follows a text that passes by in chunks: its length, its first bytes and its last ones."""

    def __init__(self) -> None:
        self.size, self.head, self.tail = 0, b"", b""

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.head += chunk[: HEAD - len(self.head)]
        self.tail = (self.tail + chunk[-_TAIL:])[-_TAIL:]


class Readable(Protocol):
    """Anything that gives the next bytes, at most so many, and none at its end."""

    def read(self, size: int, /) -> bytes: ...


class Counted:
    """A file under way: size and sha256 of all that was written to or read from it."""

    def __init__(self, file: Readable) -> None:
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        cast(IO[bytes], self.file).write(chunk)
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
    text, compressor = Text(), zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    with open(path, "xb", opener=_private) as file:
        counted = Counted(file)
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


class Unpacked:
    """The pieces of a compressed file's text, read from any stream and never more than was announced of either.

    `name` is for messages; `announced` and `plain_announced` are the bytes expected, compressed and unpacked. Iterating
    raises BackupError for what does not unpack, or has more than that, and OSError; so does `check` at the end.
    """

    def __init__(self, source: IO[bytes], name: str | Path, announced: int, plain_announced: int) -> None:
        self.name, self.announced, self.plain_announced, self.plain_size = name, announced, plain_announced, 0
        self._counted = Counted(source)

    @property
    def size(self) -> int:
        """The compressed bytes read so far."""
        return self._counted.size

    def __iter__(self) -> Iterator[bytes]:
        reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], self), read_size=CHUNK)
        try:
            while piece := reader.read(CHUNK):
                self.plain_size += len(piece)
                if self.plain_size > self.plain_announced:
                    self._same_length()
                yield piece
        except zstandard.ZstdError as error:
            raise BackupError(f"{self.name} does not unpack: {error}: check the disk") from error
        while self.read(CHUNK):
            pass

    def read(self, size: int) -> bytes:
        """For the decompressor, which reads on and on where there is nothing in it."""
        chunk = self._counted.read(size)
        if self.size > self.announced:
            raise BackupError(f"{self.name} has more than the {self.announced} bytes written: check the disk")
        return chunk

    def check(self, sha256: str) -> None:
        """Whether what was read is all, and has this checksum."""
        if (self.size, self._counted.hash.hexdigest()) != (self.announced, sha256):
            raise BackupError(
                f"{self.name} has {self.size} bytes that are not the {self.announced} written: check the disk"
            )
        self._same_length()

    def _same_length(self) -> None:
        if self.plain_size != self.plain_announced:
            raise BackupError(
                f"{self.name} unpacks to {self.plain_size} bytes, not to the {self.plain_announced} read: "
                "check the disk"
            )


def verify(path: Path, written: Written) -> None:
    """Read `path` to its end: it has to be the bytes that were written, and to unpack to the text that was read.

    Raises BackupError when it is not, and OSError.
    """
    text = Text()
    with open(path, "rb") as file:
        unpacked = Unpacked(file, path, written.size, written.plain_size)
        for piece in unpacked:
            text.feed(piece)
    unpacked.check(written.sha256)
    if text.tail != written.tail:
        raise BackupError(f"{path} unpacks to another text than the one read: check the disk")


def facts(written: Written) -> Facts:
    """What a complete dump says about itself. Raises BackupError when it is cut short, or lacks what we asked for."""
    if not is_complete(written.tail):
        raise BackupError(f"mariadb-dump ended without its last line `{_END_MARK.decode()}`: the dump is cut short")
    found, version = position(written.head, written.tail), server_version(written.head)
    if found is None or not version:
        raise BackupError("the dump does not name its GTID position and its server's version: is this mariadb-dump?")
    return Facts(found, version)


def is_complete(tail: bytes) -> bool:
    """Whether the last line of a dump is the one that mariadb-dump writes when it has written all."""
    return tail.rstrip(b"\n").rpartition(b"\n")[2].startswith(_END_MARK)


def position(head: bytes, tail: bytes) -> str | None:
    """The GTID position of a dump; it is near the end, in those of servers before 10.11 near the beginning."""
    # The last one: a procedure may hold such a line as well, but nothing that people wrote comes after the real one,
    # nor before the other.
    found = _GTID.findall(tail)[-1:] or _GTID.findall(head)[:1]
    return b"".join(found[0].split()).decode() if found else None


def server_version(head: bytes) -> str:
    """The version of the server that a dump is from; empty when it does not say."""
    version = _VERSION.search(head)
    return version[1].decode("utf-8", "replace") if version else ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
