# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a new replica's data comes from: what the URL `replication.bootstrap-url` says, and a client for it.

The URL holds a secret: no message has more of it than scheme, host, port and a backup's name.
"""

import enum
import http.client
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, ConfigurationError, Unreachable
from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.manifest import Entry
from slapos.recipe.erp5.words import bracketed

PARAMETER = "replication.bootstrap-url"


class Method(enum.StrEnum):
    """A way to make a replica, best first: the name that a URL may have behind its #, and that the database notes."""

    LIVE = "live"
    PHYSICAL = "physical"
    DUMP = "dump"
    LOGS = "logs"

    @property
    def words(self) -> str:
        """What the log, the state file and the promise call it."""
        return {"live": "live physical", "physical": "stored physical", "logs": "binary logs"}.get(self, self.value)


OFFERED = (Method.LIVE, Method.PHYSICAL, Method.DUMP)
"""The ways that a server may offer."""
ANY, NAMED, PLAIN = "any", "named", "plain"
"""What a URL may ask for besides one of them: the best, one name of the list, or a dump made by anybody."""
_PLAIN_NAME = re.compile(r"[^/]+\.sql(\.gz|\.zst)?")
_PRINTABLE = re.compile(r"[!-~]*")

TIMEOUT = 30.0
"""Seconds that a connection, or any wait for bytes, may take."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
"""Seconds before each new attempt to go on with a download that was cut; it ends when none of them brought PROGRESS."""
PROGRESS = 1 << 20
LONGEST_LIST = 1 << 20


@dataclass(frozen=True)
class Source:
    """What a bootstrap URL says: `kind` is ANY, NAMED, PLAIN, or one of OFFERED.

    `path` is the list's folder, which ends in `/`, or all of a plain dump's path; `name` the file's that is named.
    """

    kind: str
    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    name: str = ""

    @property
    def where(self) -> str:
        """For messages, such as https://[::1]:22000."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


class Missing(BackupError):
    """The server answers, and does not have what it was asked for."""


# ---- the URL


def parse_bootstrap_url(url: str) -> Source:
    """The Source of `replication.bootstrap-url`. Raises ConfigurationError, which quotes nothing of it."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        host = parts.hostname or ""
    except ValueError as error:
        raise _refusal("it is no URL") from error
    if not port or not host or not _PRINTABLE.fullmatch(url):
        raise _refusal("it is no http or https URL")
    if parts.username is not None or parts.password is not None:
        raise _refusal("it has a user or password, which is not sent")
    folder, _, name = (parts.path or "/").rpartition("/")
    folder += "/"
    if manifest.is_name(name):
        kind, path = NAMED, folder
    elif _PLAIN_NAME.fullmatch(name):
        kind, path = PLAIN, parts.path + (f"?{parts.query}" if parts.query else "")
    else:
        kind, path = ANY, folder if name in ("", manifest.FILE) else f"{folder}{name}/"
        name = ""
    if parts.query and kind != PLAIN:
        raise _refusal("it has a query, which only a plain dump's may have")
    return Source(_kind(kind, parts.fragment), parts.scheme, host, port, path, name)


def _kind(kind: str, fragment: str) -> str:
    if not fragment or (fragment == Method.DUMP and kind == PLAIN):
        return kind
    if kind != ANY:
        raise _refusal("it names one file, and behind # a kind as well")
    if fragment not in OFFERED:
        raise _refusal("behind its # is none of live, physical, dump")
    return fragment


def _refusal(observed: str) -> ConfigurationError:
    return ConfigurationError(
        f"{PARAMETER}: {observed}, expected the http(s) URL of a list of backups (with #live, #physical or #dump for"
        " one kind), of one backup in it, or of a .sql, .sql.gz or .sql.zst file; give what the primary publishes"
    )


def plain(source: Source) -> Source:
    """A name of no list, as the plain dump that it may be."""
    return Source(PLAIN, source.scheme, source.host, source.port, source.path + source.name, source.name)


# ---- the client


def fetch_manifest(source: Source, context: ssl.SSLContext | None) -> tuple[Entry, ...]:
    """What the list offers. Raises Unreachable, Missing, BackupError."""
    with Download(source, context, manifest.FILE, None) as file:
        content = file.read(LONGEST_LIST + 1)
    if len(content) > LONGEST_LIST:
        raise BackupError(f"the list of backups of {source.where} has more than {LONGEST_LIST} bytes: is it one?")
    return manifest.parse(content.decode("utf-8", "replace"), f"{manifest.FILE} of {source.where}")


def open_file(source: Source, context: ssl.SSLContext | None, name: str, size: int | None) -> "Download":
    """The listed backup `name`, of `size` bytes; or a plain source's file. Raises Unreachable, Missing, BackupError."""
    if source.kind != PLAIN and not manifest.is_name(name):
        raise BackupError(f"{name!r} is no name of a backup")
    return Download(source, context, name, size)


class Download:
    """A file that is read from its beginning to its end; where the connection is cut it goes on by Range.

    `name` is for messages and, but for a plain source, the last part of the path; `size` is None when it is not known.
    """

    def __init__(
        self,
        source: Source,
        context: ssl.SSLContext | None,
        name: str,
        size: int | None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source, self.name, self.done, self._pause = source, name, 0, pause
        self._target = source.path if source.kind == PLAIN else source.path + name
        self._connection = _connection(source, context)
        self._response: http.client.HTTPResponse | None = None
        try:
            self._response = response = self._request({})
            announced = response.length
            if size is not None and announced is not None and announced != size:
                raise BackupError(f"{source.where} has {announced} bytes as {name}, its list says {size}: try again")
            self.size = announced if size is None else size
            self._validators = _validators(response)
            self._mark, self._pauses = 0, iter(PAUSES)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Raises nothing."""
        if self._response:
            self._response.close()
        self._connection.close()

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; empty at the end. Raises Unreachable, and BackupError when it changed."""
        while self.size is None or self.done < self.size:
            try:
                if self._response is None:
                    self._response = self._continue()
                piece = self._response.read(size)
            except (OSError, http.client.HTTPException) as error:
                self._cut(process.reason(error))
                continue
            if piece or self.size is None:
                self.done += len(piece)
                return piece
            self._cut("the connection was closed")
        return b""

    def _cut(self, reason: str) -> None:
        """Wait before the download goes on. Raises Unreachable when that has been tried too often without PROGRESS."""
        self._response = None
        self._connection.close()
        if self.done - self._mark >= PROGRESS:
            self._mark, self._pauses = self.done, iter(PAUSES)
        pause = next(self._pauses, None)
        if pause is None or self.size is None:
            raise Unreachable(
                f"{self.source.where} broke off {self.name} after {self.done} bytes and does not go on with it"
                f" ({reason}): see whether it runs, and the network"
            )
        process.log(
            f"{self.source.where} broke off {self.name} after {self.done} bytes ({reason}): go on in {pause:g} s"
        )
        self._pause(pause)

    def _continue(self) -> http.client.HTTPResponse:
        """The rest of the very file that was begun. Raises BackupError when it is another one by now."""
        end = f"{self.done}-{self.size - 1 if self.size else ''}/{self.size}"
        response = self._request({"Range": f"bytes={self.done}-"}, quiet=True)
        if response.status == 206 and response.headers.get("Content-Range") != f"bytes {end}":
            raise self._changed()
        if _validators(response) != self._validators or (response.status == 200 and response.length != self.size):
            raise self._changed()
        process.log(f"{self.source.where} goes on with {self.name}")
        if response.status == 200:  # it knows nothing of ranges: pass over what we have
            left = self.done
            while left and (piece := response.read(min(left, PROGRESS))):
                left -= len(piece)
            if left:
                raise http.client.IncompleteRead(b"")
        return response

    def _request(self, headers: dict[str, str], quiet: bool = False) -> http.client.HTTPResponse:
        """Ask for the file. Raises Unreachable (with `quiet`, what it was before), Missing, BackupError."""
        try:
            self._connection.request("GET", self._target, headers=headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            if quiet:
                raise
            raise Unreachable(
                f"{self.source.where} does not answer ({process.reason(error)}): see whether it runs, and the network"
            ) from error
        self._check_status(response.status, quiet)
        return response

    def _check_status(self, status: int, again: bool) -> None:
        where = self.source.where
        if status == 200 or (status == 206 and again):
            return
        if status in (404, 410):
            raise Missing(f"{where} has no {self.name}: give {PARAMETER} as the primary publishes it")
        if status == 416 and again:
            raise self._changed()
        if status >= 500 or status == 429:
            if again:
                raise http.client.HTTPException(f"status {status}")
            raise Unreachable(f"{where} cannot serve {self.name} now (status {status}): see its log")
        if 300 <= status < 400:
            raise BackupError(f"{where} redirects {self.name}, which is not followed: give the URL that it leads to")
        raise BackupError(f"{where} refuses {self.name} (status {status}): see its log")

    def _changed(self) -> BackupError:
        return BackupError(f"{self.source.where} has another {self.name} than the one that was begun: begin again")


def _validators(response: http.client.HTTPResponse) -> tuple[str | None, str | None]:
    """What tells one state of a file from another; our own nginx makes both of size and time."""
    return response.headers.get("ETag"), response.headers.get("Last-Modified")


def _connection(source: Source, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    """No proxy is ever asked, whatever the environment says."""
    if source.scheme == "https":
        return http.client.HTTPSConnection(source.host, source.port, timeout=TIMEOUT, context=context)
    return http.client.HTTPConnection(source.host, source.port, timeout=TIMEOUT)
