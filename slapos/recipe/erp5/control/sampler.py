# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at a service every few seconds, and keeps an hour of it: for the page, and for whoever decides on an action.

A thread of the control process. How to look, and what to keep of it, is the service's Sight.
"""

import contextlib
import threading
import typing
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.errors import ConfigurationError, Error

if typing.TYPE_CHECKING:
    from slapos.recipe.erp5.control.service import Service

T = typing.TypeVar("T")
PERIOD = 5.0
"""Seconds between two looks."""
HOUR = timedelta(hours=1)
WRITTEN_EVERY = 12
"""Looks between two times that the whole hour is written; what the Sight remembers is written each time."""


@dataclass(frozen=True)
class Sample:
    """What is kept of a look: when (times.py), and the lag in seconds (None: unknown, or none to have).

    A service's own adds to it.
    """

    at: str
    lag: int | None = None


@dataclass(frozen=True)
class Hour:
    """The looks of the last hour, oldest first."""

    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Look:
    """All that the last look has found, for the page: `status` is too much to keep."""

    at: datetime
    sample: Sample
    status: Any


class Sight:
    """How to look at a service; used by one thread. `subject` completes "nobody looks at ... now".

    `hour` is the shape of what is kept, as Hour; `longest` is how long a look takes at most, in seconds.
    """

    subject: str
    longest: float
    hour: type = Hour

    def resume(self, config: Configuration) -> None:
        """Go on where the last process ended. Raises Error."""

    def look(self, config: Any, now: datetime) -> Look:
        """Look once. Raises Error, OSError."""
        raise NotImplementedError

    def remember(self, config: Configuration) -> None:
        """Write down what other programs are to know of the last look. Raises OSError."""

    def close(self) -> None:
        """Let go of what is kept open. Raises nothing."""


def read(path: Path, shape: type[T]) -> T:
    """What was kept at `path`, or the empty one."""
    try:
        return shapes.load(path, shape)
    except ConfigurationError:
        return shape()


def within_the_hour(samples: Iterable[Sample], now: datetime) -> tuple[Sample, ...]:
    """Those that are not older, nor from a clock that was ahead."""
    return tuple(one for one in samples if timedelta(0) <= now - times.parse(one.at) <= HOUR)


class Sampler:
    """The thread, its last look, and its hour. `period` is in seconds."""

    def __init__(
        self, service: "Service", path: Path, period: float = PERIOD, clock: Callable[[], datetime] = times.now
    ) -> None:
        self.path, self._period, self._clock = path, period, clock
        self.look: Look | None = None
        self._service, self._sight = service, service.sight()
        self._samples = deque[Sample](maxlen=int(HOUR.total_seconds() / PERIOD) + 1)
        self._lock, self._wake, self._stopped = threading.Lock(), threading.Event(), False
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and write down what there is."""
        self._stopped = True
        self._wake.set()
        self._thread.join(2 * self._sight.longest)
        with contextlib.suppress(Error, OSError):
            self._write(self._service.load(self.path))

    def wake(self) -> None:
        """Look now: something has changed."""
        self._wake.set()

    def hour(self) -> tuple[Sample, ...]:
        with self._lock:
            return within_the_hour(tuple(self._samples), self._clock())

    def _run(self) -> None:
        self._resume()
        said = ""
        while not self._stopped:
            try:
                self.once()
                said = ""
            except Exception as error:  # a thread that ends would leave the page with an old truth
                before, said = said, f"error: nobody looks at {self._sight.subject} now: {process.describe(error)}"
                if said != before:
                    process.log(said)
            self._wake.wait(self._period)
            self._wake.clear()
        self._sight.close()

    def _resume(self) -> None:
        """Go on where the last control process ended."""
        with contextlib.suppress(Error):
            config = self._service.load(self.path)
            self._sight.resume(config)
            with self._lock:
                self._samples.extend(within_the_hour(read(_path(config), self._sight.hour).samples, self._clock()))

    def once(self) -> None:
        """One look. Raises Error, OSError."""
        config = self._service.load(self.path)
        self.look = self._sight.look(config, self._clock())
        with self._lock:
            self._samples.append(self.look.sample)
        self._sight.remember(config)
        self._looks += 1
        if self._looks % WRITTEN_EVERY == 0:
            self._write(config)

    def _write(self, config: Configuration) -> None:
        shapes.save(_path(config), self._sight.hour(self.hour()), durable=False)


def _path(config: Configuration) -> Path:
    return config.path("var", "run", "samples.json")
