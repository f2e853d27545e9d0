# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers how a partition replicates right now: its own server, its primary, its replicas. It judges nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.mariadb import (
    bootstrap_note,
    progress,
    relay,
    replica,
    replication_memory,
    role_state,
    space,
    sql,
    sql_replication,
    sql_semi_sync,
    status,
)
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import Config, SemiSync
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.replication_memory import Lag, Replicas, Seen
from slapos.recipe.erp5.mariadb.role_state import RoleState
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.mariadb.sql_replication import Facts, Source

TIMEOUT = status.TIMEOUT


@dataclass(frozen=True)
class Wanted:
    """What the parameters ask of a replica; `threshold` in seconds, -1 for none."""

    host: str
    port: int
    user: str
    address: str
    tls: bool
    threshold: int


@dataclass(frozen=True)
class Own:
    """Our own server, asked on its socket; `connected` are the server ids of the replicas that are there.

    `requirements` has what each of the replication user's accounts requires (sql_replication.requirements).
    """

    facts: Facts
    sources: tuple[Source, ...]
    connected: frozenset[int]
    requirements: tuple[tuple[Account, str], ...] = ()
    semi_sync: sql_semi_sync.State | None = None


@dataclass(frozen=True)
class Upstream:
    """What the primary said when it was asked as a replica asks: `facts`, or `error`; `refused`: it refuses us."""

    facts: Facts | None = None
    error: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Logs:
    """What is kept for replicas: binary logs, backups with their retention in days by parameter, `free` bytes."""

    binary: status.BinaryLogs
    retention: tuple[tuple[str, int], ...]
    free: int


@dataclass(frozen=True)
class ReplicationStatus:
    """`wanted` is what the database is to follow: as a role action has it, or else as is `asked` for by parameters.

    None is for a primary. `role` is what role actions left, `acting` says that one runs. `own` is None, and `error`
    says why, when our server is silent. `begun`: how the database was made, when it was made as a replica; `replicas`:
    all that were seen lately; `replicas_use_tls` and `semi_sync` are the parameters.
    """

    socket: str
    exists: bool
    wanted: Wanted | None
    bootstrap: progress.State | None
    begun: Bootstrap | None
    own: Own | None
    error: str
    upstream: Upstream | None
    lag: Lag
    replicas: tuple[Seen, ...]
    logs: Logs
    replicas_use_tls: bool
    semi_sync: SemiSync
    asked: Wanted | None = None
    role: RoleState = RoleState()
    acting: bool = False


def gather(
    config: Config, now: datetime, ask: "Callable[[Config, Source], Upstream] | None" = None
) -> ReplicationStatus:
    """Look, and remember what the next look may not be able to see; `ask` asks the primary in place of ask_primary().

    Raises ConfigurationError.
    """
    own, error = _own(config)
    # Our own position first: the primary's, asked for later, can only be further.
    upstream = (ask or ask_primary)(config, own.sources[0]) if own and own.sources else None
    lag = _lag(config, own, now)
    if own and own.sources:
        relay.forget_applied(config, own.facts.position)
    return ReplicationStatus(
        socket=str(config.socket),
        exists=config.data_directory.is_dir(),
        wanted=_wanted(replica.effective(config)),
        bootstrap=progress.load(config.bootstrap_state) if config.replication else None,
        begun=bootstrap_note.load(config.data_directory),
        own=own,
        error=error,
        upstream=upstream,
        lag=lag,
        replicas=_replicas(config, own, now),
        logs=_logs(config),
        replicas_use_tls=config.replicas_use_tls,
        semi_sync=config.semi_sync,
        asked=_wanted(config),
        role=role_state.load(config),
        acting=process.is_locked(config.path("var", "run", "action.lock")),
    )


def _wanted(config: Config) -> Wanted | None:
    if config.replication is None:
        return None
    primary = urls.parse(config.replication.primary_url)
    return Wanted(
        host=primary.host,
        port=primary.port,
        user=primary.user,
        address=primary.address,
        tls=config.replication.replicate_with_tls,
        threshold=config.replication.seconds_behind_master_threshold,
    )


def _own(config: Config) -> tuple[Own | None, str]:
    try:
        with sql.connect(config.defaults_file, config.socket, TIMEOUT) as connection:
            return Own(
                sources=sql_replication.sources(connection),
                facts=sql_replication.server_facts(connection),
                connected=sql_replication.replicas_connected(connection),
                requirements=sql_replication.requirements(connection, config.replication_user),
                semi_sync=sql_semi_sync.state(connection),
            ), ""
    except ServerError as error:
        return None, str(error)


def ask_primary(config: Config, source: Source) -> Upstream:
    """Ask the primary that the server really has, as the account with which it replicates."""
    try:
        with connect_primary(config, source) as connection:
            return Upstream(facts=sql_replication.server_facts(connection))
    except Error as error:
        return silent(error)


def silent(error: Error) -> Upstream:
    """What is known of a primary that did not answer but with `error`."""
    return Upstream(error=str(error), refused=isinstance(error, sql.AccessDenied))


def connect_primary(config: Config, source: Source) -> Connection:
    """A connection to the primary that the server really has. Raises AccessDenied, Error."""
    refusal: Error = Error("its password is not known here")
    for password in _passwords(config):
        primary = Primary(source.host, source.port, source.user, password)
        try:
            return sql_replication.connect_primary(primary, replica.upstream(config, source.tls), TIMEOUT)
        except sql.AccessDenied as error:
            refusal = error
    raise refusal


def _passwords(config: Config) -> tuple[str, ...]:
    """The replication passwords known here, the likelier one first: rotations change what is kept, no parameter."""
    wanted = replica.wanted(config)
    return tuple(dict.fromkeys((config.secrets.replication_password, *((wanted.password,) if wanted else ()))))


def _lag(config: Config, own: Own | None, now: datetime) -> Lag:
    before = replication_memory.load(config.replication_memory, Lag)
    if own is None or not own.sources:
        return before
    after = replication_memory.with_lag(before, known_lag(own.sources[0]), now)
    if after != before:
        replication_memory.save(config.replication_memory, after)
    return after


def known_lag(source: Source) -> int | None:
    """Seconds behind the primary, when both threads run: MariaDB tells a number as well when the IO thread is lost."""
    return source.lag if (source.io.running, source.sql.running) == ("Yes", "Yes") else None


def _replicas(config: Config, own: Own | None, now: datetime) -> tuple[Seen, ...]:
    before = replication_memory.load(config.replicas_memory, Replicas)
    if own is None:
        return before.replicas
    keep = timedelta(days=config.binlog_expire_days)
    after = replication_memory.with_connected(before, own.connected, now, keep)
    if after != before:
        replication_memory.save(config.replicas_memory, after)
    return after.replicas


def _logs(config: Config) -> Logs:
    schedules = (("backup.logical", config.backup.logical), ("backup.physical", config.backup.physical))
    folder = config.data_directory if config.data_directory.is_dir() else config.path("srv")
    return Logs(
        binary=status.binary_logs(config),
        retention=tuple(
            (f"{name}.retention-days", schedule.retention_days) for name, schedule in schedules if schedule.enable
        ),
        free=space.free(folder),
    )
