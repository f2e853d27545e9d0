# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zope-rotate-logs: renames the logs of a partition's Zopes and of its nginx, which both open new ones.

Zopes look before each line whether their files were renamed. NEO's logs are put aside when a Zope starts (instance.py).
"""

import argparse
import signal
from collections.abc import Sequence

from slapos.recipe.erp5 import log_rotation, nginx, process
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope.config import Config


def rotate(config: Config) -> None:
    """All logs, once. Raises CommandError."""
    run = config.run
    paths = [path for zope in config.zopes for path in config.logs(zope.name)]
    paths += [config.path("var", "log", name) for name in log_rotation.NGINX_LOGS]
    log_rotation.rotate(run, log_rotation.settings(paths, config.software.zstd), config.software.logrotate)
    nginx.tell(run / "nginx.pid", signal.SIGUSR1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something was not (one sentence on stderr), 75 another run is under way."""
    parser = argparse.ArgumentParser(prog="zope-rotate-logs", description="Rotate the partition's logs now.")
    parser.add_argument("--config", required=True, help="the partition's etc/zope.json")
    path = parser.parse_args(arguments).config

    def both() -> int:
        config = configuration.load(path)
        return log_rotation.one_at_a_time(config.run, lambda: rotate(config))

    return process.program(both)


if __name__ == "__main__":
    raise SystemExit(main())
