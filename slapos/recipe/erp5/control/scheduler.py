# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a partition's regular jobs, each as a child process, and writes down how they went.

What is to be started is decided by pure functions from the plans, the state and the time; Scheduler carries it out.
"""

import dataclasses
import os
import re
import selectors
import subprocess
import sys
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import schedule, state
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.errors import Error

LONGEST_WAIT = 30.0
"""Seconds after which a changed configuration file has been noticed at the latest."""
HEARTBEAT = 20.0
"""Seconds after which the heartbeat on disk is renewed, at the next time that the scheduler wakes."""
BUSY_DELAY = 60.0
"""Seconds after which a job that somebody else was at is looked at again."""
STOP_TIMEOUT = 20.0
"""Seconds that a child has to end after SIGTERM; slapos kills the whole partition after 60."""
_MESSAGE = 600
_DATED = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} ")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A regular job: `periodicity` as schedule.check() accepts it, `command` to run.

    `last_success` is the start of the newest success that is known from its results (times.text), or empty.
    `at_once`: one that never ran runs as soon as it is known, instead of at its first regular moment.
    `after` names a job that goes first when both are due. `longest_pause`: seconds that it is ever made to wait after a
    failure. `quiet`: it runs so often that the log has it only when it says something, or fails.
    """

    name: str
    periodicity: str
    command: tuple[str, ...]
    last_success: str = ""
    at_once: bool = False
    after: str = ""
    longest_pause: float = schedule.LAST_RETRY
    quiet: bool = False


# ---- decide


def last_success(plan: Plan, job: Job, now: datetime) -> datetime | None:
    """When the last success that is known began, or since when one is waited for; None when there is no such moment.

    Moments in the future are a clock's mistake, and count for nothing.
    """
    texts = (plan.last_success, job.last_success, "" if plan.at_once else job.since)
    moments = [_moment(text) for text in texts]
    return max((moment for moment in moments if moment and moment <= now), default=None)


def is_due(plan: Plan, job: Job, now: datetime) -> bool:
    """Whether the job should run now: its moment has come, or was missed, and it need not wait after a failure."""
    if paused_until(plan, job, now):
        return False
    return schedule.is_due(plan.periodicity, last_success(plan, job, now), now)


def paused_until(plan: Plan, job: Job, now: datetime) -> datetime | None:
    """Until when a failed or busy job is left alone; None when it need not be, or the moment is a clock's mistake."""
    moment, longest = _moment(job.retry), timedelta(seconds=max(plan.longest_pause, BUSY_DELAY))
    return moment if moment and now < moment <= now + longest else None


def _moment(text: str) -> datetime | None:
    """The moment that a record names; None for none, and for what is no moment: a record must not stop the jobs."""
    try:
        return times.parse(text)
    except ValueError:
        return None


def to_start(plans: Sequence[Plan], known: State, running: Collection[str], now: datetime) -> tuple[Plan, ...]:
    """The jobs to start now; a job never runs twice at once."""
    due = [plan for plan in plans if plan.name not in running and is_due(plan, known.job(plan.name), now)]
    first = {plan.name for plan in due} | set(running)
    return tuple(plan for plan in due if plan.after not in first)


def wait(plans: Sequence[Plan], known: State, running: Collection[str], now: datetime) -> float:
    """Seconds until something may be due, at most LONGEST_WAIT."""
    moments = [_wake(plan, known.job(plan.name), now) for plan in plans if plan.name not in running]
    soonest = min(((moment - now).total_seconds() for moment in moments), default=LONGEST_WAIT)
    return min(max(soonest, 0.0), LONGEST_WAIT)


def _wake(plan: Plan, job: Job, now: datetime) -> datetime:
    return paused_until(plan, job, now) or schedule.following(plan.periodicity, now)


def started(job: Job, now: datetime) -> Job:
    """The record of a job that begins."""
    return dataclasses.replace(job, last_start=times.text(now), outcome=state.RUNNING, message="", retry="")


def ended(plan: Plan, job: Job, code: int, message: str, now: datetime) -> Job:
    """The record of a job that ended with exit code `code` (negative: a signal), and when it may be tried again."""
    job = dataclasses.replace(job, last_end=times.text(now), message=message)
    if code == 0:
        return dataclasses.replace(job, outcome=state.DONE, last_success=job.last_start, failures=0)
    if code == os.EX_TEMPFAIL:
        return dataclasses.replace(job, outcome=state.BUSY, retry=_later(now, BUSY_DELAY))
    failures = job.failures + 1
    retry = _later(now, min(schedule.retry_delay(failures), plan.longest_pause))
    message = message or f"ended with status {code}, and said nothing"
    return dataclasses.replace(job, outcome=state.FAILED, message=message, failures=failures, retry=retry)


def cut_short(job: Job, now: datetime) -> Job:
    """The record of a job that was running when the scheduler ended; it is tried again as soon as there is one."""
    if job.outcome != state.RUNNING:
        return job
    return dataclasses.replace(
        job, last_end=times.text(now), outcome=state.FAILED, message="cut short, as the scheduler ended", retry=""
    )


def _later(now: datetime, seconds: float) -> str:
    return times.text(now + timedelta(seconds=seconds))


# ---- act


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Runs a module of ours in a Python of its own, whose memory goes away with it."""
    return (sys.executable, "-P", "-m", module, *arguments)


def python_path() -> dict[str, str]:
    """The environment in which python_command() finds what this process finds."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Child:
    """A running job; what it says is passed on to our own log, and its last line kept."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.popen = process.start(plan.command, env=python_path(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.popen.stdout is not None
        self.output: IO[bytes] = self.popen.stdout
        os.set_blocking(self.output.fileno(), False)
        self._rest = b""
        self.message = ""

    def read(self) -> bool:
        """Pass on what has come; False at its end."""
        try:
            while chunk := os.read(self.output.fileno(), 1 << 16):
                self._pass_on(chunk)
        except BlockingIOError:
            return True
        self._pass_on(b"\n")
        return False

    def _pass_on(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in filter(None, (_DATED.sub("", line.decode("utf-8", "replace")).strip() for line in lines)):
            process.log(f"{self.plan.name}: {line}")
            self.message = line.removeprefix("error: ").removeprefix("busy: ")[:_MESSAGE]


class Scheduler:
    """Starts what is due, collects what ended, keeps the state file; `selector` wakes its owner for it."""

    def __init__(self, state_file: Path, selector: selectors.BaseSelector) -> None:
        self.state_file, self.selector = state_file, selector
        self.plans: tuple[Plan, ...] = ()
        self.children: dict[str, Child] = {}
        self.state = self.saved = self._remembered()

    def _remembered(self) -> State:
        """The state of the scheduler before us. One that cannot be read is worth a line, not a halt."""
        try:
            known = state.load(self.state_file)
        except Error as error:
            process.log(str(error))
            return State()
        return dataclasses.replace(known, problem="", jobs=tuple(cut_short(job, times.now()) for job in known.jobs))

    def take(self, plans: Sequence[Plan], problem: str, now: datetime) -> None:
        """Follow these plans from now on; `problem` says why the newest ones could not be taken, or is empty."""
        self.plans = tuple(plans)
        self.state = dataclasses.replace(self.state, problem=problem)
        self._save(self._with_next_runs(now))

    def tick(self, now: datetime) -> float:
        """Collect and start; return after how many seconds at the latest to be called again."""
        for child in [child for child in self.children.values() if child.popen.poll() is not None]:
            self._collect(child, now)
        for plan in to_start(self.plans, self.state, self.children, now):
            self._start(plan, now)
        self._save(dataclasses.replace(self._with_next_runs(now), heartbeat=times.text(now)))
        return wait(self.plans, self.state, self.children, now)

    def stop(self, now: datetime) -> None:
        """End all children, by SIGTERM first; what they were doing is marked as cut short."""
        for child in self.children.values():
            child.popen.terminate()
        for child in self.children.values():
            try:
                child.popen.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.popen.kill()
                child.popen.wait()
            process.log(f"{child.plan.name}: stopped")
        self._save(dataclasses.replace(self.state, jobs=tuple(cut_short(job, now) for job in self.state.jobs)))

    def _with_next_runs(self, now: datetime) -> State:
        """The state with each job's next regular moment, seen from now: what a wrong clock noted does not stay."""
        following = {plan.name: times.text(schedule.following(plan.periodicity, now)) for plan in self.plans}
        new = self.state
        for name in sorted({job.name for job in new.jobs} | set(following)):
            job = new.job(name)
            since = job.since or times.text(now)
            new = new.with_job(dataclasses.replace(job, next_run=following.get(name, ""), since=since))
        return new

    def _start(self, plan: Plan, now: datetime) -> None:
        self.state = self.state.with_job(started(self.state.job(plan.name), now))
        if not plan.quiet:
            process.log(f"{plan.name}: begins")
        try:
            child = self.children[plan.name] = Child(plan)
        except (Error, OSError) as error:  # no such program, or no memory for it now: like one that failed
            process.log(f"{plan.name}: {error}")
            self._note_end(plan, 1, str(error), now)
            return
        self.selector.register(child.output, selectors.EVENT_READ, lambda: self._listen(child))

    def _listen(self, child: Child) -> None:
        if not child.read():
            self.selector.unregister(child.output)

    def _collect(self, child: Child, now: datetime) -> None:
        del self.children[child.plan.name]  # first: whatever goes wrong below must not come again at each tick
        if child.output.fileno() in self.selector.get_map():
            child.read()
            self.selector.unregister(child.output)
        child.output.close()
        self._note_end(child.plan, child.popen.returncode, child.message, now)

    def _note_end(self, plan: Plan, code: int, message: str, now: datetime) -> None:
        job = ended(plan, self.state.job(plan.name), code, message, now)
        self.state = self.state.with_job(job)
        if message or job.outcome != state.DONE or not plan.quiet:
            process.log(f"{plan.name}: {job.outcome}")

    def _save(self, new: State) -> None:
        """Keep the state; when nothing but the heartbeat differs from the file, only if that one becomes old."""
        self.state = new
        if dataclasses.replace(self.saved, heartbeat=new.heartbeat) == new and not _is_old(self.saved, new):
            return
        try:
            state.save(self.state_file, new)
            self.saved = new
        except OSError as error:  # tried again at the next tick
            process.log(f"{self.state_file} cannot be written: {error}: free disk space")


def _is_old(saved: State, new: State) -> bool:
    before, after = _moment(saved.heartbeat), _moment(new.heartbeat)
    if not before or not after:
        return saved.heartbeat != new.heartbeat
    return not timedelta(0) <= after - before < timedelta(seconds=HEARTBEAT)
