# SPDX-License-Identifier: GPL-2.0-or-later
"""All that the control page, status.json and the metrics tell of a MariaDB partition, gathered from what is at hand.

No server is asked how it replicates: the sampler has looked a moment ago, and promises have written what they found.
"""

from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5 import process, supervisor, times
from slapos.recipe.erp5.control import action, facts, journal
from slapos.recipe.erp5.control.sampler import Look, Sample, Sampler
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.mariadb import gtid, primary, replication_verdict, role_state
from slapos.recipe.erp5.mariadb import status as database
from slapos.recipe.erp5.mariadb.config import PROGRAMS, Config
from slapos.recipe.erp5.mariadb.replication_status import ReplicationStatus, known_lag
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import status as tls_status

REPLICATION = "mariadb-replication"
"""The promise whose judgement is made here anew, of the last look."""


@dataclass(frozen=True)
class Server:
    """Our own server: `role` is primary, replica or unknown; `writable` None when it does not answer (`error`)."""

    role: str = "unknown"
    writable: bool | None = None
    error: str = ""
    version: str = ""
    server_id: int = 0
    written: str = ""
    applied: str = ""
    replicas: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a replica's data comes from: its two threads, lag in seconds (None: unknown), positions.

    `behind` is how many transactions it lacks; `error` why the primary did not tell its position (`primary`).
    """

    address: str
    user: str
    tls: bool
    receiving: str
    applying: str
    lag: int | None
    received: str
    primary: str
    behind: int | None
    error: str


@dataclass(frozen=True)
class Backup:
    """The newest good backup of a kind; `at` is when it was begun, empty for none."""

    kind: str
    at: str
    size: int
    schedule: str
    next: str
    message: str


@dataclass(frozen=True)
class Certificate:
    """A certificate or revocation list; `problem` when it cannot be used."""

    name: str
    until: str
    problem: str


@dataclass(frozen=True)
class Service:
    """What the supervisor says of mariadbd: `state`, since when, and the ends that nobody asked for."""

    state: str
    since: str
    ends: tuple[str, ...]
    next_start: str


@dataclass(frozen=True)
class Facts(facts.Facts):
    """Everything. `requested` is the role that the parameters ask for, `summary` how well it replicates, if it does."""

    requested: str
    server: Server
    source: Source | None
    summary: str
    backups: tuple[Backup, ...]
    certificates: tuple[Certificate, ...]
    service: Service | None
    samples: tuple[Sample, ...]


def gather(config: Config, sampler: Sampler, now: datetime) -> Facts:
    """Raises ConfigurationError."""
    look, promises = sampler.look, tuple(facts.promises(config))
    verdict = replication_verdict.replication(look.status, now) if look else None
    notes, troubles = _role_notes(config)
    return Facts(
        instance=config.instance,
        at=times.text(look.at) if look else "",
        requested=_requested(config),
        server=_server(look),
        source=_source(look.status) if look else None,
        problems=(*facts.problems(look, verdict, promises, now, PROGRAMS, REPLICATION), *troubles),
        summary=" ".join(verdict.sentences) if verdict and verdict.good else "",
        notes=notes,
        running=action.current(config),
        actions=journal.last(config, 10),
        promises=promises,
        backups=_backups(config),
        certificates=_certificates(config, now),
        service=_service(config),
        samples=sampler.hour(),
        now=now,
    )


def _requested(config: Config) -> str:
    """By the parameters alone, whatever actions have changed since."""
    replication = config.replication
    return f"replica of {primary.parse(replication.primary_url).address}" if replication else "primary"


# ---- decide


def _server(look: Look | None) -> Server:
    if look is None:
        return Server(error="nobody has looked yet: wait a moment")
    own = look.status.own
    if own is None:
        return Server(error=look.status.error if look.status.exists else "there is no database yet")
    return Server(
        role="replica" if own.sources else "primary",
        writable=not own.facts.read_only,
        version=own.facts.version,
        server_id=own.facts.server_id,
        written=own.facts.binlog_pos,
        applied=own.facts.slave_pos,
        replicas=tuple(sorted(own.connected)),
    )


def _source(status: ReplicationStatus) -> Source | None:
    if status.own is None or not status.own.sources:
        return None
    first, upstream = status.own.sources[0], status.upstream
    position = upstream.facts.position if upstream and upstream.facts else ""
    return Source(
        address=first.address,
        user=first.user,
        tls=first.tls,
        receiving=f"{first.io.running} {first.io}".strip(),
        applying=f"{first.sql.running} {first.sql}".strip(),
        lag=known_lag(first),
        received=first.gtid_io_pos,
        primary=position,
        behind=gtid.count(gtid.parse(position), gtid.parse(status.own.facts.slave_pos)) if position else None,
        error=upstream.error if upstream else "",
    )


def _role_notes(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the last changes of role have left: what is worth knowing, and what is wrong."""
    try:
        state = role_state.load(config)
    except Error as error:
        return (), (str(error),)
    notes = []
    if state.fenced:
        notes.append(f"Writes are stopped since {state.fenced.at}, by {state.fenced.by}: {state.fenced.reason}")
    if state.hand_over:
        notes.append(f"It was stopped at {state.hand_over.at} at GTID {state.hand_over.gtid} to hand over its role")
    if state.promotion:
        notes.append(f"A {state.promotion.action} was begun at {state.promotion.at} and has not ended: run it again")
    if state.fence_pending:
        notes.append(
            f"The old primary {state.fence_pending.address} could not be stopped since {state.fence_pending.since}; "
            "this is tried again every few seconds"
        )
    return tuple(notes), ()


# ---- gather


def _backups(config: Config) -> tuple[Backup, ...]:
    try:
        found = database.backups(config)
    except (Error, OSError) as error:
        return (Backup("backup", "", 0, "", "", process.describe(error)),)
    return tuple(_backup(one) for one in found)


def _backup(status: database.BackupStatus) -> Backup:
    job = status.scheduler.job(status.job)
    return Backup(
        kind=status.parameter,
        at=status.newest.start if status.newest else "",
        size=status.newest.size if status.newest else 0,
        schedule=status.periodicity if status.enabled else "",
        next=job.next_run,
        message=job.message if job.outcome == "failed" else "",
    )


def _certificates(config: Config, now: datetime) -> tuple[Certificate, ...]:
    pairs, lists = tls_status.items(Certificates(config), now)
    return tuple(_certificate(item) for item in (*pairs, *lists))


def _certificate(item: tls_status.Item) -> Certificate:
    waits = "its request waits for approval" if item.waiting else "a placeholder" if item.placeholder else ""
    return Certificate(item.name, times.text(item.until) if item.until else "", item.error or waits)


def _service(config: Config) -> Service | None:
    """As the supervisor has it; None where none runs."""
    found = supervisor.status(config.service)
    if found is None:
        return None
    return Service(found.state, found.since, tuple(f"{one.at}: {one.how}" for one in found.ends), found.next_start)
