# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a data directory of a live copy (live.py) while another server sends it, with no file in between."""

import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, Busy
from slapos.recipe.erp5.mariadb import new_database, physical, physical_restore, space
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.live import FORMAT, LARGEST, LENGTH, STILL_HERE
from slapos.recipe.erp5.mariadb.xbstream import Contents, Inspector
from slapos.recipe.erp5.words import bracketed, size_text

NAME = "live"
"""The end of a live copy's URL, below the token."""
TIMEOUT = 60.0
"""Seconds without a word after which a sender counts as dead; it says something every live.HEARTBEAT."""
PIECE = 1 << 18
"""Bytes that are read before they are written: few enough to be in the processor's cache still."""
_LONGEST_ANSWER = 1 << 16


class Stream(Protocol):
    """Anything that can be read from, such as an HTTP response."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


@dataclass(frozen=True)
class Received:
    """What the data directory holds: its GTID position, its server's version, how many tablespaces."""

    gtid: str
    server_version: str
    tablespaces: int


# ---- asking for it


def open_live(url: str, context: ssl.SSLContext | None) -> http.client.HTTPResponse:
    """Ask for a live copy of the server whose backups are offered at `url` (https, or http without `context`).

    Raises Busy when it is making another backup, and BackupError when there is no copy to be had.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    where = f"{bracketed(host)}:{port}"  # the path is a secret
    connection = (
        http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
        if context
        else http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    )
    try:
        connection.request("POST", f"{parts.path.rstrip('/')}/{NAME}", headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            with response:
                raise _refusal(where, response.status, response.read(_LONGEST_ANSWER))
        return response
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise BackupError(f"cannot ask {where} for a live copy: {process.reason(error)}") from error


def _refusal(where: str, status: int, body: bytes) -> BackupError | Busy:
    sentence = _sentence(body) or f"it answers with status {status}"
    if status == http.client.SERVICE_UNAVAILABLE:
        return Busy(f"{where} gives no live copy now: {sentence}")
    return BackupError(f"{where} gives no live copy: {sentence}")


def _sentence(body: bytes) -> str:
    """The sentence of an answer: of our own JSON, or a single line of plain text; empty for anything else."""
    text = body.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        return text if "\n" not in text and not text.startswith("<") else ""
    return str(answer["error"]) if isinstance(answer, dict) and "error" in answer else ""


# ---- taking it


def receive(config: Config, stream: Stream, directory: Path, progress: Callable[[int, int], None]) -> Received:
    """Make the new data directory `directory` of the live copy in `stream`, prepared and on the disk.

    `progress` is called with the bytes that have come and those that are expected, roughly. Nothing stays when it
    fails. Raises BackupError for a copy that is not whole, too large, or cannot be used here, CommandError when a
    program of MariaDB's fails, and OSError (`directory` exists already, the disk is full).
    """
    frames = _Frames(stream)
    head = _head(frames)
    new_database.check_version(config, "the live copy", head.server_version)
    limit = _check_space(head, directory.parent, new_database.reserve(config))
    with physical_restore.new_directory(directory):
        feed = _Feed(frames, head, limit, progress)
        contents = physical_restore.unpack(f"the live copy of {head.instance}", directory, limit, feed)
        physical_restore.prepare(config, directory)
        physical_restore.complete(contents, directory)
    return Received(physical.gtid(contents), head.server_version, len(contents.tablespaces()))


@dataclass(frozen=True)
class _Head:
    """What a sender says first."""

    server_version: str
    tables_size: int
    instance: str


def _head(frames: "_Frames") -> _Head:
    values = _json(frames.read())
    if values.get("format") != FORMAT:
        raise BackupError(
            f"the live copy has format {values.get('format')!r}, expected {FORMAT}: use the primary's release here"
        )
    try:
        return _Head(str(values["server-version"]), int(values["tables-size"]), str(values["instance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"the live copy does not say what it is: {error!r}: is this our sender?") from error


def _json(content: bytes) -> dict:
    try:
        values = json.loads(content)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise BackupError("what comes is no live copy: is this our sender?")
    return values


def _check_space(head: _Head, folder: Path, reserve: int) -> int:
    """How many bytes may come. Raises BackupError when the tables alone are more."""
    free = space.free(folder)
    limit = free - reserve
    if limit < head.tables_size:
        raise BackupError(
            f"{size_text(free)} are free in {folder}, the tables of {head.instance} take "
            f"{size_text(head.tables_size)}, and a database takes {size_text(reserve)} besides: "
            "free disk space"
        )
    return limit


class _Feed:
    """Gives the stream in `frames` to an inspector, and checks the sender's last word.

    A class, as the inspector is given later.
    """

    def __init__(self, frames: "_Frames", head: _Head, limit: int, progress: Callable[[int, int], None]) -> None:
        self.frames, self.head, self.limit, self.progress = frames, head, limit, progress

    def __call__(self, inspector: Inspector) -> Contents:
        size = 0
        for piece in self.frames.pieces():
            size += len(piece)
            self._check_size(size)
            inspector.feed(piece)
            self.progress(size, self.head.tables_size)
        trailer = _json(self.frames.read())
        if trailer.get("ok") is not True:
            raise BackupError(f"{self.head.instance} could not make the copy: {trailer.get('error')}")
        contents = inspector.finish()
        _check_trailer(trailer, {"gtid": physical.gtid(contents), "bytes": size, "tablespaces": _count(contents)})
        return contents

    def _check_size(self, size: int) -> None:
        """What a sender says of its tables' size is no promise."""
        if size > self.limit:
            raise BackupError(
                f"the live copy of {self.head.instance} has more than the {size_text(self.limit)} that its "
                f"database may take here, its sender spoke of {size_text(self.head.tables_size)}: free disk space"
            )


def _count(contents: Contents) -> int:
    return len(contents.tablespaces())


def _check_trailer(trailer: dict, observed: dict[str, object]) -> None:
    for name, value in observed.items():
        if trailer.get(name) != value:
            raise BackupError(f"{name} of the live copy is {value}, its sender says {trailer.get(name)}: try again")


class _Frames:
    """Reads frames."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._buffer, self._size = stream, memoryview(bytearray(PIECE)), 0

    def read(self) -> bytes:
        """The next frame's bytes, none at a frame of length 0. Raises BackupError when there is no such frame."""
        return b"".join(map(bytes, self._parts(self._length())))

    def pieces(self) -> Iterator[memoryview]:
        """What is in the frames before one of length 0; each piece is valid until the next. Raises BackupError."""
        while length := self._length():
            yield from self._parts(length)

    def _length(self) -> int:
        while (length := LENGTH.unpack(self._exactly(LENGTH.size))[0]) == STILL_HERE:
            pass
        if length > LARGEST:
            raise BackupError(
                f"what comes has a frame of {length} bytes, expected at most {LARGEST}: is it our sender?"
            )
        return length

    def _parts(self, size: int) -> Iterator[memoryview]:
        while size:
            part = self._exactly(min(size, PIECE))
            yield part
            size -= len(part)

    def _exactly(self, size: int) -> memoryview:
        wanted = rest = self._buffer[:size]
        while rest:
            taken = self._some(rest)
            if not taken:
                raise BackupError(f"the live copy ends after {size_text(self._size)}, before its end: try again")
            self._size += taken
            rest = rest[taken:]
        return wanted

    def _some(self, buffer: memoryview) -> int:
        try:
            return self._stream.readinto(buffer) or 0
        except TimeoutError as error:
            raise BackupError(f"the sender has said nothing for {TIMEOUT:g} s: is it still there?") from error
        except (OSError, http.client.HTTPException) as error:
            received = size_text(self._size)
            raise BackupError(
                f"the connection broke after {received} of the live copy: {process.reason(error)}: try again"
            ) from error
