# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks every few seconds at how the database replicates, and keeps an hour of it: for the page and for takeovers.

A thread of mariadb-control. Other programs read what it wrote: the last look, and the last position of a primary that
may be dead by now (`latest`), which tells how much of it never arrived here.
"""

import contextlib
import threading
import typing
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import ConfigurationError, Error, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import replication_status, sql_replication
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.replication_status import ReplicationStatus, Upstream
from slapos.recipe.erp5.mariadb.sql_replication import Source

T = typing.TypeVar("T")
PERIOD = 5.0
"""Seconds between two looks."""
HOUR = timedelta(hours=1)
RECONNECT = 12
"""Looks after which the primary is connected to anew: a certificate that was revoked meanwhile is good no longer."""
WRITTEN_EVERY = 12
"""Looks between two times that the whole hour is written; the last look is written each time."""


@dataclass(frozen=True)
class Sample:
    """One look at a replica: `at` (times.py), lag in seconds (None: unknown), what was received, what was applied.

    `primary_pos` is how far its primary was then, None when that did not answer. A primary has no lag and receives
    nothing; its `slave_pos` is what it has from an earlier primary.
    """

    at: str
    lag: int | None = None
    gtid_io_pos: str = ""
    slave_pos: str = ""
    primary_pos: str | None = None


@dataclass(frozen=True)
class Latest:
    """The last look, and the last one at which the primary `address` told its position."""

    sample: Sample | None = None
    known: Sample | None = None
    address: str = ""


@dataclass(frozen=True)
class Hour:
    """The looks of the last hour, oldest first."""

    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Look:
    """All that the last look has found, for the page: it is too much to keep."""

    at: datetime
    status: ReplicationStatus


def latest(config: Config) -> Latest:
    """What mariadb-control saw last, by its file; nothing when it never looked."""
    return _load(_latest_path(config), Latest)


def _latest_path(config: Config) -> Path:
    return config.path("var", "run", "sample.json")


def _hour_path(config: Config) -> Path:
    return config.path("var", "run", "samples.json")


def _load(path: Path, cls: type[T]) -> T:
    try:
        return shapes.load(path, cls)
    except ConfigurationError:
        return cls()


# ---- decide


def sample(status: ReplicationStatus, now: datetime) -> Sample:
    """What is kept of a look."""
    if status.own is None:
        return Sample(times.text(now))
    source = status.own.sources[0] if status.own.sources else None
    facts = status.upstream.facts if status.upstream else None
    return Sample(
        at=times.text(now),
        lag=replication_status.known_lag(source) if source else None,
        gtid_io_pos=source.gtid_io_pos if source else "",
        slave_pos=status.own.facts.slave_pos,
        primary_pos=facts.position if facts else None,
    )


def following(before: Latest, new: Sample, status: ReplicationStatus) -> Latest:
    """What is known after a look; what a primary said last is forgotten with the primary."""
    own = status.own
    if own is None:
        return Latest(new, before.known, before.address)
    address = own.sources[0].address if own.sources else ""
    if new.primary_pos is not None:
        return Latest(new, new, address)
    return Latest(new, before.known if address == before.address else None, address)


def within_the_hour(samples: Iterable[Sample], now: datetime) -> tuple[Sample, ...]:
    """Those that are not older, nor from a clock that was ahead."""
    return tuple(one for one in samples if timedelta(0) <= now - times.parse(one.at) <= HOUR)


# ---- act


class Sampler:
    """The thread, its last look, and its hour. `period` is in seconds."""

    def __init__(self, path: Path, period: float = PERIOD, clock: Callable[[], datetime] = times.now) -> None:
        self.path, self._period, self._clock = path, period, clock
        self.look: Look | None = None
        self._latest, self._samples = Latest(), deque[Sample](maxlen=int(HOUR.total_seconds() / PERIOD) + 1)
        self._lock, self._wake, self._stopped = threading.Lock(), threading.Event(), False
        self._primary, self._asked = _Primary(), 0
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and write down what there is."""
        self._stopped = True
        self._wake.set()
        self._thread.join(2 * replication_status.TIMEOUT)
        with contextlib.suppress(Error, OSError):
            self._write(configuration.load(self.path))

    def wake(self) -> None:
        """Look now: something has changed."""
        self._wake.set()

    def hour(self) -> tuple[Sample, ...]:
        with self._lock:
            return within_the_hour(tuple(self._samples), self._clock())

    def _run(self) -> None:
        self._resume()
        said = ""
        while not self._stopped:
            try:
                self.once()
                said = ""
            except Exception as error:  # a thread that ends would leave the page with an old truth
                before, said = said, f"error: nobody looks at the replication now: {process.describe(error)}"
                if said != before:
                    process.log(said)
            self._wake.wait(self._period)
            self._wake.clear()
        self._primary.close()

    def _resume(self) -> None:
        """Go on where the last mariadb-control ended."""
        with contextlib.suppress(Error):
            config = configuration.load(self.path)
            self._latest = latest(config)
            with self._lock:
                self._samples.extend(within_the_hour(_load(_hour_path(config), Hour).samples, self._clock()))

    def once(self) -> None:
        """One look. Raises Error, OSError."""
        config, now = configuration.load(self.path), self._clock()
        status = replication_status.gather(config, now, self._primary.ask)
        new = sample(status, now)
        self.look, self._latest = Look(now, status), following(self._latest, new, status)
        with self._lock:
            self._samples.append(new)
        shapes.save(_latest_path(config), self._latest, durable=False)
        self._asked += 1
        if self._asked % WRITTEN_EVERY == 0:
            self._write(config)

    def _write(self, config: Config) -> None:
        shapes.save(_hour_path(config), Hour(self.hour()), durable=False)


class _Primary:
    """A connection to the primary that is kept for some looks."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._source, self._count = "", 0

    def ask(self, config: Config, source: Source) -> Upstream:
        """What it says now, as replication_status.ask_primary() has it."""
        if self._count >= RECONNECT or self._source != f"{source.user}@{source.address}":
            self.close()
        try:
            if self._connection is None:
                self._connection = replication_status.connect_primary(config, source)
                self._source, self._count = f"{source.user}@{source.address}", 0
            self._count += 1
            return Upstream(facts=sql_replication.server_facts(self._connection))
        except Error as error:
            kept = self._count > 1 and isinstance(error, ServerError) and self._connection is not None
            self.close()
            # A connection that was kept may be all that broke.
            return self.ask(config, source) if kept else replication_status.silent(error)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection._force_close()  # a goodbye could take long
        self._connection, self._count = None, 0
