# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether a partition's scheduler lives, and how old its last backup may be: pure functions, of any service."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.words import duration

HEARTBEAT = timedelta(minutes=5)
"""The scheduler writes its heartbeat every 30 s (control/state.py); a loaded machine may be late."""
MARGIN = timedelta(hours=1)
"""How long a backup may take after the moment at which it was due."""


def scheduler_problems(scheduler: State, prefix: str, now: datetime) -> Iterator[str]:
    """That the scheduler in the service PREFIX-control gives no sign of life, or could not follow its configuration."""
    remedy = (
        f"read the log of the service {prefix}-control, and process the instance (slapos node instance --all) to start"
        " it"
    )
    if not scheduler.heartbeat:
        yield f"the scheduler never ran, expected a sign of life every 30 s: {remedy}"
    elif times.parse(scheduler.heartbeat) - now > HEARTBEAT:
        yield (
            f"the scheduler's last sign of life is of {scheduler.heartbeat}, which is yet to come, expected one every "
            f"30 s: check the machine's clock, {remedy}"
        )
    elif now - times.parse(scheduler.heartbeat) > HEARTBEAT:
        yield (
            f"the scheduler's last sign of life is {duration(now - times.parse(scheduler.heartbeat))} old "
            f"({scheduler.heartbeat}), expected one every 30 s: {remedy}"
        )
    if scheduler.problem:
        yield scheduler.problem


def oldest_start(
    periodicity: str, parameter: str, created: datetime, newest: datetime | None, now: datetime
) -> datetime | None:
    """The moment before which the newest backup must not have been begun; None: a new database still has time.

    It is the last regular moment but one: one missed run is forgiven, for instance one that takes long. `newest` is
    when the newest good backup was begun, of this database, which was `created` then, or of another one.
    Raises ConfigurationError, naming `parameter`, when the periodicity means no moment.
    """
    schedule.check(periodicity, parameter)
    of_this_database = newest and newest >= created
    if not of_this_database and now <= schedule.following(periodicity, created) + MARGIN:
        return None
    last = schedule.previous(periodicity, now - MARGIN)
    return schedule.previous(periodicity, last)


def last_run(job: Job) -> str:
    """How the last run of a job ended, to be added to a sentence; empty when it never ran."""
    if not job.outcome:
        return ""
    said = f": {job.message}" if job.message else ""
    return f"; the last scheduled run, of {job.last_start}, is {job.outcome}{said}"
