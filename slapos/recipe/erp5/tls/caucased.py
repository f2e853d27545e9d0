# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-caucased: the partition's own certificate authority, or with an external one a process that waits.

A service that ends would be reported, so with `caucased.external-caucased-url` it looks at its configuration now and
then; it imports nothing large for that.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config

LOOK_EVERY = 30.0
"""Seconds after which a changed configuration has been noticed at the latest."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 it cannot serve (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog="mariadb-caucased", description="Run the partition's certificate authority.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = Path(parser.parse_args(arguments).config).absolute()
    return process.program(lambda: run(path))


def run(path: Path) -> None:
    """Be the authority that the configuration at `path` asks for, or none. Raises Error."""
    os.umask(0o077)
    config = configuration.load(path)
    watch = Watch(path, config)
    if config.caucased.external_caucased_url:
        _end_at_once()
        process.log(f"no authority of our own, as {config.caucased.external_caucased_url} is used")
        while True:
            watch.wait(LOOK_EVERY)
    from slapos.recipe.erp5.tls import own_authority

    with process.step("prepare the certificate authority"):
        own_authority.prepare(config, times.now())
    _end_at_once()
    own_authority.serve(config, watch.until)


def _end_at_once() -> None:
    """Nothing has to be cleaned up, not even SQLite's transactions; caucase's own end would wait for its clients."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))


class Watch:
    """Begins the program anew, under the same process number, when it has to read anew what it read at its start."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config

    def until(self, deadline: datetime) -> datetime:
        """What caucased's main loop waits with: returns the present when `deadline` has passed."""
        while (now := times.now()) < deadline:
            self.wait(min(LOOK_EVERY, (deadline - now).total_seconds()))
        return now

    def wait(self, seconds: float) -> None:
        """Wait, then look."""
        time.sleep(seconds)
        reason = self.reason(times.now())
        if reason:
            process.log(f"beginning anew: {reason}")
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def reason(self, now: datetime) -> str:
        """Why to begin anew, empty when there is no reason; a configuration that cannot be read is none."""
        with contextlib.suppress(ConfigurationError):
            new = configuration.load(self.path)
            if (new.caucased.external_caucased_url, new.network) != (
                self.config.caucased.external_caucased_url,
                self.config.network,
            ):
                return "the configuration has changed"
        if self.config.caucased.external_caucased_url:
            return ""
        from slapos.recipe.erp5.tls import own_authority

        return "the signing user's certificate is to be renewed" if own_authority.is_due(self.config, now) else ""


if __name__ == "__main__":
    raise SystemExit(main())
