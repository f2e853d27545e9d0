# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether a gathered status is good: pure functions, whose sentences tell what is, what should be, what to do."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from slapos.recipe.erp5 import supervisor_verdict, times
from slapos.recipe.erp5.control import overdue, state
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import progress
from slapos.recipe.erp5.mariadb.config import ADMINISTRATOR, PROGRAMS
from slapos.recipe.erp5.mariadb.sql_identity import Identity
from slapos.recipe.erp5.mariadb.status import Answer, BackupStatus, BinaryLogs, DiskStatus, NextBackup, ServerStatus
from slapos.recipe.erp5.supervisor import RUNNING, Supervised
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.words import duration, size_text

BINARY_LOG_FLOOR = 1 << 30
"""Free bytes wanted for binary logs at least: one file at its largest, MariaDB's default max_binlog_size."""
SHORTEST = timedelta(days=1)
"""Growth over less time than this is not taken for the rate of days to come."""
PROCESS = "process the instance (slapos node instance --all)"


# ---- the server


def server(status: ServerStatus) -> Verdict:
    """Whether our server, and no other, answers on its socket and on each of its TCP addresses, or on none as asked."""
    if status.local.identity is None and not status.exists and status.at_work and is_bootstrapping(status.bootstrap):
        assert status.bootstrap
        return bootstrap(status.bootstrap)
    return judge(_server_problems(status), _server_summary(status))


def _server_problems(status: ServerStatus) -> Iterator[str]:
    supervision = supervisor_verdict.problem(status.service, status.supervised, status.at)
    if status.local.identity is None and not status.exists:
        yield _absent(status)
        return
    if supervision:
        yield supervision
    if not (supervision and status.local.identity is None and _is_idle(status)):
        yield from _local_problems(status)
    identity = status.local.identity
    if identity and _is_ours(status, identity) and identity.networking == status.silent:
        yield _other_network(status)
        return
    if identity and status.silent:
        return
    for answer in status.network:
        # Where nobody is on the socket, that nobody is on the network either says nothing new.
        if answer.identity or answer.refused or status.local.identity:
            yield from _network_problems(status, answer)


def _is_idle(status: ServerStatus) -> bool:
    """Whether a supervisor says that nothing runs: then it says why, and that nobody answers says nothing new."""
    return status.supervised is not None and status.supervised.state != RUNNING


def _absent(status: ServerStatus) -> str:
    if status.supervised and _is_idle(status) and not status.at_work:
        return _not_created(status, status.supervised)
    if status.creating and not status.at_work:
        return (
            f"the creation of the database has stopped ({status.error or 'no reason in the log'}), expected a database "
            f"that answers: remove that cause, then {PROCESS}, and the creation begins again"
        )
    if status.creating:
        return (
            f"the database is being created (last step: {status.step or 'none yet'}), expected one that answers: "
            "wait, this ends by itself, and if it does not the service's log says why"
        )
    return (
        f"there is no database in {status.data_directory}, expected one, as the service makes it when it starts: "
        f"{PROCESS} to start the service, and if that does not help read its log"
    )


def _not_created(status: ServerStatus, supervised: Supervised) -> str:
    """Of a creation that has failed, or was stopped, under its supervisor."""
    if not supervised.next_start:
        return supervisor_verdict.problem(status.service, supervised, status.at)
    reason = status.error or "no reason in the log"
    return (
        f"the creation of the database has failed ({reason}), expected a database that answers: remove that cause;"
        f" the creation begins again by itself at {supervised.next_start}"
    )


def _other_network(status: ServerStatus) -> str:
    """Of a server whose network is on and should be off, or the other way round."""
    if status.silent:
        expected = (
            "its network off, as replication.allow-tcp-connections-on-replica is false and the database is a replica"
        )
    else:
        expected = f"it to listen on {' and '.join(answer.address for answer in status.network)}"
    return (
        f"the server on {status.local.address} {_listening(status)}, expected {expected}: mariadb-control restarts the"
        f" service for that within two minutes; if it does not, write restart into {status.service.fifo}"
    )


def _local_problems(status: ServerStatus) -> Iterator[str]:
    answer = status.local
    if answer.identity:
        if not _is_ours(status, answer.identity):
            yield _foreign(status, answer)
    elif answer.refused:
        yield (
            f"the server on {answer.address} refuses {ADMINISTRATOR} ({answer.error}), expected it to accept the "
            "password in etc/mariadb.cnf: restart the service, which makes that account again"
        )
    else:
        last = f"; the service's last step: {status.step}" if status.step else ""
        yield (
            f"no server answers on {answer.address} ({answer.error}{last}), expected {_ours(status)}: "
            f"read var/log/mariadb-error.log, and {PROCESS} to start the service"
        )


def _network_problems(status: ServerStatus, answer: Answer) -> Iterator[str]:
    if answer.identity:
        if not _is_ours(status, answer.identity):
            yield _foreign(status, answer)
    elif not _listens(status, answer):
        what = f"a server refuses {status.replication_user} on" if answer.refused else "no server answers on"
        yield (
            f"{what} {answer.address} ({answer.error}), expected {_ours(status)}, which {_listening(status)}: "
            "stop what holds the port if something does, and restart the service"
        )
    elif not answer.refused:
        yield (
            f"no server answers on {answer.address} ({answer.error}), expected {_ours(status)}, which answers on its "
            "socket: raise max-connection-count if it has too many, else look for a firewall or a missing address"
        )


def _foreign(status: ServerStatus, answer: Answer) -> str:
    assert answer.identity
    return (
        f"the server on {answer.address} has server id {answer.identity.server_id} and its data in "
        f"{answer.identity.data_directory}, expected {_ours(status)}: "
        "stop it if it is not this instance's, and restart the service"
    )


def _ours(status: ServerStatus) -> str:
    return f"server id {status.server_id} with its data in {status.data_directory}"


def _is_ours(status: ServerStatus, identity: Identity) -> bool:
    return (identity.server_id, identity.data_directory) == (status.server_id, status.data_directory)


def _listens(status: ServerStatus, answer: Answer) -> bool:
    """Whether our own server, asked on its socket, says that it holds the address: then nobody else can."""
    identity = status.local.identity
    if identity is None or not _is_ours(status, identity):
        return False
    host = answer.address.rpartition(":")[0].strip("[]")
    return identity.networking and identity.port == status.port and bool({host, "*", "::"} & set(identity.addresses))


def _listening(status: ServerStatus) -> str:
    identity = status.local.identity
    if identity is None:
        return "is down"
    if not identity.networking:
        return "has its network off"
    return f"listens on port {identity.port} of {' and '.join(identity.addresses)}"


def _server_summary(status: ServerStatus) -> str:
    identity = status.local.identity
    if identity is None:
        return ""
    refusing = [answer.address for answer in status.network if answer.refused and not status.silent]
    answering = (status.local,) if status.silent else (status.local, *status.network)
    addresses = " and ".join(answer.address for answer in answering)
    return (
        f"MariaDB {identity.version} with server id {identity.server_id} answers on {addresses}, "
        f"up for {duration(timedelta(seconds=identity.uptime))}"
        + (", read only" if identity.read_only else "")
        + (", its network off" if status.silent else "")
        + supervisor_verdict.note(status.supervised)
        + (f"; {status.replication_user} cannot log in on {' and '.join(refusing)}" if refusing else "")
    )


# ---- the making of a replica


def is_bootstrapping(state: progress.State | None) -> bool:
    """Whether a replica is being made, or is to be, and nothing of it serves yet."""
    return state is not None and state.stage != progress.COMPLETE


def bootstrap(state: progress.State) -> Verdict:
    """How far a new replica is; bad as long as its last attempt has failed."""
    method = f" by {state.method}" if state.method else ""
    left = state.total - state.done
    end = f", done in {duration(timedelta(seconds=left / state.rate))}" if state.rate and left > 0 else ""
    moved = f", {progress.text(state.done, state.total, state.rate)}{end}" if state.done or state.total else ""
    found = f"the replica is being made{method} since {state.since}: {state.stage or 'begin'}{moved}"
    if not state.error:
        return Verdict(True, (found,))
    return Verdict(
        False,
        (
            f"the replica is not made yet, and of {state.attempts} attempts the last one that ended failed "
            f"({state.error}), expected one to succeed: remove that cause, as it is tried again by itself",
            found,
        ),
    )


# ---- backups


def backups(statuses: Iterable[BackupStatus], now: datetime) -> Verdict:
    """Whether every kind of backup is good; what is to be said of several (the scheduler) is said once."""
    verdicts = [backup(status, now) for status in statuses]
    good = all(verdict.good for verdict in verdicts)
    told = dict.fromkeys(sentence for verdict in verdicts if verdict.good == good for sentence in verdict.sentences)
    return Verdict(good, tuple(told))


def backup(status: BackupStatus, now: datetime) -> Verdict:
    """Whether the newest backup is younger than its period allows, and the scheduler alive to make the next one."""
    if not status.enabled:
        return Verdict(True, (f"scheduled backups are off ({status.parameter}.enable is false); {_newest(status)}",))
    if status.created is None:
        return judge(_scheduler_problems(status, now), "there is no database to back up yet")
    # A periodicity that means nothing is reported by both in the same words.
    problems = dict.fromkeys((*_scheduler_problems(status, now), *_freshness_problems(status, now)))
    return judge(iter(problems), _newest(status) + _outlook(status) + _from_the_future(status))


def _scheduler_problems(status: BackupStatus, now: datetime) -> Iterator[str]:
    return overdue.scheduler_problems(status.scheduler, PROGRAMS, now)


def _freshness_problems(status: BackupStatus, now: datetime) -> Iterator[str]:
    try:
        limit = _oldest_start(status, now)
    except ConfigurationError as error:
        yield str(error)
        return
    newest = None if status.missing else status.newest
    if limit is None or (newest and times.parse(newest.start) >= limit):
        return
    if newest:
        found = f"the newest backup, {newest.name}, was begun {duration(now - times.parse(newest.start))} ago"
    elif status.newest:
        found = f"the newest backup, {status.newest.name}, is no longer a file of {status.newest.size} bytes"
    else:
        found = "there is no backup"
    yield (
        f"{found} in {status.folder}, expected one begun at {times.text(limit)} or later "
        f"({status.parameter}.periodicity is {status.periodicity}){_last_run(status)}: run {status.program}"
    )


def _oldest_start(status: BackupStatus, now: datetime) -> datetime | None:
    """As overdue.oldest_start has it. Raises ConfigurationError."""
    assert status.created
    newest = times.parse(status.newest.start) if status.newest and not status.missing else None
    return overdue.oldest_start(status.periodicity, status.parameter, status.created, newest, now)


def _last_run(status: BackupStatus) -> str:
    return overdue.last_run(status.scheduler.job(status.job))


def _newest(status: BackupStatus) -> str:
    if status.newest is None:
        return "there is no backup yet"
    newest = status.newest
    return f"the newest backup is {newest.name} of {newest.start}, {size_text(newest.size)}"


def _from_the_future(status: BackupStatus) -> str:
    if not status.future:
        return ""
    return f"; the clock was wrong once, and does not count: {', '.join(status.future)}"


def _outlook(status: BackupStatus) -> str:
    job = status.scheduler.job(status.job)
    coming = f"; the next one is due at {job.next_run}" if job.next_run else ""
    # A success needs no words, and one missed run is forgiven but not hidden.
    return coming + (_last_run(status) if job.outcome != state.DONE else "")


# ---- disk


def disk(status: DiskStatus, now: datetime) -> Verdict:
    """Whether the next backup and the binary logs still to come both find room."""
    logs = binary_logs_to_come(status.binary_logs, now)
    needs = _needs(status, logs, now)
    found = f"{size_text(status.free)} are free for {status.folder}"
    needed = sum(backup.needs for backup in status.backups) + logs
    if status.free >= needed:
        return Verdict(True, (f"{found}, and {size_text(needed)} are needed: {needs}",))
    lower = " or ".join((*(f"{backup.parameter}.retention-days" for backup in status.backups), "binlog-expire-days"))
    return Verdict(
        False,
        (
            f"{found}, expected at least {size_text(needed)}, {needs}: free some, give it a larger disk, or lower "
            f"{lower}",
        ),
    )


def binary_logs_to_come(logs: BinaryLogs, now: datetime) -> float:
    """Bytes that binary logs are still going to take: the kept days at the measured growth, less what is there."""
    return max(BINARY_LOG_FLOOR, daily_growth(logs, now) * logs.expire_days - logs.size)


def daily_growth(logs: BinaryLogs, now: datetime) -> float:
    """Bytes a day since the oldest binary log was begun."""
    if logs.since is None:
        return 0.0
    return logs.size / (max(now - logs.since, SHORTEST) / timedelta(days=1))


def _needs(status: DiskStatus, logs: float, now: datetime) -> str:
    growth = size_text(daily_growth(status.binary_logs, now))
    kept = f"{status.binary_logs.expire_days} days at {growth} a day, {size_text(status.binary_logs.size)} there"
    logs_need = f"{size_text(logs)} for binary logs ({kept})"
    return " and ".join((*(_need(status, backup) for backup in status.backups), logs_need))


def _need(status: DiskStatus, backup: NextBackup) -> str:
    newest = backup.newest
    basis = f"the tables have {size_text(status.tables)}" if newest is None else f"the newest has {size_text(newest)}"
    return f"{size_text(backup.needs)} for the next {backup.kind} ({basis})"
