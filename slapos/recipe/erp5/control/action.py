# SPDX-License-Identifier: GPL-2.0-or-later
"""One role-changing action at a time in a partition: who runs it, how far it is, and how it ended."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import journal
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.errors import ConfigurationError, Error, Refused


@dataclass(frozen=True)
class Running:
    """The action that runs: `step` says what it does, `done` of `total` how far that is (0 of 0: not known)."""

    action: str
    by: str
    pid: int
    started: str
    step: str = ""
    done: int = 0
    total: int = 0


@dataclass
class Act:
    """What a running action tells of itself; `sentence` and `details` go to the journal at its end."""

    config: Configuration
    action: str
    by: str
    started: str
    sentence: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    _said: str = ""

    def step(self, sentence: str, done: int = 0, total: int = 0) -> None:
        """Say what is done now, to the log (each sentence once) and to whoever watches. Raises nothing."""
        if sentence != self._said:
            process.log(f"step: {sentence}")
            self._said = sentence
        running = Running(self.action, self.by, os.getpid(), self.started, sentence, done, total)
        with contextlib.suppress(OSError):  # a full disk must not end a takeover for the sake of its progress
            shapes.save(self.config.path("var", "run", "action.json"), running, durable=False)


def place(config: Configuration, name: str) -> contextlib.AbstractContextManager[None]:
    """Hold the partition's one place for actions without being one. Raises Busy, naming the action that runs."""
    return process.lock(config.path("var", "run", "action.lock"), _busy(config, name))


@contextlib.contextmanager
def running(config: Configuration, name: str, by: str) -> Iterator[Act]:
    """Hold the partition's one place for actions; how it ended goes to the journal.

    Raises Busy, naming the action that runs.
    """
    with place(config, name):
        act = Act(config, name, by, times.text(times.now()))
        act.step(f"begin {name}")
        try:
            yield act
        except Refused as error:
            _end(act, "refused", str(error))
            raise
        except (Error, OSError) as error:
            _end(act, "failed", process.describe(error))
            raise
        except BaseException as error:
            outcome = "cancelled" if isinstance(error, SystemExit | KeyboardInterrupt) else "failed"
            _end(act, outcome, f"{name} was interrupted while it tried to {act._said}: run it again")
            raise
        _end(act, "done", act.sentence)


def _end(act: Act, outcome: str, sentence: str) -> None:
    act.config.path("var", "run", "action.json").unlink(missing_ok=True)
    entry = Entry(times.text(times.now()), act.action, act.by, outcome, sentence, act.details)
    try:
        journal.append(act.config, entry)
    except OSError as error:
        process.log(f"warning: {process.describe(error)}; the outcome of {act.action} is in this log alone: {sentence}")


def _busy(config: Configuration, name: str) -> str:
    now = current(config)
    if now is None:
        return f"another action runs here, expected none for {name}: wait for its end"
    what = f"{now.action} runs here since {now.started}" if now.action else "another action runs here"
    return f"{what}, expected none for {name}: wait for its end"


def current(config: Configuration) -> Running | None:
    """The action that runs; None when none does, whatever a killed one left behind. Unknown yet: an empty `action`."""
    if not process.is_locked(config.path("var", "run", "action.lock")):
        return None
    try:
        return shapes.load(config.path("var", "run", "action.json"), Running)
    except ConfigurationError:
        return Running("", "", 0, times.text(times.now()))
