# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a program of ours that is killed at a given place: python -m tests.service.fault PLACE VICTIM MODULE ARGUMENTS.

PLACE is before:MODULE:FUNCTION or after:MODULE:FUNCTION, of slapos.recipe.erp5; empty: nowhere. VICTIM is empty (the
program itself), or a file with the id of the process that is killed, which is waited for; each dies once. A class's
method is named as MODULE:CLASS.METHOD.
"""

import importlib
import os
import runpy
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

PATIENCE = 60


def kill(victim: str) -> None:
    """SIGKILL, and wait until nobody runs any more."""
    if not victim:
        os.kill(os.getpid(), signal.SIGKILL)
    pid = int(Path(victim).read_text())
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}") and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, f"process {pid} did not end within {PATIENCE} s of SIGKILL"
        time.sleep(0.005)


def arm(place: str, victim: str) -> None:
    """Let the first call of the function end the victim."""
    when, module, name = place.split(":")
    holder: object = importlib.import_module(f"slapos.recipe.erp5.{module}")
    *path, name = name.split(".")
    for part in path:
        holder = getattr(holder, part)
    original, done = getattr(holder, name), []

    def instead(*arguments, **options):
        if when == "before" and not done:
            done.append(1)
            kill(victim)
        result = original(*arguments, **options)
        if when == "after" and not done:
            done.append(1)
            kill(victim)
        return result

    setattr(holder, name, instead)


def hurry() -> None:
    """Let mariadb-control not wait as long as in production."""
    watch, watcher = (
        importlib.import_module(f"slapos.recipe.erp5.{name}") for name in ("mariadb.watch", "control.watcher")
    )
    watch.SILENCE = timedelta(seconds=2)  # type: ignore[attr-defined]
    watcher.PERIOD, watcher.PAUSE, watcher.LONGEST = 0.2, 0.5, 1.0  # type: ignore[attr-defined]


if __name__ == "__main__":
    place, victim, module, *arguments = sys.argv[1:]
    hurry()
    if place:
        arm(place, victim)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")
