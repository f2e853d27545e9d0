# SPDX-License-Identifier: GPL-2.0-or-later
"""The nginx of a partition, found by its pid file: told to read its files anew, or to open its logs anew."""

import os
import signal
from pathlib import Path


def master(pid_file: Path) -> int | None:
    """The process number in nginx's pid file, None when there is none or it is not an nginx any more."""
    try:
        number = int(pid_file.read_text())
        name = Path("/proc", str(number), "comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return number if name == "nginx" else None


def tell(pid_file: Path, what: signal.Signals) -> bool:
    """Send nginx a signal, SIGHUP for its files and SIGUSR1 for its logs; whether it was there."""
    number = master(pid_file)
    if number is None:
        return False
    os.kill(number, what)
    return True
