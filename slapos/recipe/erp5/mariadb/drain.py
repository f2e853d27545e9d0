# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets a replica apply all that it has received, and receive no more: before it is promoted, or follows another one."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import gtid, relay, sql_replication, sql_role
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.gtid import Gtid
from slapos.recipe.erp5.mariadb.sql_replication import Source

POLL = 0.01
STALLED = 30.0
"""Seconds without any transaction after which the rest of a primary that answers is not waited for any longer."""


@dataclass(frozen=True)
class View:
    """The replica at a moment: its source, and how far it has received and applied."""

    source: Source
    received: tuple[Gtid, ...]
    applied: tuple[Gtid, ...]

    @property
    def left(self) -> int:
        """Transactions that were received and are not applied yet."""
        return gtid.count(self.received, self.applied)


def look(connection: Connection) -> View:
    """Raises ServerError, also when the server is no replica."""
    sources = sql_replication.sources(connection)
    if not sources:
        raise ServerError(
            "this database is no replica any more, expected one: somebody else changes its role; look again"
        )
    applied = gtid.parse(sql_replication.server_facts(connection).slave_pos)
    return View(sources[0], gtid.parse(sources[0].gtid_io_pos), applied)


@contextlib.contextmanager
def drained(
    config: Config, act: Act, connection: Connection, target: str = "", forced: bool = False
) -> Iterator[tuple[Gtid, ...]]:
    """Inside, the replica has applied all that was received, up to `target` at least, and receives nothing.

    Yields what it has. On the way out of an exception it receives again. `forced`: what cannot be applied is left out.
    Raises Error.
    """
    try:
        _receive_until(act, connection, gtid.parse(target), forced)
        _begin_applying(config, connection)
        sql_role.stop_receiving(connection)
        _apply_all(act, connection, forced)
        _apply_kept(config, act, connection, forced)
        yield gtid.parse(sql_replication.server_facts(connection).position)
    except BaseException:
        with contextlib.suppress(ServerError, OSError):
            receive_again(config, connection)
        raise


def receive_again(config: Config, connection: Connection) -> None:
    """Let a replica go on, with nothing lost that it has received. Raises ServerError, OSError."""
    sources = sql_replication.sources(connection)
    if not sources or sources[0].io.running != "No":
        return
    if sources[0].sql.running == "No":
        relay.keep(config)  # or MariaDB would throw away what was not applied
        if sources[0].sql.number:
            sql_role.start_receiving(connection)  # what cannot be applied cannot be applied now either
            return
        sql_role.start_replica(connection)
    else:
        sql_role.start_receiving(connection)


# ---- steps


def _receive_until(act: Act, connection: Connection, target: tuple[Gtid, ...], forced: bool) -> None:
    """Wait until all that the primary has at `target` is here; it writes no more."""
    if not target:
        return

    def is_received(view: View) -> bool:
        return gtid.contains((*view.received, *view.applied), target)

    progress = _Progress(act, "receive the rest from the primary")
    try:
        _wait(
            connection,
            is_received,
            lambda view: progress(gtid.count(target, view.received)),
            lambda view: view.received,
            "the rest of what the fenced primary has did not come",
            lambda view: (
                "" if view.source.io.running != "No" else str(view.source.io) or "the thread that receives is stopped"
            ),
        )
    except ServerError as error:
        if not forced:
            raise
        process.log(f"warning: {error}; as it is forced, it goes on without them")


def _begin_applying(config: Config, connection: Connection) -> None:
    """See that the applying thread runs before the other one stops: with neither, relay logs are deleted (relay.py)."""
    view = look(connection)
    if view.source.sql.running == "Yes":
        return
    if view.source.io.running == "No":
        relay.keep(config)
    if view.source.sql.number == 0:
        sql_role.start_applying(connection)


def _apply_all(act: Act, connection: Connection, forced: bool) -> None:
    progress = _Progress(act, "apply what was received")
    try:
        _wait(
            connection,
            lambda view: view.left == 0,
            lambda view: progress(view.left),
            lambda view: view.applied,
            "what was received could not be applied",
            lambda view: "" if view.source.sql.running == "Yes" else str(view.source.sql) or "the thread is stopped",
            patience=None,
        )
    except ServerError as error:
        if not forced:
            raise
        process.log(f"warning: {error}; as it is forced, it goes on without them")


class _Progress:
    """Says how much of a step is done: the most that was left is all there was."""

    def __init__(self, act: Act, sentence: str) -> None:
        self._act, self._sentence, self._total = act, sentence, 0

    def __call__(self, left: int) -> None:
        self._total = max(self._total, left)
        self._act.step(self._sentence, self._total - left, self._total)


def _apply_kept(config: Config, act: Act, connection: Connection, forced: bool) -> None:
    """Apply what an earlier run of the server had received: it is kept where MariaDB deletes it (relay.py)."""
    found = relay.missing(config, sql_replication.server_facts(connection).position)
    if not found:
        return
    act.step(f"apply {len(found)} transactions that were received before the server was restarted")
    try:
        sql_role.stop_replica(connection)
        relay.apply(config, connection, found)
    except ServerError as error:
        if not forced:
            raise
        process.log(f"warning: {error}; as it is forced, it goes on without them")


def _wait(
    connection: Connection,
    done: Callable[[View], bool],
    tell: Callable[[View], None],
    progress: Callable[[View], object],
    failed: str,
    broken: Callable[[View], str],
    patience: float | None = STALLED,
) -> None:
    """Poll until `done`. Raises ServerError when `broken` says why, or nothing moves for `patience` seconds."""
    view = look(connection)
    moved, before, told = time.monotonic(), progress(view), 0.0
    while not done(view):
        now = time.monotonic()
        if reason := broken(view):
            raise ServerError(
                f"{failed} ({reason}), expected all of it: this database is a replica still, and not writable; remove "
                "the cause, or force the action"
            )
        if (present := progress(view)) != before:
            moved, before = now, present
        if patience is not None and now - moved > patience:
            raise ServerError(
                f"{failed} (nothing came for {patience:g} s), expected all of it: this database is a replica still, "
                "and not writable; look at the primary and the way to it, or force the action"
            )
        if now - told > 0.5:
            tell(view)
            told = now
        time.sleep(POLL)
        view = look(connection)
