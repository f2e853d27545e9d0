# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of a storage's backups: chains of a full backup and what was added to it, each a repository of repozo.

A chain is a folder with a number for a name. What repozo's record in it (`.dat`) does not list does not exist: a full
backup comes with its folder by one rename, an addition when the record is replaced. So whatever killed a backup, all
earlier ones are as they were.
"""

import contextlib
import gzip
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError, ConfigurationError

FULL, DELTA, RECORD, INDEX = ".fsz", ".deltafsz", ".dat", ".index"
"""What repozo's files have behind their moment: data, compressed; its record of them; ZODB's index of the last."""
_NAME = re.compile(r"\d{4}(-\d\d){5}\.(?:delta)?fsz")
_MOMENT = "%Y-%m-%d-%H-%M-%S"
_CHAIN = re.compile(r"\d{4,9}")
_LINE = re.compile(r"(\S.*) (\d+) (\d+) ([0-9a-f]{32})")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A backup's file: the database's bytes from `begin` to `end`, of this md5, compressed."""

    path: Path
    begin: int
    end: int
    md5: str

    @property
    def at(self) -> datetime:
        """When it was begun; whoever is given the pieces up to this one has the database of that moment."""
        return moment(self.path)

    @property
    def record(self) -> str:
        """Its line in repozo's record; without a folder, which does not matter to repozo."""
        return f"{self.path.name} {self.begin} {self.end} {self.md5}\n"


@dataclass(frozen=True)
class Chain:
    """A full backup and what was added to it, in their order."""

    folder: Path
    pieces: tuple[Piece, ...]

    @property
    def record(self) -> Path:
        return self.pieces[0].path.with_suffix(RECORD)

    @property
    def index(self) -> Path:
        """ZODB's index of the database as the last piece has it; it may be missing."""
        return self.pieces[-1].path.with_suffix(INDEX)

    @property
    def end(self) -> int:
        """Bytes of the database that it has."""
        return self.pieces[-1].end


@dataclass(frozen=True)
class Last:
    """The last backup that was good, also one that found nothing to add: it was begun at `at` (times.text)."""

    at: str


def moment(path: Path) -> datetime:
    """The moment in the name of one of repozo's files."""
    return datetime.strptime(path.name.split(".")[0], _MOMENT).replace(tzinfo=UTC)


# ---- gather


def chains(folder: Path) -> tuple[Chain, ...]:
    """All that the folder of a storage has, the oldest first. Raises BackupError for a record that cannot be used."""
    found = [path for path in folder.iterdir() if _CHAIN.fullmatch(path.name)] if folder.is_dir() else []
    return tuple(chain(path) for path in sorted(found, key=lambda path: int(path.name)))


def chain(folder: Path) -> Chain:
    """The chain in a folder, by its record. Raises BackupError."""
    try:
        (record,) = folder.glob(f"*{RECORD}")
        pieces = parse(folder, record.read_text())
    except (OSError, ValueError) as error:
        raise BackupError(
            f"{folder} has no record of repozo's ({RECORD}) that can be used ({process.reason(error)}), expected one:"
            " move that folder away; the next backup is a full one"
        ) from error
    return Chain(folder, pieces)


def parse(folder: Path, text: str) -> tuple[Piece, ...]:
    """The pieces that a record lists, of which each continues the one before. Raises ValueError."""
    pieces: list[Piece] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        name = Path(match[1]).name if match else ""
        if not match or not _NAME.fullmatch(name):
            raise ValueError(f"line {len(pieces) + 1} is none of repozo's")
        piece = Piece(folder / name, int(match[2]), int(match[3]), match[4])
        if piece.begin != (pieces[-1].end if pieces else 0) or piece.end < piece.begin:
            raise ValueError(f"{name} does not continue what is before it")
        if pieces and piece.at <= pieces[-1].at:
            raise ValueError(f"{name} is not later than what is before it")
        if (piece.path.suffix == DELTA) != bool(pieces):
            raise ValueError(f"{name} is in the wrong place")
        pieces.append(piece)
    if not pieces:
        raise ValueError("it is empty")
    return tuple(pieces)


def last(folder: Path) -> Last | None:
    """What `note` wrote there, None for nothing."""
    try:
        return shapes.load(folder / "last.json", Last)
    except ConfigurationError:
        return None


def damage(found: Chain) -> str:
    """Why a chain cannot be restored, by a quick look; empty when nothing is seen. What it holds was read once."""
    for piece in found.pieces:
        try:
            with open(piece.path, "rb") as file:
                file.seek(-4, os.SEEK_END)
                size = int.from_bytes(file.read(4), "little")
        except OSError as error:
            return f"{piece.path} cannot be read ({process.reason(error)})"
        # gzip's trailer: bytes before compression, modulo 2^32.
        if size != (piece.end - piece.begin) % (1 << 32):
            return f"{piece.path} is not as it was written"
    return ""


def verify(piece: Piece) -> None:
    """Read a file to its end. Raises BackupError unless it holds what the record says."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with gzip.open(piece.path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except (OSError, EOFError) as error:
        raise BackupError(f"{piece.path} cannot be read: {process.reason(error)}") from error
    if (size, digest.hexdigest()) != (piece.end - piece.begin, piece.md5):
        raise BackupError(f"{piece.path} does not hold what was written into it: look after the disk")


def bytes_of(found: Iterable[Chain]) -> int:
    """Bytes that chains take on the disk."""
    return sum(path.stat().st_size for chain in found for path in chain.folder.iterdir() if path.is_file())


# ---- decide


def expired(found: tuple[Chain, ...], now: datetime, days: int) -> tuple[Chain, ...]:
    """The chains of which every backup was begun more than `days` days before `now`, never the newest chain."""
    limit = now - timedelta(days=days)
    return tuple(chain for chain in found[:-1] if chain.pieces[-1].at < limit)


def is_full_due(newest: Chain | None, now: datetime, days: int) -> bool:
    """Whether the next backup has to begin a chain, so that old ones can go: without one, or one that is `days` old.

    A clock that has been ahead is a reason, too: restoring goes by the names, which are moments.
    """
    if newest is None or newest.pieces[-1].at > now + timedelta(minutes=1):
        return True
    return newest.pieces[0].at <= now - timedelta(days=days)


def until(found: tuple[Chain, ...], at: datetime | None) -> Chain:
    """The newest backup, or the newest that was begun at `at` or before: a chain, cut there. Raises BackupError."""
    for chain in reversed(found):
        pieces = tuple(piece for piece in chain.pieces if at is None or piece.at <= at)
        if pieces:
            return Chain(chain.folder, pieces)
    oldest = f", expected one: the oldest is of {times.text(found[0].pieces[0].at)}" if found else ""
    raise BackupError(f"there is no backup{f' of {times.text(at)} or before' if at and found else ''}{oldest}")


# ---- act


def partial(folder: Path) -> Path:
    """Where a backup grows: beside the folder of the good ones, on the same filesystem."""
    return folder.with_name(f"{folder.name}.partial")


def _going(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.expired")


def settle(folder: Path) -> tuple[Chain, ...]:
    """Remove what killed runs have left, and return what there is. Raises BackupError, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    discard(folder)
    shutil.rmtree(_going(folder), ignore_errors=True)
    found = chains(folder)
    for one in found:
        keep = {*(piece.path for piece in one.pieces), one.record, one.index}
        for path in set(one.folder.iterdir()) - keep:
            # An addition that was not recorded, the index of an earlier one, a record that did not come to be.
            if path.suffix in (FULL, DELTA, INDEX) or path.name.startswith(f".{one.record.name}."):
                path.unlink()
    return found


def discard(folder: Path) -> None:
    """Remove the growing backup, if there is one."""
    shutil.rmtree(partial(folder), ignore_errors=True)


def begin(folder: Path, continued: Chain | None) -> Path:
    """A repository in which repozo continues a chain, or begins one; of the earlier files it has links."""
    growing = partial(folder)
    growing.mkdir(mode=0o700)
    if continued:
        imitate(continued, growing)
    return growing


def imitate(found: Chain, folder: Path) -> None:
    """Make an empty folder a repository of exactly these pieces, by links."""
    for piece in found.pieces:
        (folder / piece.path.name).symlink_to(piece.path)
    if found.index.exists():
        (folder / found.index.name).symlink_to(found.index)
    (folder / found.record.name).write_text("".join(piece.record for piece in found.pieces))


def grown(folder: Path, continued: Chain | None) -> Chain | None:
    """What repozo has made in the growing repository: one new piece, or nothing. Raises BackupError."""
    growing = partial(folder)
    new = [path for path in growing.iterdir() if _NAME.fullmatch(path.name) and not path.is_symlink()]
    if not new:
        return None
    (path,) = new
    earlier = continued.pieces if continued and path.suffix == DELTA else ()
    record = growing / (earlier[0].path if earlier else path).with_suffix(RECORD).name
    try:
        pieces = parse(growing, record.read_text())
    except (OSError, ValueError) as error:
        raise BackupError(f"repozo's record {record} cannot be used: {process.reason(error)}") from error
    if [piece.path.name for piece in pieces] != [*(piece.path.name for piece in earlier), path.name]:
        raise BackupError(f"repozo's record {record} does not list {path.name} alone, which it has made")
    return Chain(growing, pieces)


def add(folder: Path, made: Chain, continued: Chain | None) -> Chain:
    """Take what has grown over, and return the chain that has it; it is on the disk then. Raises OSError."""
    if continued and len(made.pieces) > 1:
        _extend(made, continued)
        new = chain(continued.folder)
    else:
        new = _begin_chain(folder, made)
    discard(folder)
    return new


def _begin_chain(folder: Path, made: Chain) -> Chain:
    """By one rename. The growing repository may have links to the chain before."""
    whole = made.folder / "whole"
    whole.mkdir(mode=0o700)
    for path in (made.pieces[0].path, made.index):
        with contextlib.suppress(FileNotFoundError):
            path.rename(whole / path.name)
    (whole / made.record.name).write_text(made.pieces[0].record)
    process.sync_filesystem(whole)
    numbers = [int(path.name) for path in folder.iterdir() if _CHAIN.fullmatch(path.name)]
    place = folder / f"{max(numbers, default=0) + 1:04}"
    whole.rename(place)
    process.sync_directory(folder)
    return chain(place)


def _extend(made: Chain, continued: Chain) -> None:
    """The record is replaced when all that it will list is there."""
    for path in (made.pieces[-1].path, made.index):
        with contextlib.suppress(FileNotFoundError):
            path.rename(continued.folder / path.name)
    process.sync_filesystem(continued.folder)
    process.write_atomically(continued.record, "".join(piece.record for piece in made.pieces))


def note(folder: Path, at: datetime) -> None:
    """Write down that a backup which was begun at `at` is good."""
    shapes.save(folder / "last.json", Last(times.text(at)))


def remove(folder: Path, gone: Chain) -> None:
    """Remove a chain; killed meanwhile, what remains of it is no chain any more."""
    going = _going(folder)
    going.mkdir(mode=0o700, exist_ok=True)
    gone.folder.rename(going / gone.folder.name)
    shutil.rmtree(going)
