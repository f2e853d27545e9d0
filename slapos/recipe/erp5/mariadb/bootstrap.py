# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the data directory of a new replica in one of several ways, each checked before and while it is done."""

import contextlib
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError, Busy, CommandError, ServerError, Unreachable
from slapos.recipe.erp5.mariadb import (
    bootstrap_decide,
    bootstrap_dump,
    bootstrap_note,
    new_database,
    physical_restore,
    source,
    upgrade,
)
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.bootstrap_decide import Plan, Way, World
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import Config, Replication
from slapos.recipe.erp5.mariadb.manifest import Entry
from slapos.recipe.erp5.mariadb.physical_restore import Link
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.progress import Progress
from slapos.recipe.erp5.mariadb.source import Method, Source
from slapos.recipe.erp5.mariadb.sql_replication import Facts

_OWN_CAUSES = (BackupError, Busy, CommandError, ServerError)
"""What a way can fail of while another one may work; with a server that does not answer, or a full disk, none does."""


@dataclass(frozen=True)
class Position:
    """Where replication begins, and the version of the server that the data is from."""

    gtid: str
    server_version: str


class Outside(Protocol):
    """What a bootstrap needs of others: bootstrap_outside.py, or what a test puts in its place."""

    def join(self, config: Config, primary: Primary) -> None:
        """Have the certificates of a replication client, when they are needed. Raises Error."""

    def context(self, config: Config, where: Source) -> ssl.SSLContext | None:
        """How to speak TLS with the server of `where`; None for plain HTTP. Raises ConfigurationError."""

    def primary_facts(self, config: Config, primary: Primary) -> Facts:
        """Ask the primary for its version and its position as they are now. Raises ServerError."""

    def can_follow(self, config: Config, primary: Primary, gtid: str) -> str:
        """Empty when the primary can be followed from `gtid`, else MariaDB's own words. Raises ServerError."""

    def receive_live(self, config: Config, where: Source, directory: Path, progress: Progress) -> Position:
        """Make `directory` of a live copy. Raises Error, OSError."""


# ---- one attempt


def make(config: Config, directory: Path, progress: Progress, outside: Outside) -> None:
    """Make the new data directory `directory` of a replica, with the note that `mariadb-create` reads.

    Raises Error and OSError; nothing stays then.
    """
    replication = config.replication
    assert replication
    started = times.text(times.now())
    primary = urls.parse(replication.primary_url)
    world = gather(config, replication, primary, progress, outside)
    plan = bootstrap_decide.plan(world)
    for reason in plan.left_out:
        process.log(f"left out: {reason}")
    if plan.refusal:
        raise BackupError(plan.refusal)
    try:
        way, position = _first_that_works(config, plan, _Work(config, world, primary, directory, progress, outside))
        note = Bootstrap(
            method=way.method.value,
            gtid=position.gtid,
            primary=primary.address,
            user=primary.user,
            tls=replication.replicate_with_tls,
            server_version=position.server_version,
            started=started,
            ended=times.text(times.now()),
        )
        bootstrap_note.save(directory, note)
    except BaseException:
        discard(directory)
        raise
    process.log(f"the data directory is made by {way}, GTID {position.gtid or 'empty'}")


def discard(directory: Path) -> None:
    """Remove whatever an attempt, or a killed run, has left."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(directory.with_name(directory.name + physical_restore.ADDED), ignore_errors=True)


# ---- gather


def gather(config: Config, replication: Replication, primary: Primary, progress: Progress, outside: Outside) -> World:
    """What the primary and the bootstrap URL have. Raises Error."""
    where = source.parse_bootstrap_url(replication.bootstrap_url) if replication.bootstrap_url else None
    with _stage(progress, "have a certificate"):
        outside.join(config, primary)
    with _stage(progress, f"ask {primary.address}"):
        outside.primary_facts(config, primary)
    listed: tuple[Entry, ...] = ()
    no_list = ""
    if where and where.kind not in (source.PLAIN, Method.LIVE):
        with _stage(progress, f"ask {where.where} for its backups"):
            where, listed, no_list = _list(where, outside.context(config, where))
    ways = bootstrap_decide.ways(where, listed)
    with _stage(progress, f"ask {primary.address} where replication can begin"):
        # Asked anew, after the list: a backup may have been made since.
        theirs = outside.primary_facts(config, primary)
        refused = {
            gtid: words
            for gtid in dict.fromkeys(way.gtid for way in ways if way.gtid is not None)
            if (words := outside.can_follow(config, primary, gtid))
        }
    ours = upgrade.server_version(config)
    return World(
        primary=primary.address,
        primary_version=theirs.version,
        our_version=ours,
        source=where,
        ways=ways,
        refused=refused,
        no_list=no_list,
        primary_gtid=theirs.position,
        primary_state=theirs.binlog_state,
        server_id=config.server_id,
    )


def _list(where: Source, context: ssl.SSLContext | None) -> tuple[Source, tuple[Entry, ...], str]:
    """What is asked for, the list, and why there is none: a server that is new has no backup, but can make a live copy.

    A name that is in no list, though as those of ours, may be a plain dump's all the same.
    """
    is_dump = where.kind == source.NAMED and where.name.endswith(".sql.zst")
    try:
        listed = source.fetch_manifest(where, context)
    except source.Missing as error:
        if where.kind == source.ANY:
            return where, (), str(error)
        if is_dump:
            return source.plain(where), (), ""
        raise
    if is_dump and where.name not in {entry.name for entry in listed}:
        return source.plain(where), (), ""
    return where, listed, ""


@contextlib.contextmanager
def _stage(progress: Progress, stage: str) -> Iterator[None]:
    progress.begin(stage)
    with process.step(stage):
        yield


# ---- act


def _first_that_works(config: Config, plan: Plan, work: "_Work") -> tuple[Way, Position]:
    """Try the ways in their order. Raises Error, of all of them in one sentence, and OSError."""
    failures = list(plan.left_out)
    for number, way in enumerate(plan.ways):
        process.log(f"step: make the replica by {way}")
        work.progress.method(way.method.words)
        try:
            return way, work.by(way)
        except _OWN_CAUSES as error:
            discard(work.directory)
            failures.append(f"{way}: {error}" if len(plan.ways) > 1 or failures else str(error))
            if number + 1 < len(plan.ways):
                process.log(f"warning: {way} did not work, {error}: the next way is {plan.ways[number + 1]}")
    raise BackupError("; ".join(failures))


@dataclass(frozen=True)
class _Work:
    """One attempt under way."""

    config: Config
    world: World
    primary: Primary
    directory: Path
    progress: Progress
    outside: Outside

    def by(self, way: Way) -> Position:
        """Make the directory in this way, and check that replication can begin where it ends."""
        methods = {
            Method.LIVE: self._live,
            Method.PHYSICAL: self._physical,
            Method.DUMP: self._dump,
            Method.LOGS: self._logs,
        }
        position = methods[way.method](way)
        if way.method in (Method.LIVE, Method.DUMP):  # of the others it was asked before
            self._check_followed(way, position.gtid)
        return position

    def _check_followed(self, way: Way, gtid: str) -> None:
        with _stage(self.progress, f"ask {self.primary.address} whether it can be followed from {gtid}"):
            try:
                theirs = self.outside.primary_facts(self.config, self.primary)
                words = self.outside.can_follow(self.config, self.primary, gtid)
            except ServerError as error:
                raise Unreachable(str(error)) from error
        if words:
            raise BackupError(
                f"{self.primary.address} cannot be followed from {way}, whose GTID position is {gtid} ({words}): give a"
                f" newer one as {source.PARAMETER}"
            )
        if ahead := bootstrap_decide.ahead(way, gtid, self.primary.address, theirs.position):
            raise BackupError(f"{ahead}: give another one as {source.PARAMETER}")
        server_id = self.config.server_id
        if skipped := bootstrap_decide.skipped(way, gtid, self.primary.address, theirs.binlog_state, server_id):
            raise BackupError(skipped)

    def _logs(self, way: Way) -> Position:
        with _stage(self.progress, f"initialise {self.directory}"):
            new_database.initialise(self.config, self.directory)
        return Position("", self.world.primary_version)

    def _live(self, way: Way) -> Position:
        return self.outside.receive_live(self.config, self._where, self.directory, self.progress)

    def _physical(self, way: Way) -> Position:
        links = tuple(Link(entry, lambda entry=entry: self._open(entry)) for entry in way.entries)  # type: ignore[misc]
        gtid = physical_restore.restore(self.config, links, self.directory)
        return Position(gtid, way.entries[-1].server_version)

    def _dump(self, way: Way) -> Position:
        entry = way.entries[0] if way.entries else None
        name = entry.name if entry else self._where.name
        with source.open_file(self._where, self._context, name, entry.size if entry else None) as file:
            dump = bootstrap_dump.Dump(name, file.size, entry, file)
            facts = bootstrap_dump.restore(self.config, dump, self.directory, self.progress)
        return Position(facts.gtid, facts.server_version)

    @property
    def _where(self) -> Source:
        assert self.world.source
        return self.world.source

    @property
    def _context(self) -> ssl.SSLContext | None:
        return self.outside.context(self.config, self._where)

    @contextlib.contextmanager
    def _open(self, entry: Entry) -> Iterator[IO[bytes]]:
        """A listed file as a stream that tells how far it is; what follows its end is its preparation."""
        self.progress.begin(f"unpack {entry.name}", entry.size, "unpacked")
        with source.open_file(self._where, self._context, entry.name, entry.size) as file:
            yield cast(IO[bytes], _Told(file, self.progress))
        self.progress.begin(f"prepare {entry.name}")


@dataclass(frozen=True)
class _Told:
    """A download that tells how far it is."""

    file: source.Download
    progress: Progress

    def read(self, size: int) -> bytes:
        piece = self.file.read(size)
        self.progress(self.file.done)
        return piece
