# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether a ZEO server and its backups are as they should be: pure functions, in sentences for a promise."""

from collections.abc import Iterator

from slapos.recipe.erp5 import supervisor_verdict, times
from slapos.recipe.erp5.control import overdue
from slapos.recipe.erp5.control.state import FAILED, Job
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.supervisor import RUNNING
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.words import duration, size_text
from slapos.recipe.erp5.zeo.config import BACKUP, PROGRAMS
from slapos.recipe.erp5.zeo.status import Backups, Server, Snapshot

PROGRAM = "bin/zeo-backup-now"


# ---- the server


def server(status: Server) -> Verdict:
    """Whether the server answers, has all its databases, and has not died lately."""
    return judge(_server_problems(status), _server_summary(status))


def _server_problems(status: Server) -> Iterator[str]:
    for storage in status.storages:
        if storage.lost:
            yield (
                f"{storage.lost} is not there, expected the database that was made once: bring it back, for instance by"
                " bin/zeo-restore; or, to have an empty one in its place, read what the log of the service zeo says"
            )
    if status.supervised is None:
        yield f"no supervisor of the service zeo runs, expected it to run: {status.config.service.remedy}"
    elif problem := supervisor_verdict.problem(status.config.service, status.supervised, status.at):
        yield problem
    if status.silent and (status.supervised is None or status.supervised.state == RUNNING):
        yield (
            f"no ZEO server answers at {status.config.address} ({status.silent}), expected ours to: see the log of the"
            " service zeo, and var/log/zeo.log; one without an index reads its whole database first"
        )


def _server_summary(status: Server) -> str:
    served = ", ".join(f"{storage.name} ({size_text(storage.size)})" for storage in status.storages)
    idle = f"; it does not serve {', '.join(status.unserved)}, which stays as it is" if status.unserved else ""
    return (
        f"ZEO answers at {status.config.address} and serves {served}{supervisor_verdict.note(status.supervised)}{idle}"
    )


# ---- the backups


def backups(status: Snapshot) -> Verdict:
    """Whether the last good backup of each storage is young enough, the last run went well, and the scheduler lives."""
    job = status.scheduler.job(BACKUP)
    newest = "; ".join(_newest(one) for one in status.backups)
    if not status.config.backup.enable:
        problems = (problem for one in status.backups for problem in _damage(one))
        return judge(problems, f"scheduled backups are off ({BACKUP}.enable is false); {newest}")
    coming = f"; the next run is due at {job.next_run}" if job.next_run else ""
    return judge(iter(dict.fromkeys(_backup_problems(status, job))), newest + coming)


def _backup_problems(status: Snapshot, job: Job) -> Iterator[str]:
    yield from overdue.scheduler_problems(status.scheduler, PROGRAMS, status.at)
    if job.outcome == FAILED:
        yield (
            f"the last scheduled run, of {job.last_start}, failed: {job.message}; expected a backup: remove the cause;"
            f" it is tried again at {job.retry or 'once'}, or run {PROGRAM}"
        )
    for one in status.backups:
        yield from _damage(one)
        if not one.unusable:
            yield from _age(status, one)


def _damage(one: Backups) -> Iterator[str]:
    if one.unusable:
        yield one.unusable
    if one.damage:
        yield f"{one.damage}, expected the newest backup of {one.storage} to be whole: run {PROGRAM}"


def _age(status: Snapshot, one: Backups) -> Iterator[str]:
    if one.created is None:
        return
    periodicity = status.config.backup.periodicity
    # A moment that is yet to come is a clock's mistake, and counts for nothing, as it does for the scheduler.
    last = one.last if one.newest and one.last and one.last <= status.at else None
    try:
        limit = overdue.oldest_start(periodicity, BACKUP, one.created, last, status.at)
    except ConfigurationError as error:
        yield str(error)
        return
    if limit is None or (last and last >= limit):
        return
    found = f"the last good one was begun {duration(status.at - last)} ago" if last else "there is none"
    yield (
        f"a backup of {one.storage} is missing: {found} in {one.folder}, expected one begun at {times.text(limit)} or"
        f" later ({BACKUP}.periodicity is {periodicity}): run {PROGRAM}"
    )


def _newest(one: Backups) -> str:
    if one.created is None:
        return f"there is no database of {one.storage} to back up yet"
    if not one.newest or not one.last:
        return f"there is no backup of {one.storage} yet"
    chains = f"{one.chains} chain{'s' * (one.chains != 1)}"
    return (
        f"{one.storage} was last backed up at {times.text(one.last)}, the newest of {chains} is {one.newest},"
        f" {size_text(one.size)} in all"
    )
