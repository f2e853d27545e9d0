# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-rotate-logs: renames the logs of MariaDB and nginx, and has both open new ones (log_rotation.py)."""

import argparse
import signal
from collections.abc import Sequence

from slapos.recipe.erp5 import log_rotation, nginx, process
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something was not (one sentence on stderr), 75 another run is under way."""
    parser = argparse.ArgumentParser(prog="mariadb-rotate-logs", description="Rotate the partition's logs now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: one_at_a_time(configuration.load(path)))


def one_at_a_time(config: Config) -> int:
    """Rotate and reopen, unless another run is at it. Raises Error."""

    def both() -> None:
        rotate(config)
        reopen(config)

    return log_rotation.one_at_a_time(config.path("var", "run"), both)


def rotate(config: Config) -> None:
    """Rename each log that is there and not empty. Raises CommandError."""
    log_rotation.rotate(config.path("var", "run"), logrotate_settings(config), config.software.logrotate)


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
    """The text of logrotate's configuration."""
    others = (config.path("var", "log", name) for name in log_rotation.NGINX_LOGS)
    return log_rotation.settings([config.error_log, config.slow_log, *others], config.software.zstd)


if __name__ == "__main__":
    raise SystemExit(main())
