# SPDX-License-Identifier: GPL-2.0-or-later
"""Follows an xbstream, mariadb-backup's archive format, as it passes by: which files it holds, and whether it is whole.

mbstream itself (10.11.19, measured) ends with status 0 when a stream ends in the middle of a file, when it refuses a
name, and when a rename chunk moves a file out of its folder. So nothing goes to it that was not looked at here.
"""

import struct
from collections.abc import Generator
from dataclasses import dataclass

from slapos.recipe.erp5.errors import BackupError

_MAGIC = b"XBSTCK01"
_HEAD = struct.Struct("<8sBcI")
"""Magic, flags, kind of chunk, length of the name that follows."""
_PAYLOAD = struct.Struct("<QQI")
"""Length of the content that follows, its offset in the file, its CRC-32, which mbstream checks."""
_LENGTH = struct.Struct("<I")
_OFFSET = 8
_LONGEST_NAME = 511
_LONGEST_KEPT = 1 << 16
_INFORMATION = ("xtrabackup_", "mariadb_backup_")
"""What mariadb-backup's own files begin with: the first in 10.11, the second in newer series."""


@dataclass(frozen=True)
class Contents:
    """The names of all `files` in a stream, and the content of the small ones that say something about the others."""

    files: frozenset[str]
    kept: dict[str, bytes]

    def information(self, name: str) -> str:
        """The text of mariadb-backup's own file `name` (without its prefix). Raises BackupError when it is missing."""
        for prefix in _INFORMATION:
            if prefix + name in self.kept:
                return self.kept[prefix + name].decode("utf-8", "replace")
        raise BackupError(f"the stream has no {_INFORMATION[0]}{name}: is this mariadb-backup's?")

    def tablespaces(self) -> frozenset[str]:
        """InnoDB's tables and partitions as they are once the stream is prepared, such as erp5/catalog.

        Tables that were dropped, renamed or created while the stream was made lie in it as .del, .ren (with the new
        name) and .new (10.11.19, measured). Names of tables that a statement is still building (#sql...) are left out.
        """
        dropped = self._stems(".del")
        renamed = {name[: -len(".ren")]: text.decode("utf-8", "replace") for name, text in self._renamed()}
        copied = (self._stems(".ibd") | self._stems(".ibd.delta")) - dropped
        present = {renamed.get(name, name) for name in copied} | self._stems(".new")
        return frozenset(filter(is_table, present))

    def _stems(self, suffix: str) -> set[str]:
        return {name[: -len(suffix)] for name in self.files if name.endswith(suffix)}

    def _renamed(self) -> list[tuple[str, bytes]]:
        return [(name, text) for name, text in self.kept.items() if name.endswith(".ren")]


def is_table(name: str) -> bool:
    """Whether a tablespace is a table's or a partition's that people know."""
    return "/" in name and not name.rpartition("/")[2].startswith("#sql")


class Inspector:
    """Gets a stream in pieces of any size; each piece was found harmless when feed() returns."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._open: set[str] = set()
        self._kept: dict[str, bytearray] = {}
        self._between = True
        self._payload = 0
        self._keep: bytearray | None = None
        self._collected = bytearray()
        self._follower = self._follow()
        self._wanted = next(self._follower)

    def feed(self, data: bytes | memoryview) -> None:
        """Look at the next piece. Raises BackupError when it is no xbstream, or names anything outside the folder."""
        rest = memoryview(data)
        while rest:
            if self._payload:
                taken = min(self._payload, len(rest))
                self._pass(rest[:taken])
            else:
                taken = min(self._wanted - len(self._collected), len(rest))
                self._collected += rest[:taken]
                if len(self._collected) == self._wanted:
                    collected = bytes(self._collected)
                    self._collected.clear()
                    self._wanted = self._follower.send(collected)
            rest = rest[taken:]

    def finish(self) -> Contents:
        """What the whole stream held. Raises BackupError when it ended too early."""
        if self._payload or self._collected or not self._between:
            raise BackupError("the stream ends in the middle of a chunk: it is cut short")
        if self._open:
            raise BackupError(f"the stream ends in the middle of {min(self._open)}: it is cut short")
        if not self._files:
            raise BackupError("the stream is empty: it is cut short")
        return Contents(frozenset(self._files), {name: bytes(content) for name, content in self._kept.items()})

    def _pass(self, content: memoryview) -> None:
        self._payload -= len(content)
        if self._keep is not None:
            self._keep += content
            if len(self._keep) > _LONGEST_KEPT:
                raise BackupError(f"a file of the stream that says something has more than {_LONGEST_KEPT} bytes")

    def _follow(self) -> Generator[int, bytes, None]:
        """Yields how many bytes it wants next (never 0), and is sent just these."""
        while True:
            self._between = True
            magic, _, kind, length = _HEAD.unpack((yield _HEAD.size))
            self._between = False
            if magic != _MAGIC:
                raise BackupError("the stream is no xbstream, or damaged")
            name = safe_name((yield _checked(length)))
            if kind == b"P":
                size, _, _ = _PAYLOAD.unpack((yield _PAYLOAD.size))
                self._begin(name, size)
            elif kind == b"E":
                self._files.add(name)
                self._open.discard(name)
            elif kind == b"S":
                yield _OFFSET
            elif kind == b"R":
                (length,) = _LENGTH.unpack((yield _LENGTH.size))
                self._rename(name, safe_name((yield _checked(length))))
            elif kind == b"D":
                self._files.discard(name)
            else:
                raise BackupError(f"the stream has a chunk of a kind that is not known: {kind!r}")

    def _begin(self, name: str, size: int) -> None:
        self._files.add(name)
        self._open.add(name)
        self._payload = size
        says_something = name.startswith(_INFORMATION) or name.endswith(".ren")
        self._keep = self._kept.setdefault(name, bytearray()) if says_something else None

    def _rename(self, name: str, new: str) -> None:
        for names in (self._files, self._open):
            if name in names:
                names.discard(name)
                names.add(new)


def _checked(length: int) -> int:
    if not 0 < length <= _LONGEST_NAME:
        raise BackupError(f"the stream has a name of {length} bytes: it is damaged")
    return length


def safe_name(name: bytes) -> str:
    """The name of a file in a folder, or one of its sub-folders. Raises BackupError for any that leaves the folder."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BackupError(f"the stream has a name that is no text: {name!r}") from error
    if "\0" in text or not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise BackupError(f"the stream has a name that leaves its folder: {text!r}: do not use this backup")
    return text
