# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-rotate-logs: renames the logs of MariaDB and nginx, and has both open new ones.

Nothing is lost: both servers go on writing into the renamed files until they open new ones, and a renamed file is
compressed one rotation later, which cannot come before there is a new one to rotate.
"""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import nginx, process
from slapos.recipe.erp5.errors import Busy, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import digest, sql
from slapos.recipe.erp5.mariadb.config import Config

NGINX_LOGS = ("nginx-access.log", "nginx-error.log")
KEPT = 30
"""Rotations that are kept of each log: with one a day, a month."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something was not (one sentence on stderr), 75 another run is under way."""
    parser = argparse.ArgumentParser(prog="mariadb-rotate-logs", description="Rotate the partition's logs now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: one_at_a_time(configuration.load(path)))


def one_at_a_time(config: Config) -> int:
    """Rotate and reopen, unless another run is at it. Raises Error."""
    os.umask(0o077)  # slow queries hold data
    busy = "the logs are being rotated by another run: nothing to do"
    try:
        with process.lock(config.path("var", "run", "rotate-logs.lock"), busy):
            rotate(config)
            reopen(config)
    except Busy as error:
        process.log(f"busy: {error}")
        return os.EX_TEMPFAIL
    process.log("logs rotated")
    return 0


def rotate(config: Config) -> None:
    """Rename each log that is there and not empty. Raises CommandError."""
    settings = config.path("var", "run", "logrotate.conf")
    process.write_atomically(settings, logrotate_settings(config))
    program = Path(config.software.logrotate, "sbin", "logrotate")
    status = config.path("var", "run", "logrotate.status")
    process.run([program, "--force", "--state", status, settings], "rotate the logs")


def reopen(config: Config) -> None:
    """Have MariaDB and nginx open new logs; one that is down opens its own when it starts. Raises ServerError."""
    if config.socket.exists():
        try:
            connection = sql.connect(config.defaults_file)
        except sql.AccessDenied:
            raise
        except ServerError as error:
            process.log(f"MariaDB opens its new logs when it starts: {error}")
        else:
            with connection:
                sql.reopen_logs(connection)
    nginx.tell(config.nginx_pid, signal.SIGUSR1)


def logrotate_settings(config: Config) -> str:
    """The text of logrotate's configuration: when to rotate is the scheduler's business, so --force goes with it."""
    names = [config.error_log, config.slow_log, *(config.path("var", "log", name) for name in NGINX_LOGS)]
    paths = "\n".join(f'"{path}"' for path in names)
    return f"""{paths} {{
  rotate {KEPT}
  dateext
  dateformat -{digest.STAMP_FORMAT}
  missingok
  notifempty
  # The servers make the new file themselves. Until they have, there is nothing to rotate, so the renamed file that
  # they may still write to is not compressed.
  nocreate
  compress
  delaycompress
  compresscmd {config.software.zstd}/bin/zstd
  compressoptions -q
  compressext .zst
}}
"""


if __name__ == "__main__":
    raise SystemExit(main())
