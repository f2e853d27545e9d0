# SPDX-License-Identifier: GPL-2.0-or-later
"""How far long work on a stream is: lines in the log now and then, and for a new replica a file that others read."""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.words import size_text

LOG_PERIOD = 10.0
"""Seconds between two lines of progress in the log."""
WRITE_PERIOD = 1.0
"""Seconds between two changes of the state file while bytes pass."""
WINDOW = 30.0
"""Seconds over which a rate is measured."""
COMPLETE = "complete"
"""The stage of a bootstrap that is done."""


class Meter:
    """Measures a stream that passes, and logs how far it is, at most once in LOG_PERIOD.

    `verb` is what is done to the bytes, such as "copied"; `total` are all of them, 0 when that is not known.
    """

    def __init__(self, verb: str, total: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.verb, self.total, self.clock, self.done, self.rate = verb, total, clock, 0, 0.0
        self.now = self._logged = clock()
        self._samples = deque([(self.now, 0)])

    def __call__(self, done: int, compressed: int | None = None) -> None:
        """`done` bytes have passed so far, which are so many when `compressed`."""
        self.done, self.now = done, self.clock()
        self.rate = self._measure()
        if self.now - self._logged >= LOG_PERIOD:
            self._logged = self.now
            packed = "" if compressed is None else f", compressed to {size_text(compressed)}"
            process.log(f"{self.verb} {text(self.done, self.total, self.rate)}{packed}")

    def _measure(self) -> float:
        """Bytes a second, since the oldest sample that is not older than WINDOW; a sample a second is kept."""
        while len(self._samples) > 1 and self.now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        then, before = self._samples[0]
        if self.now - self._samples[-1][0] >= 1:
            self._samples.append((self.now, self.done))
        return (self.done - before) / (self.now - then) if self.now > then else 0.0


def text(done: int, total: int, rate: float) -> str:
    """Such as `1.4 GiB of 2.8 GiB, 50 %, 100.0 MiB/s`."""
    share = f" of {size_text(total)}, {100 * done // total} %" if total else ""
    return f"{size_text(done)}{share}, {size_text(rate)}/s"


# ---- the state of a new replica


@dataclass(frozen=True)
class State:
    """How far the making of a replica is: the file `config.bootstrap_state`.

    `stage` is what is being done, or COMPLETE, `method` the way of it, `done` and `total` the stage's bytes (a total
    of 0 is not known), `rate` bytes a second, `since` when it all began, `updated` when anything was last known,
    `error` why the last attempt of `attempts` failed: it stays until one succeeds.
    """

    stage: str = ""
    method: str = ""
    done: int = 0
    total: int = 0
    rate: int = 0
    since: str = ""
    updated: str = ""
    error: str = ""
    attempts: int = 0


def load(path: Path) -> State | None:
    """What the file says; None when there is none, or none that can be used."""
    try:
        return shapes.load(path, State)
    except ConfigurationError:
        return None


def save(path: Path, state: State) -> None:
    """Replace the file, whole or not at all; it needs not survive a power cut, so nothing waits for the disk."""
    shapes.save(path, state, durable=False)


class Progress:
    """Keeps the state file of a replica under way; after a killed run it goes on counting."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = times.now
    ) -> None:
        self.path, self.clock, self.now = path, clock, now
        before = load(path)
        if before is None or before.stage == COMPLETE:
            before = State(since=times.text(now()))
        self.state = State(since=before.since, attempts=before.attempts, error=before.error)
        self._meter, self._written = Meter("", clock=clock), clock() - WRITE_PERIOD

    def attempt(self) -> None:
        """One more attempt begins."""
        self._change(attempts=self.state.attempts + 1, method="")

    def method(self, method: str) -> None:
        """What follows is this method's."""
        self._change(method=method)

    def begin(self, stage: str, total: int = 0, verb: str = "received") -> None:
        """The next stage, of `total` bytes if it has any; `verb` is what the log says is done to them."""
        self._meter = Meter(verb, total, self.clock)
        self._change(stage=stage, done=0, total=total, rate=0)

    def __call__(self, done: int, compressed: int | None = None) -> None:
        """So many bytes of the stage are done; what they are when compressed is for the log."""
        meter = self._meter
        meter(done, compressed)
        if meter.now - self._written >= WRITE_PERIOD:
            self._written = meter.now
            self._change(done=done, rate=round(meter.rate))

    def failed(self, sentence: str) -> None:
        """The attempt failed; the next one comes after a pause."""
        self._change(stage="wait for the next attempt", done=0, total=0, rate=0, error=sentence)

    def complete(self) -> None:
        """The replica is made."""
        self._change(stage=COMPLETE, done=0, total=0, rate=0, error="")

    def _change(self, **values: object) -> None:
        self.state = dataclasses.replace(self.state, updated=times.text(self.now()), **values)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):  # a disk that is full is no reason to end what may still succeed
            save(self.path, self.state)
