# SPDX-License-Identifier: GPL-2.0-or-later
"""A thread of mariadb-control that goes on with role changes which stopped on the way (mariadb/watch.py)."""

import importlib
import threading
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Busy
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import role_state
from slapos.recipe.erp5.mariadb.config import Config

PERIOD, LONGEST = 2.0, 60.0
"""Seconds between two looks; after failures each pause is twice as long as the one before, up to LONGEST."""
PAUSE = 10.0
"""Seconds before the first new attempt after a failure."""


class Watcher:
    """Looks every PERIOD from start() to stop(); most looks read one small file."""

    def __init__(self, path: Path) -> None:
        self.path, self._ending = path, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._pause, self._said = PAUSE, ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is under way ends with the process, and is gone on with by the next one."""
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.wait(self.look()):
            pass

    def look(self) -> float:
        """Look once; returns the seconds until the next look. Raises nothing."""
        try:
            config = configuration.load(self.path)
            if _is_open(config):
                importlib.import_module("slapos.recipe.erp5.mariadb.watch").look(config, times.now())
        except Busy:
            return PERIOD
        except Exception as error:
            return self._failed(process.describe(error))
        self._pause, self._said = PAUSE, ""
        return PERIOD

    def _failed(self, sentence: str) -> float:
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST)
        if sentence != self._said:
            process.log(f"error: {sentence}; it is tried again, every {LONGEST:g} s at last")
        self._said = sentence
        return pause


def _is_open(config: Config) -> bool:
    """Whether there is anything to go on with: a cheap look."""
    state = role_state.load(config)
    return any((state.hand_over, state.promotion, state.fence_pending, state.fenced))
