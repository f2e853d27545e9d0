# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers what a MariaDB partition looks like right now: its server, its backups, its disk. It judges nothing."""

import contextlib
import re
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from slapos.recipe.erp5 import process, supervisor, times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import chain, decide, manifest, progress, space, sql, sql_identity, store
from slapos.recipe.erp5.mariadb.bootstrap_note import MASTER_INFO
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.decide import SILENT
from slapos.recipe.erp5.mariadb.store import Store
from slapos.recipe.erp5.tls.context import anonymous_context
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.words import bracketed

CLOCK = timedelta(minutes=5)
"""How far ahead a moment may lie without being taken for one of a wrong clock."""
SPARE = 2
"""Seconds to wait for the connection that a full server spares for administrators."""
FULL = "(1040)"
TIMEOUT = 4
"""Seconds that one step of one probe may take; probes run side by side, and a promise is killed after 20 s."""
SERVICE_LOG = re.compile(r"\..+_mariadb-[0-9a-f]{32}(-on-watch)?\.log")
"""What the node calls the log of `etc/service/mariadb-<hash>`, in the partition's own folder."""

BINARY_LOG = "binlog"
"""`log-bin` in mariadb.cnf, without its folder, the data directory."""


# ---- the server


@dataclass(frozen=True)
class Answer:
    """What came back from `address`: `identity`, or `error` (a server's or the system's words).

    `refused`: a MariaDB is there and `error` is its refusal of the account.
    """

    address: str
    identity: sql_identity.Identity | None = None
    error: str = ""
    refused: bool = False


@dataclass(frozen=True)
class ServerStatus:
    """`data_directory` is where `srv/mariadb` really lies, as a server tells it.

    `creating`: `srv/mariadb.new` is there and `srv/mariadb` not yet; `at_work`: somebody holds the service's lock.
    `step` and `error` are the last step and the last error that the service logged, empty when it logged none.
    `replication_user` is who was asked for on the network; `bootstrap` is how far the making of a replica is; `silent`:
    the next start would leave the network off, as the parameters ask for it and the database is a replica.
    `supervised` is None when no supervisor runs; `at` is when it was looked at.
    """

    server_id: int
    data_directory: str
    port: int
    replication_user: str
    exists: bool
    creating: bool
    at_work: bool
    step: str
    error: str
    local: Answer
    network: tuple[Answer, ...]
    bootstrap: progress.State | None = None
    silent: bool = False
    service: supervisor.Service = supervisor.Service(Path(), "mariadb")
    supervised: supervisor.Supervised | None = None
    at: datetime = field(default_factory=times.now)


def server(config: Config) -> ServerStatus:
    """Ask on the socket as the administrator and on each TCP address as the replication account, all at once."""
    hosts = [host for host in (config.network.ipv4, config.network.ipv6) if host]
    with ThreadPoolExecutor(len(hosts) + 1) as pool:
        local = pool.submit(probe, str(config.socket), partial(_ask_socket, config))
        network = [pool.submit(probe, _address(config, host), partial(_ask_tcp, config, host)) for host in hosts]
    return ServerStatus(
        server_id=config.server_id,
        data_directory=str(config.data_directory.resolve()),
        port=config.network.port,
        replication_user=config.replication_user,
        exists=config.data_directory.is_dir(),
        creating=config.path("srv", "mariadb.new").is_dir() and not config.data_directory.is_dir(),
        at_work=process.is_locked(config.path("srv", "mariadb.lock")),
        step=last_line(Path(config.partition), "step: "),
        error=last_line(Path(config.partition), "error: "),
        network=tuple(answer.result() for answer in network),
        bootstrap=progress.load(config.bootstrap_state) if config.replication else None,
        silent=SILENT in decide.server_options(config.replication, is_replica(config)),
        service=config.service,
        supervised=supervisor.status(config.service),
        local=_unless_full(local.result(), partial(probe, str(config.socket), partial(_ask_socket, config))),
    )


def _unless_full(answer: Answer, again: Callable[[], Answer]) -> Answer:
    """`answer`, asked for again for a moment while the one spare connection of a full server is taken.

    The server keeps one above max_connections for administrators, and whoever is about to be refused holds it for a
    moment: our own probe over TCP, which runs beside, or the promise that ran before.
    """
    deadline = time.monotonic() + SPARE
    while FULL in answer.error and time.monotonic() < deadline:
        time.sleep(SPARE / 20)
        answer = again()
    return answer


def probe(address: str, ask: Callable[[], sql_identity.Identity]) -> Answer:
    """Call `ask` and turn its end into an Answer."""
    try:
        return Answer(address, identity=ask())
    except sql.AccessDenied as error:
        return Answer(address, error=str(error), refused=True)
    except ServerError as error:
        return Answer(address, error=str(error))


def _ask_socket(config: Config) -> sql_identity.Identity:
    return sql_identity.identify(TIMEOUT, read_default_file=str(config.defaults_file), unix_socket=str(config.socket))


def _ask_tcp(config: Config, host: str) -> sql_identity.Identity:
    """Ask as a replica does, with a certificate, as the account may require one; where there is no TLS, without.

    Another server on our port knows nothing of our certificates, and its refusal is an answer too.
    """
    context = anonymous_context(Files(config.tls))
    if context is not None:
        with contextlib.suppress(sql_identity.WithoutTls):
            return _ask_as_replica(config, host, context)
    return _ask_as_replica(config, host, None)


def _ask_as_replica(config: Config, host: str, context: ssl.SSLContext | None) -> sql_identity.Identity:
    # A connection that ends before its login leaves a warning in the error log, each time; and where names are
    # resolved it counts towards max_connect_errors, after which the host is blocked (both measured on 10.11.19).
    return sql_identity.identify(
        TIMEOUT,
        host=host,
        port=config.network.port,
        user=config.replication_user,
        password=config.secrets.replication_password,
        ssl=context,
        auth_plugin_map=sql.SAFE_LOGIN,
    )


def is_replica(config: Config) -> bool:
    """Whether the database, whose server need not run, is configured to replicate: exactly then it has this file."""
    return (config.data_directory / MASTER_INFO).exists()


def _address(config: Config, host: str) -> str:
    return f"{bracketed(host)}:{config.network.port}"


def last_line(partition: Path, mark: str) -> str:
    """What follows `mark` in the last line with it that the service logged, empty when it logged none."""
    logs = [path for path in partition.glob(".*.log") if SERVICE_LOG.fullmatch(path.name)]
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [line.partition(mark)[2] for line in lines if mark in line]
        if found:
            return found[-1]
    return ""


# ---- backups


@dataclass(frozen=True)
class BackupStatus:
    """`created` is when the database was made (None: not yet); `missing`: the newest one's file is gone or cut.

    `future` names backups that claim to have been begun after now: a clock was wrong, so `newest` is none of them.

    `parameter` is what people call these backups (backup.logical), `program` makes one now, `job` is its name in
    `scheduler`, the scheduler's own record of what it did.
    """

    parameter: str
    program: str
    job: str

    enabled: bool
    periodicity: str
    folder: str
    created: datetime | None
    newest: manifest.Entry | None
    missing: bool
    future: tuple[str, ...]
    scheduler: state.State


def backups(config: Config) -> tuple[BackupStatus, ...]:
    """Each kind of backup that is looked after: dumps always, physical ones when they are enabled. Raises Error."""
    return tuple(backup(where) for where in store.all_of(config) if where.kind == "logical" or where.schedule.enable)


def backup(where: Store) -> BackupStatus:
    """Read the manifest and the scheduler's state. Raises Error when one of them cannot be read."""
    listed = manifest.load(where.folder)
    limit = times.now() + CLOCK
    future = tuple(entry.name for entry in listed if times.parse(entry.start) > limit)
    newest = manifest.newest(entry for entry in listed if entry.name not in future)
    return BackupStatus(
        parameter=where.parameter,
        program=where.program,
        job=where.job,
        enabled=where.schedule.enable,
        periodicity=where.schedule.periodicity,
        folder=str(where.folder),
        created=created(where.config.data_directory),
        newest=newest,
        missing=newest is not None and any(_is_cut(where, entry) for entry in chain.of(newest, listed)),
        future=future,
        scheduler=state.load(where.config.scheduler_state),
    )


def _is_cut(where: Store, entry: manifest.Entry) -> bool:
    return length(where.folder / entry.name) != entry.size


def created(data_directory: Path) -> datetime | None:
    """When the system tables were made: their definitions (.frm) are written then, and upgrades rewrite only some."""
    moments = [path.stat().st_mtime for path in data_directory.joinpath("mysql").glob("*.frm")]
    return datetime.fromtimestamp(min(moments), UTC) if moments else None


def length(path: Path) -> int:
    """Bytes in the file; 0 when it is not there, or has just gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# ---- disk


@dataclass(frozen=True)
class BinaryLogs:
    """`size` in bytes, of the files there are; `since` is when the oldest one was begun (None: there is none)."""

    size: int
    since: datetime | None
    expire_days: int


@dataclass(frozen=True)
class NextBackup:
    """A backup that is going to be made by the schedule of `parameter`: `kind` in words, the bytes that it `needs`.

    `newest` is how many the last one took (None: there is none), from which `needs` was estimated.
    """

    parameter: str
    kind: str
    needs: int
    newest: int | None


@dataclass(frozen=True)
class DiskStatus:
    """Sizes in bytes: `free` for us on the file system of `folder`, `tables` those of the data directory.

    `backups` are the next one of each kind that is scheduled.
    """

    folder: str
    free: int
    tables: int
    backups: tuple[NextBackup, ...]
    binary_logs: BinaryLogs


def disk(config: Config) -> DiskStatus:
    """Measure. Raises Error when a manifest cannot be read."""
    tables = space.tables_size(config.data_directory)
    stores = (where for where in store.all_of(config) if where.schedule.enable)
    folder = min(_places(config), key=space.free)
    return DiskStatus(
        folder=str(folder),
        free=space.free(folder),
        tables=tables,
        backups=tuple(_next_backup(where, tables) for where in stores),
        binary_logs=binary_logs(config),
    )


def _places(config: Config) -> list[Path]:
    """Where databases and backups lie: below `srv`, or where either is a link or a mount of its own.

    Of two file systems the fuller one has to have room for all, to be on the safe side.
    """
    top = config.path("srv")
    folders = [path for path in (config.data_directory, config.path("srv", "backup")) if path.is_dir()]
    return [top if space.device(path) == space.device(top) else path for path in folders] or [top]


def _next_backup(where: Store, tables: int) -> NextBackup:
    """The largest one to come: of physical backups a full one, as the old chain goes only after the new one is made."""
    entries = [entry for entry in manifest.load(where.folder) if entry.kind != manifest.INCREMENTAL]
    newest = manifest.newest(entries)
    kind = "backup" if where.kind == "logical" else "full physical backup"
    return NextBackup(where.parameter, kind, space.needed(entries, tables), newest.size if newest else None)


def binary_logs(config: Config) -> BinaryLogs:
    """The binary logs there are; mariadbd may purge and add some meanwhile."""
    files = binary_log_files(config.data_directory)
    return BinaryLogs(
        size=sum(map(length, files)),
        since=begun(files[0]) if files else None,
        expire_days=config.binlog_expire_days,
    )


def binary_log_files(data_directory: Path) -> list[Path]:
    """The binary logs that the server's index lists and that are there, oldest first."""
    try:
        lines = data_directory.joinpath(BINARY_LOG + ".index").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    paths = [data_directory / line for line in lines]
    return [path for path in paths if path.name.startswith(BINARY_LOG + ".") and path.exists()]


def begun(path: Path) -> datetime | None:
    """When a binary log was begun: the timestamp of its first event, 4 bytes after the magic number.

    Source: https://mariadb.com/kb/en/2-binlog-event-header/. None for a file that is shorter, or gone by now.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        return None
    return datetime.fromtimestamp(int.from_bytes(head[4:8], "little"), UTC) if len(head) == 8 else None
