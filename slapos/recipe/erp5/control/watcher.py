# SPDX-License-Identifier: GPL-2.0-or-later
"""A thread of the control process that goes on with role changes which stopped on the way (Service.watch)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.errors import Busy

PERIOD, LONGEST = 2.0, 60.0
"""Seconds between two looks; after failures each pause is twice as long as the one before, up to LONGEST."""
PAUSE = 10.0
"""Seconds before the first new attempt after a failure; the service's steady steps are tried every PAUSE for ever."""


@dataclass(frozen=True)
class Failure:
    """A step's last one: what was said, how long to wait, and until when."""

    sentence: str
    pause: float
    until: float


class Watcher:
    """Looks every PERIOD from start() to stop(); most looks read one small file."""

    def __init__(self, service: Service, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.service, self.path, self._clock, self._ending = service, path, clock, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._failures: dict[str, Failure] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is under way ends with the process, and is gone on with by the next one."""
        self._ending.set()

    def _run(self) -> None:
        self.look()
        while not self._ending.wait(PERIOD):
            self.look()

    def look(self) -> None:
        """Look once. Raises nothing."""
        self._attempt("look", self._look)

    def _look(self) -> None:
        config = self.service.load(self.path)
        if self.service.is_open(config):
            self.service.watch(config, times.now(), self._attempt)
        else:
            self._failures.clear()

    def _attempt(self, name: str, step: Callable[[], None]) -> None:
        """Do a step, unless it failed a short while ago; one that finds another action at work has its turn soon."""
        before = self._failures.get(name)
        if before and self._clock() < before.until:
            return
        try:
            step()
        except Busy:
            return
        except Exception as error:
            self._failures[name] = self._failed(name, before, process.describe(error))
        else:
            self._failures.pop(name, None)

    def _failed(self, name: str, before: Failure | None, sentence: str) -> Failure:
        longest = PAUSE if name in self.service.steady else LONGEST
        pause = min(2 * before.pause, longest) if before else PAUSE
        if before is None or sentence != before.sentence:
            process.log(f"error: {sentence}; it is tried again, every {longest:g} s at last")
        return Failure(sentence, pause, self._clock() + pause)
