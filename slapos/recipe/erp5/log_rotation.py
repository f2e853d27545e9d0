# SPDX-License-Identifier: GPL-2.0-or-later
"""Renames the logs of a partition by logrotate, and compresses older ones: what several services share.

Nothing is lost: servers go on writing into the renamed files until they open new ones, and a renamed file is compressed
one rotation later, which cannot come before there is a new one to rotate.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Busy

NGINX_LOGS = ("nginx-access.log", "nginx-error.log")
KEPT = 30
"""Rotations that are kept of each log: with one a day, a month."""
STAMP_FORMAT = "%Y%m%d-%H%M%S"
"""What logrotate appends to a rotated log's name, after a dash (local time)."""


def one_at_a_time(run: Path, body: Callable[[], None]) -> int:
    """Do `body` unless another rotation is at it, `run` being var/run; an exit code. Raises Error."""
    os.umask(0o077)  # logs hold data
    busy = "the logs are being rotated by another run: nothing to do"
    try:
        with process.lock(run / "rotate-logs.lock", busy):
            body()
    except Busy as error:
        process.log(f"busy: {error}")
        return os.EX_TEMPFAIL
    process.log("logs rotated")
    return 0


def rotate(run: Path, text: str, logrotate: str) -> None:
    """Rename each log that is there and not empty; `text` is of settings(). Raises CommandError."""
    path = run / "logrotate.conf"
    process.write_atomically(path, text)
    program = Path(logrotate, "sbin", "logrotate")
    process.run([program, "--force", "--state", run / "logrotate.status", path], "rotate the logs")


def settings(logs: Iterable[Path], zstd: str) -> str:
    """The text of logrotate's configuration: when to rotate is the scheduler's business, so --force goes with it."""
    paths = "\n".join(f'"{path}"' for path in logs)
    return f"""{paths} {{
  rotate {KEPT}
  dateext
  dateformat -{STAMP_FORMAT}
  missingok
  notifempty
  # The servers make the new file themselves. Until they have, there is nothing to rotate, so the renamed file that
  # they may still write to is not compressed.
  nocreate
  compress
  delaycompress
  compresscmd {zstd}/bin/zstd
  compressoptions -q
  compressext .zst
}}
"""
