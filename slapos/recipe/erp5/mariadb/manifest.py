# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of the good backups in a folder, its `manifest.json`: what is not in it does not exist for anybody else."""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path

from slapos.recipe.erp5 import config, process, times
from slapos.recipe.erp5.errors import BackupError, ConfigurationError

FILE = "manifest.json"
FORMAT = 1

LOGICAL = "logical"
FULL = "physical-full"
INCREMENTAL = "physical-incremental"

# nginx.conf.in serves by the same pattern: a test compares the two.
NAME_PATTERN = r"[0-9]{8}T[0-9]{6}Z(-[0-9]{1,3})?\.[a-z]{1,12}\.zst"
_NAME = re.compile(NAME_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Physical:
    """What a physical backup says besides: it has all that InnoDB wrote between two log sequence numbers.

    `base` is the name of the backup that an incremental continues (empty for a full one), `plain_size` the bytes of
    the stream once it is unpacked, `tablespaces` how many tables and partitions of InnoDB it holds, `database` tells
    one data directory from another, whatever is in it.
    """

    base: str
    from_lsn: int
    to_lsn: int
    plain_size: int
    tablespaces: int
    database: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """One good backup: a file of `size` bytes beside the manifest.

    `name` is a plain file name such as 20261122T223000Z.sql.zst, `kind` is LOGICAL, FULL or INCREMENTAL, `sha256` is of
    the file as it lies there (compressed, 64 hexadecimal digits), `gtid` is the GTID position that the backup stands
    for (empty on a server that never wrote), `start` and `end` are moments in UTC (times.text), `server_version` is the
    server's own; `physical` is there for the physical kinds alone.
    """

    name: str
    kind: str
    size: int
    sha256: str
    gtid: str
    start: str
    end: str
    server_version: str
    physical: Physical | None = None


@dataclasses.dataclass(frozen=True)
class _Document:
    format: int
    backups: tuple[Entry, ...]


def is_name(name: str) -> bool:
    """Whether `name` is one that a backup may have: never a path, a hidden file or anything with an odd character."""
    return _NAME.fullmatch(name) is not None


def load(folder: str | Path) -> tuple[Entry, ...]:
    """The backups that the manifest in `folder` lists, in the order of their start; empty when there is none yet.

    Raises BackupError when the manifest cannot be read, or says something that we would not have written.
    """
    path = Path(folder, FILE)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    return parse(content, str(path))


def parse(content: str, where: str) -> tuple[Entry, ...]:
    """The backups of a manifest's text; `where` names it in the BackupError of one that cannot be used."""
    try:
        document = config.build(_Document, json.loads(content), where)
        if document.format != FORMAT:
            raise ValueError(f"its format is {document.format}, and this program knows {FORMAT}")
        _check(document.backups)
    except (ValueError, ConfigurationError) as error:
        raise _unusable(where, str(error)) from error
    return in_order(document.backups)


def save(folder: str | Path, entries: Iterable[Entry]) -> None:
    """Replace the manifest in `folder`, whole or not at all. Raises BackupError for what load() would refuse."""
    backups = in_order(entries)
    try:
        _check(backups)
    except ValueError as error:
        raise _unusable(Path(folder, FILE), str(error)) from error
    process.write_atomically(Path(folder, FILE), text(backups))


def text(entries: Iterable[Entry]) -> str:
    """The manifest's text: a JSON object whose keys are field names with `-` for `_`; no key has null for a value."""
    plain = [config.dashed(dataclasses.asdict(entry)) for entry in entries]
    backups = [{key: value for key, value in entry.items() if value is not None} for entry in plain]
    return json.dumps({"format": FORMAT, "backups": backups}, indent=2, ensure_ascii=False) + "\n"


def newest(entries: Iterable[Entry]) -> Entry | None:
    """The backup that stands for the latest moment, or None."""
    return max(entries, key=_order, default=None)


def _order(entry: Entry) -> tuple[str, str]:
    return entry.start, entry.name


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The backups in the order of their start."""
    return tuple(sorted(entries, key=_order))


def _check(entries: tuple[Entry, ...]) -> None:
    """Raise ValueError for the first entry that is not as Entry promises."""
    names: set[str] = set()
    for entry in entries:
        if not is_name(entry.name):
            raise ValueError(f"{entry.name!r} is no name of a backup")
        if entry.name in names:
            raise ValueError(f"{entry.name} is listed more than once")
        names.add(entry.name)
        if entry.size < 0:
            raise ValueError(f"the size of {entry.name} is {entry.size}")
        if not _SHA256.fullmatch(entry.sha256):
            raise ValueError(f"the sha256 of {entry.name} is {entry.sha256!r}")
        for moment in (entry.start, entry.end):
            times.parse(moment)
        _check_kind(entry)


def _check_kind(entry: Entry) -> None:
    if (entry.kind in (FULL, INCREMENTAL)) != (entry.physical is not None):
        raise ValueError(f"{entry.name} is of the kind {entry.kind!r}, which does not go with the rest of it")
    if entry.physical is None:
        return
    if (entry.kind == INCREMENTAL) != is_name(entry.physical.base):
        raise ValueError(f"the base of {entry.name} is {entry.physical.base!r}")
    for key in ("from_lsn", "to_lsn", "plain_size", "tablespaces"):
        if getattr(entry.physical, key) < 0:
            raise ValueError(f"the {key.replace('_', '-')} of {entry.name} is {getattr(entry.physical, key)}")


def _unusable(where: str | Path, reason: str) -> BackupError:
    return BackupError(f"{where} cannot be used as a list of backups: {reason}: move it away (the backups stay)")
