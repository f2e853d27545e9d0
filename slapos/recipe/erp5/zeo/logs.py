# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zeo-rotate-logs: renames the logs of nginx, and has it open new ones; ZEO rotates its own (`etc/zeo.conf`).

A signal that has ZEO open its log again would kill one that is still reading its databases.
"""

import argparse
import signal
from collections.abc import Sequence

from slapos.recipe.erp5 import log_rotation, nginx, process
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo.config import Config


def rotate(config: Config) -> int:
    """Rotate, and tell nginx, unless another run is at it; an exit code. Raises Error."""

    def body() -> None:
        logs = [config.path("var", "log", name) for name in log_rotation.NGINX_LOGS]
        settings = log_rotation.settings(logs, config.software.zstd)
        log_rotation.rotate(config.path("var", "run"), settings, config.software.logrotate)
        nginx.tell(config.nginx_pid, signal.SIGUSR1)

    return log_rotation.one_at_a_time(config.path("var", "run"), body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something was not (one sentence on stderr), 75 another run is under way."""
    parser = argparse.ArgumentParser(prog="zeo-rotate-logs", description="Rotate the partition's logs now.")
    parser.add_argument("--config", required=True, help="the partition's etc/zeo.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: rotate(configuration.load(path)))


if __name__ == "__main__":
    raise SystemExit(main())
