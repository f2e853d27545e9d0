# SPDX-License-Identifier: GPL-2.0-or-later
"""How the sampler looks at replication, and what is kept of it: for the page, and for takeovers.

Other programs read what it wrote: the last look, and the last position of a primary that may be dead by now (`latest`),
which tells how much of it never arrived here.
"""

import contextlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import sampler
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.sampler import Look
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.mariadb import replication_status, sql_replication
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.replication_status import ReplicationStatus, Upstream
from slapos.recipe.erp5.mariadb.sql_replication import Source

RECONNECT = 12
"""Looks after which the primary is connected to anew: a certificate that was revoked meanwhile is good no longer."""


@dataclass(frozen=True)
class Sample(sampler.Sample):
    """One look at a replica: what was received, what was applied.

    `primary_pos` is how far its primary was then, None when that did not answer. A primary has no lag and receives
    nothing; its `slave_pos` is what it has from an earlier primary.
    """

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


def latest(config: Configuration) -> Latest:
    """What mariadb-control saw last, by its file; nothing when it never looked."""
    return sampler.read(_latest_path(config), Latest)


def _latest_path(config: Configuration) -> Path:
    return config.path("var", "run", "sample.json")


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


# ---- act


class Sight(sampler.Sight):
    """Looks at our server, and by a connection that it keeps at our primary."""

    subject = "the replication"
    longest = replication_status.TIMEOUT
    hour = Hour

    def __init__(self) -> None:
        self._latest, self._primary = Latest(), _Primary()

    def resume(self, config: Configuration) -> None:
        self._latest = latest(config)

    def look(self, config: Config, now: datetime) -> Look:
        status = replication_status.gather(config, now, self._primary.ask)
        new = sample(status, now)
        self._latest = following(self._latest, new, status)
        return Look(now, new, status)

    def remember(self, config: Configuration) -> None:
        shapes.save(_latest_path(config), self._latest, durable=False)

    def close(self) -> None:
        self._primary.close()


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
