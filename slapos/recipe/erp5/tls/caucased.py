# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition's service: its own certificate authority, or with an external one a process that waits.

A service that ends would be reported, so with `caucased.external-caucased-url` it looks at its configuration now and
then; it imports nothing large for that.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.tls.partition import Partition

Load = Callable[[Path], Partition]
"""Reads a service's configuration; raises ConfigurationError."""

LOOK_EVERY = 30.0
"""Seconds after which a changed configuration has been noticed at the latest."""


def run(path: Path, load: Load, with_exchange: bool = False) -> None:
    """Be the authority that the configuration at `path` asks for, or none, until a signal. Raises Error.

    `with_exchange`: certificates and authorities are exchanged at its own address too (exchange.py).
    """
    os.umask(0o077)
    config = load(path)
    watch = Watch(path, load, config)
    if config.caucased.external_caucased_url:
        _end_at_once()
        process.log(f"no authority of our own, as {config.caucased.external_caucased_url} is used")
        while True:
            watch.wait(LOOK_EVERY)
    from slapos.recipe.erp5.tls import exchange, own_authority

    with process.step("prepare the certificate authority"):
        own_authority.prepare(config, times.now())
    _end_at_once()
    around = partial(exchange.Exchange, lambda: load(path), config.terms) if with_exchange else None
    own_authority.serve(config, watch.until, around)


def _end_at_once() -> None:
    """Nothing has to be cleaned up, not even SQLite's transactions; caucase's own end would wait for its clients."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))


class Watch:
    """Begins the program anew, under the same process number, when it has to read anew what it read at its start."""

    def __init__(self, path: Path, load: Load, config: Partition) -> None:
        self.path, self.load, self.config = path, load, config

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
            new = self.load(self.path)
            if (new.caucased.external_caucased_url, new.network) != (
                self.config.caucased.external_caucased_url,
                self.config.network,
            ):
                return "the configuration has changed"
        if self.config.caucased.external_caucased_url:
            return ""
        from slapos.recipe.erp5.tls import own_authority

        return "the signing user's certificate is to be renewed" if own_authority.is_due(self.config, now) else ""
