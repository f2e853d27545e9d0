# SPDX-License-Identifier: GPL-2.0-or-later
"""What actions on a replica look at before they begin, and what speaks against them. Gathers, then decides."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.preflight import FORCE, INFO, REFUSE, WARN, Reason
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import (
    gtid,
    manifest,
    relay,
    replication_status,
    replication_verdict,
    role_state,
    sampler,
    store,
)
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.gtid import Gtid
from slapos.recipe.erp5.mariadb.replication_status import Own, ReplicationStatus
from slapos.recipe.erp5.mariadb.role_state import RoleState
from slapos.recipe.erp5.words import duration

# ---- gather


@dataclass(frozen=True)
class LastKnown:
    """What the primary had at the moment `at` (times.py), when it was asked the last time; empty: never."""

    position: str = ""
    at: str = ""
    lag: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What actions look at before they begin: the same as the promise, what is known of the role, and what is kept.

    `kept` is what was received before a restart and not applied (relay.py), `backup` when the newest was begun.
    """

    now: datetime
    status: ReplicationStatus
    role: RoleState
    control_url: str = dataclasses.field(default="", repr=False)
    kept: tuple[Gtid, ...] = ()
    known: LastKnown = LastKnown()
    backup: str = ""


def gather(config: Config, now: datetime, control_url: str = "") -> Snapshot:
    """Look; `control_url` as given with the action. Raises ConfigurationError."""
    role = role_state.load(config)
    status = replication_status.gather(config, now)
    return Snapshot(
        now=now,
        status=status,
        role=role,
        control_url=role_state.control_url(config, role, control_url),
        kept=relay.reached(config),
        known=_last_known(config, status.own),
        backup=_newest_backup(config),
    )


def _last_known(config: Config, own: Own | None) -> LastKnown:
    """As mariadb-control saw it last, of the primary that the replica has now."""
    found = sampler.latest(config)
    if not (
        own and own.sources and found.known and found.known.primary_pos and found.address == own.sources[0].address
    ):
        return LastKnown()
    return LastKnown(found.known.primary_pos, found.known.at, found.known.lag)


def _newest_backup(config: Config) -> str:
    entries: list[manifest.Entry] = []
    for where in store.all_of(config):
        try:
            entries += manifest.load(where.folder)
        except BackupError:
            continue  # the promise mariadb-backup says so
    return max((entry.start for entry in entries), default="")


# ---- decide: what every action on a replica looks at


def received(snapshot: Snapshot, own: Own) -> tuple[Gtid, ...]:
    """How far the replica has received, whether it is applied or not."""
    io = gtid.parse(own.sources[0].gtid_io_pos) if own.sources else ()
    return gtid.furthest((*io, *gtid.parse(own.facts.position), *snapshot.kept))


def replica_problems(snapshot: Snapshot, action: str) -> Iterator[Reason]:
    """Why this is nothing for an action that needs a replica which replicates as ours do."""
    own = snapshot.status.own
    if own is None:
        yield Reason(
            REFUSE,
            f"no server answers on {snapshot.status.socket} ({snapshot.status.error}), expected this replica's: start "
            "the service mariadb",
        )
    elif not own.sources:
        yield Reason(REFUSE, f"this database is a primary, expected a replica: there is nothing to {action}")
    elif len(own.sources) > 1 or own.sources[0].name:
        names = ", ".join(f"{source.name!r} ({source.address})" for source in own.sources)
        yield Reason(
            REFUSE,
            f"this database replicates by the connections {names}, expected the one without a name: remove the others "
            "(RESET SLAVE 'name' ALL in bin/mariadb)",
        )


def applying_problems(snapshot: Snapshot, own: Own) -> Iterator[Reason]:
    """Whether what was received can be applied."""
    source = own.sources[0]
    left = gtid.count(received(snapshot, own), gtid.parse(own.facts.position))
    if source.sql.running != "Yes" and source.sql.number:
        level = FORCE if left else WARN
        yield Reason(
            level,
            f"the thread that applies is stopped ({source.sql}), and {transactions(left)} received and not applied, "
            "expected it to run: remove the cause, and START SLAVE SQL_THREAD in bin/mariadb",
        )
    elif left:
        yield Reason(INFO, f"{transactions(left)} received and not applied yet: that is done first")
    lag = replication_status.known_lag(source)
    if lag is not None:
        yield Reason(INFO, f"the replica is {lag} s behind")
    asked = snapshot.status.upstream is not None and snapshot.status.upstream.facts is not None
    # One that was a primary before has transactions of its own, which its new primary has too: only that one can tell.
    extra = replication_verdict.extra_transactions(snapshot.status, own) if asked or not snapshot.role.last else ()
    if extra:
        yield Reason(
            WARN, f"this replica has transactions that its primary has not (GTID {gtid.text(extra)}), expected none"
        )


def backup_remarks(snapshot: Snapshot) -> Iterator[Reason]:
    """How old the newest backup is."""
    if snapshot.backup:
        age = duration(snapshot.now - times.parse(snapshot.backup))
        yield Reason(INFO, f"the newest backup here was begun at {snapshot.backup}, {age} ago")
    else:
        yield Reason(WARN, "there is no backup here, expected one: bin/mariadb-dump-script makes one")


def transactions(count: int) -> str:
    """A number of transactions, as the subject of "received"."""
    return f"{count} transaction was" if count == 1 else f"{count} transactions were"
