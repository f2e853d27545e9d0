# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads which transactions a replica's relay logs hold, and copies some of them into a file that mariadb-binlog reads.

Format: https://mariadb.com/kb/en/2-binlog-event-header/ and https://mariadb.com/kb/en/gtid_event/.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb.gtid import Gtid

MAGIC = b"\xfebin"
_HEADER = struct.Struct("<IBIIIH")
"""Timestamp, type, server id, length with this header, end position, flags."""
_QUERY, _FORMAT, _XID, _XA_PREPARE, _GTID = 2, 15, 16, 38, 162
_STANDALONE = 1
"""Flag of a GTID event: its transaction is one statement (DDL), and no COMMIT follows."""
_END = 64
"""Bytes at a statement's end that are looked at for its last word."""


@dataclass(frozen=True)
class Group:
    """One whole transaction: bytes `begin` to `end` of the file `path`."""

    gtid: Gtid
    path: Path
    begin: int
    end: int


@dataclass(frozen=True)
class _Event:
    kind: int
    server: int
    begin: int
    end: int


def groups(paths: Iterable[Path]) -> Iterator[Group]:
    """The transactions in these relay logs that were received whole, in order.

    What breaks off, because the primary or we were killed, was not received: its end may not be the primary's.
    Raises ServerError for a file that is no relay log, OSError.
    """
    open_group: tuple[Gtid, bool, int] | None = None
    for path in paths:
        open_group = None  # a transaction never continues in the next file
        with path.open("rb") as file:
            for event in _events(path, file):
                if event.kind == _GTID:
                    sequence, domain, flags = struct.unpack("<QIB", file.read(13))
                    open_group = Gtid(domain, event.server, sequence), bool(flags & _STANDALONE), event.begin
                elif open_group and _ends(file, event, open_group[1]):
                    yield Group(open_group[0], path, open_group[2], event.end)
                    open_group = None


def _ends(file: BinaryIO, event: _Event, standalone: bool) -> bool:
    """Whether a transaction ends with `event`."""
    if event.kind in (_XID, _XA_PREPARE):
        return True
    if event.kind not in (_QUERY, 165):  # 165: compressed, which COMMIT never is
        return False
    if standalone:
        return True
    file.seek(max(event.begin + _HEADER.size, event.end - _END))
    words = file.read(event.end - file.tell())
    return any(words.endswith(word) or words[:-4].endswith(word) for word in (b"COMMIT", b"ROLLBACK"))  # a checksum


def _events(path: Path, file: BinaryIO) -> Iterator[_Event]:
    """The whole events of a file, which stands behind an event's header each time; a cut one at its end is left out."""
    size = path.stat().st_size
    if file.read(len(MAGIC)) != MAGIC:
        raise ServerError(f"{path} is no relay log (it does not begin as one): look at it, and move it away")
    position = len(MAGIC)
    while position + _HEADER.size <= size:
        file.seek(position)
        _, kind, server, length, _, _ = _HEADER.unpack(file.read(_HEADER.size))
        if length < _HEADER.size or position + length > size:
            return
        yield _Event(kind, server, position, position + length)
        position += length


def copy(wanted: Iterable[Group], target: BinaryIO) -> None:
    """Write a file that holds exactly these transactions, in their order. Raises ServerError, OSError."""
    target.write(MAGIC)
    formats: dict[Path, list[_Event]] = {}
    for group in wanted:
        with group.path.open("rb") as file:
            if group.path not in formats:
                formats[group.path] = [one for one in _events(group.path, file) if one.kind == _FORMAT]
                for event in formats[group.path]:
                    _copy(file, event.begin, event.end, target)
            _copy(file, group.begin, group.end, target)


def _copy(file: BinaryIO, begin: int, end: int, target: BinaryIO) -> None:
    file.seek(begin)
    while begin < end:
        data = file.read(min(1 << 20, end - begin))
        if not data:
            raise ServerError(f"{file.name} became shorter while it was read: try again")
        target.write(data)
        begin += len(data)
