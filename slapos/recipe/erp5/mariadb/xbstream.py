# SPDX-License-Identifier: GPL-2.0-or-later
"""Follows an xbstream, mariadb-backup's archive format, as it passes by: which files it holds, and whether it is whole.

The one reader of that format here: where backups are made it looks at what passes, where they are restored it tells
xbstream_files.py what to write. What a stream may hold is what mbstream (10.11.19, measured) unpacks without complaint.
"""

import struct
from collections.abc import Generator
from dataclasses import dataclass

from slapos.recipe.erp5.errors import BackupError

_MAGIC = b"XBSTCK01"
_HEAD = struct.Struct("<8sBcI")
"""Magic, flags, kind of chunk, length of the name that follows."""
_PAYLOAD = struct.Struct("<QQI")
"""Length of the content that follows, its offset in the file, its CRC-32."""
_LENGTH = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")
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


class Listener:
    """Is told of each thing in a stream once it was looked at, in the stream's order; this one does nothing with it."""

    def begin(self, name: str, size: int, offset: int, checksum: int) -> None:
        """A piece of a file begins, a new file's or an open one's: so many bytes at `offset`, with this CRC-32."""

    def content(self, data: memoryview) -> None:
        """The next bytes of that piece, valid until the call returns."""

    def end(self, name: str) -> None:
        """A file is complete; one that was never begun is empty."""

    def seek(self, name: str, offset: int) -> None:
        """A file, a new one or an open one, goes on at `offset`."""

    def rename(self, name: str, new: str) -> None:
        """A complete file is called `new` from now on, and takes the place of one that was called so."""

    def remove(self, name: str) -> None:
        """A complete file goes away."""


class Inspector:
    """Gets a stream in pieces of any size; each piece was found harmless when feed() returns.

    What is in it goes on to `listener`.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener or Listener()
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
        """Look at the next piece. Raises BackupError when it is no xbstream, or names anything outside the folder.

        Raises what the listener does, too.
        """
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
        self._listener.content(content)

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
                self._begin(name, *_PAYLOAD.unpack((yield _PAYLOAD.size)))
            elif kind == b"E":
                self._end(name)
            elif kind == b"S":
                self._seek(name, *_OFFSET.unpack((yield _OFFSET.size)))
            elif kind == b"R":
                (length,) = _LENGTH.unpack((yield _LENGTH.size))
                self._rename(name, safe_name((yield _checked(length))))
            elif kind == b"D":
                self._remove(name)
            else:
                raise BackupError(f"the stream has a chunk of a kind that is not known: {kind!r}")

    def _begin(self, name: str, size: int, offset: int, checksum: int) -> None:
        self._go_on(name)
        self._payload = size
        says_something = name.startswith(_INFORMATION) or name.endswith(".ren")
        self._keep = self._kept.setdefault(name, bytearray()) if says_something else None
        self._listener.begin(name, size, offset, checksum)

    def _end(self, name: str) -> None:
        self._go_on(name)
        self._open.discard(name)
        self._listener.end(name)

    def _seek(self, name: str, offset: int) -> None:
        self._go_on(name)
        self._listener.seek(name, offset)

    def _go_on(self, name: str) -> None:
        """With a new file, or an open one: there are no two of one name."""
        if name in self._files and name not in self._open:
            raise BackupError(f"the stream has {name} twice: it is damaged")
        self._files.add(name)
        self._open.add(name)

    def _rename(self, name: str, new: str) -> None:
        self._check_complete(name, new)
        if name in self._files and name != new:  # mbstream passes over a file that is not there
            self._files.discard(name)
            self._files.add(new)
            kept = self._kept.pop(name, None)
            self._kept.pop(new, None)
            if kept is not None:
                self._kept[new] = kept
            self._listener.rename(name, new)

    def _remove(self, name: str) -> None:
        self._check_complete(name)
        if name in self._files:
            self._files.discard(name)
            self._kept.pop(name, None)
            self._listener.remove(name)

    def _check_complete(self, *names: str) -> None:
        """mbstream renames and removes no file that is open, and ends with status 0."""
        if under_way := self._open.intersection(names):
            raise BackupError(f"the stream renames or removes {min(under_way)} before its end: it is damaged")


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
