# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a database of a dump that streams by once, of ours or of anybody's: loaded beside, kept when it was good."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import dump_file, dump_load, dump_stream, new_database, space
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.dump_file import Counted, Facts, Readable
from slapos.recipe.erp5.mariadb.manifest import Entry
from slapos.recipe.erp5.mariadb.progress import Progress
from slapos.recipe.erp5.words import size_text


@dataclass(frozen=True)
class Dump:
    """A dump that is about to pass: what its list says of it, or None; `size` is None when that is not known."""

    name: str
    size: int | None
    entry: Entry | None
    stream: Readable


def restore(config: Config, dump: Dump, directory: Path, progress: Progress) -> Facts:
    """Make the new data directory `directory`, without this partition's administrator; returns what the dump says.

    Nothing stays when it fails. Raises BackupError for a dump that is not whole, not what its list says, too large,
    from a newer server, or without a GTID position; CommandError, ServerError, and what its stream raises.
    """
    reserve = new_database.reserve(config)
    limit = space.free(directory.parent) - reserve
    if limit < (dump.size or 0):
        raise BackupError(
            f"{size_text(limit + reserve)} are free in {directory.parent}, {dump.name} has"
            f" {size_text(dump.size or 0)} compressed, and a database takes"
            f" {size_text(reserve)} besides: free disk space"
        )
    try:
        progress.begin(f"initialise {directory}")
        with process.step(f"initialise {directory}"):
            new_database.initialise(config, directory)
        progress.begin(f"load {dump.name}", dump.size or 0, "loaded")
        with process.step(f"load {dump.name}"):
            return new_database.load(config, directory, _Loading(config, dump, limit, progress, _Accounts()))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


@dataclass(frozen=True)
class _Loading:
    """Feeds the dump to the client, and judges it by what has passed."""

    config: Config
    dump: Dump
    limit: int
    progress: Progress
    accounts: "_Accounts"

    def __call__(self, socket: Path) -> Facts:
        counted = Counted(self.dump.stream)
        text = dump_load.execute(self.config, self._pieces(counted), self.dump.name, socket, lambda _: None)
        name, entry = self.dump.name, self.dump.entry
        if entry and (counted.size, counted.hash.hexdigest()) != (entry.size, entry.sha256):
            raise BackupError(f"{name} is not what its list says, by its size or sha256: make another backup")
        if not dump_file.is_complete(text.tail):
            raise BackupError(f"{name} ends without the line `-- Dump completed`: it is cut short; make another one")
        return self._facts(text)

    def _pieces(self, counted: Counted) -> Iterator[bytes]:
        begin = b""
        for piece in dump_stream.pieces(counted, self.dump.name, self.limit):
            if len(begin) < dump_file.HEAD:
                begin += piece[: dump_file.HEAD - len(begin)]
                new_database.check_version(self.config, self.dump.name, dump_file.server_version(begin))
            self.accounts.feed(piece)
            self.progress(counted.size)
            yield piece

    def _facts(self, text: dump_file.Text) -> Facts:
        """What the dump says; its position has to be the one that its list says."""
        name, entry = self.dump.name, self.dump.entry
        gtid = dump_file.position(text.head, text.tail)
        if not gtid:
            raise BackupError(
                f"{name} has no GTID position (a line SET GLOBAL gtid_slave_pos), without which a replica does not know"
                " where to begin: make it with mariadb-dump --gtid --master-data=1"
            )
        if entry and entry.gtid != gtid:
            raise BackupError(f"{name} has the GTID position {gtid}, its list says {entry.gtid}: make another backup")
        if not self.accounts.found:
            process.log(
                f"warning: {name} has no accounts: the replica will lack those that the primary has now; a dump made"
                " with mariadb-dump --all-databases has them"
            )
        return Facts(gtid, dump_file.server_version(text.head))


class _Accounts:
    """Whether a text that passes by has the table of accounts; `user` it was called before 10.4."""

    _TABLES = (b"DROP TABLE IF EXISTS `global_priv`;", b"DROP TABLE IF EXISTS `user`;")

    def __init__(self) -> None:
        self.found, self._end = False, b""

    def feed(self, piece: bytes) -> None:
        if not self.found:
            text, longest = self._end + piece, max(map(len, self._TABLES))
            self.found, self._end = any(table in text for table in self._TABLES), text[-longest:]
