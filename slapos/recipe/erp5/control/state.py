# SPDX-License-Identifier: GPL-2.0-or-later
"""What the scheduler last did, in the small JSON file `var/run/scheduler.json` that promises and the page read."""

import dataclasses
import json
from pathlib import Path

from slapos.recipe.erp5 import config
from slapos.recipe.erp5.errors import ConfigurationError, Error

DONE = "done"
FAILED = "failed"
BUSY = "busy"
RUNNING = "running"


@dataclasses.dataclass(frozen=True)
class Job:
    """One job's record; moments are texts in UTC (times.text), empty for never.

    `outcome` is empty before the first run, then `running`, `done`, `failed` or `busy` (somebody else was at it);
    `message` is the last line that its last run wrote; `last_success` is the start of the last run that was done;
    `failures` counts the failures since then, and before `retry` a failed or busy job is not tried again;
    `next_run` is the next regular moment; `since` is when the scheduler first knew of the job.
    """

    name: str
    last_start: str = ""
    last_end: str = ""
    last_success: str = ""
    outcome: str = ""
    message: str = ""
    failures: int = 0
    retry: str = ""
    next_run: str = ""
    since: str = ""


@dataclasses.dataclass(frozen=True)
class State:
    """`heartbeat` is written at least every 30 s while the scheduler lives (empty: it never ran).

    `problem` is the sentence about a configuration file that it could not take over, empty when all is well.
    """

    heartbeat: str = ""
    problem: str = ""
    jobs: tuple[Job, ...] = ()

    def job(self, name: str) -> Job:
        """The record of the job `name`, an empty one when it never ran."""
        return next((job for job in self.jobs if job.name == name), Job(name))

    def with_job(self, changed: Job) -> "State":
        """The same state with the record of one job replaced or added."""
        others = tuple(job for job in self.jobs if job.name != changed.name)
        return dataclasses.replace(self, jobs=tuple(sorted((*others, changed), key=lambda job: job.name)))


def load(path: str | Path) -> State:
    """Read the state at `path`; an empty State when there is none. Raises Error when it cannot be read."""
    try:
        return config.build(State, json.loads(Path(path).read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, ConfigurationError) as error:
        raise Error(f"{path} cannot be read as the scheduler's state: {error}: remove it, a new one follows") from error


def save(path: str | Path, state: State) -> None:
    """Replace the state at `path`, whole or not at all."""
    config.save(path, state)
