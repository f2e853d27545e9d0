# SPDX-License-Identifier: GPL-2.0-or-later
"""What an action on a NEO cluster meets with before it begins: what speaks against it, and what would be lost."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from slapos.recipe.erp5.control.preflight import FORCE, INFO, REFUSE, WARN, Reason
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Node, Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.role_state import RoleState

STORAGE = "STORAGE"
BACKINGUP, STARTING_BACKUP, STOPPING_BACKUP, RUNNING = "BACKINGUP", "STARTING_BACKUP", "STOPPING_BACKUP", "RUNNING"
BACKUP_STATES = (BACKINGUP, STARTING_BACKUP)
TRAILS = 1.0
"""Seconds that a healthy backup is behind an upstream which is written to: no more than half of one was ever seen."""

FETCHED = 10.0
"""Seconds that a backup of an upstream which is about to be fenced may be behind: the rest is fetched before."""


@dataclass(frozen=True)
class Snapshot:
    """What actions look at: the cluster as its primary master has it, and what is known of its upstream.

    `upstream` is what it follows; `answers` whether that one does now, as asked itself (`error` says why not);
    `known_tid` the last transaction that it was seen to have, at `known_at` (times.py); `control_url` the upstream's
    takeover-url, or empty. `fenced`: it was, by this very action. A dry run knows also why nobody answers at the
    control URL (`control_error`), and which nodes of the upstream its own partition cannot reach (`unreached`).
    """

    now: datetime
    status: Status
    role: RoleState
    upstream: Upstream | None = None
    answers: bool = False
    error: str = ""
    known_tid: int | None = None
    known_at: str = ""
    control_url: str = dataclasses.field(default="", repr=False)
    fenced: bool = False
    control_error: str = ""
    unreached: tuple[str, ...] = ()

    @property
    def upstream_name(self) -> str:
        """The upstream cluster's name, for messages."""
        return self.upstream.cluster if self.upstream else "unknown"

    @property
    def upstream_tid(self) -> int | None:
        """The last transaction that the upstream is known to have had; None when nothing is known."""
        seen = [one for one in (self.status.last_tid, self.known_tid) if one]
        return max(seen, default=None)


def lost_seconds(snapshot: Snapshot) -> float | None:
    """The time between the last transaction that stays and the upstream's last one; None when that is not known."""
    last, stays = snapshot.upstream_tid, snapshot.status.backup_tid
    if last is None or not stays:
        return None
    return max(0.0, tids.to_time(last) - tids.to_time(stays)) if last > stays else 0.0


def moment(tid: int) -> str:
    """A tid, with its moment, for people."""
    at = datetime.fromtimestamp(tids.to_time(tid), UTC)
    return f"{tids.text(tid)} ({at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC)"


def seconds(value: float) -> str:
    """A length of time, for people."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if value >= 2 * length:
            return f"{value / length:.0f} {unit}"
    return f"{value:.1f} s"


def span(snapshot: Snapshot) -> str:
    """What would be cut off, as far as that can be told: no transactions, only between which moments they lie."""
    last, stays = snapshot.upstream_tid, snapshot.status.backup_tid
    assert last and stays
    length = seconds(lost_seconds(snapshot) or 0.0)
    return f"the transactions after {moment(stays)} up to {moment(last)}, {length} of them"


def missing(status: Status) -> tuple[Node, ...]:
    """The storages that do not run."""
    return tuple(one for one in status.nodes if one.type == STORAGE and one.state != RUNNING)


def named(nodes: tuple[Node, ...]) -> str:
    """Storages, for people."""
    return ", ".join(f"{one.uuid} at {one.address} ({one.state})" for one in nodes)


# ---- decide: what every action on a backup looks at


def backup_problems(snapshot: Snapshot, action: str) -> Iterator[Reason]:
    """Why this is nothing for an action that needs a backup cluster."""
    status = snapshot.status
    if not status.cluster_state:
        yield Reason(
            REFUSE,
            f"no primary master answers ({status.reason}), expected this backup cluster's: see that the masters run on"
            " their nodes (service neo-master)",
        )
    elif status.cluster_state == RUNNING:
        yield Reason(REFUSE, f"this cluster is a primary ({RUNNING}), expected a backup: there is nothing to {action}")
    elif status.cluster_state not in BACKUP_STATES:
        yield Reason(REFUSE, _other_state(status))
    else:
        yield from _first_copy_problems(snapshot, action)


def _other_state(status: Status) -> str:
    state, absent = status.cluster_state, missing(status)
    wait = f"expected {BACKINGUP} or {STARTING_BACKUP}"
    if absent:
        return (
            f"this cluster is {state}, as it waits for the storages {named(absent)}, {wait}: start them on their nodes,"
            " or that data is not there to go on with"
        )
    return f"this cluster is {state}, {wait}: wait for that; the promise neo-cluster says what is missing"


def _first_copy_problems(snapshot: Snapshot, action: str) -> Iterator[Reason]:
    status = snapshot.status
    if status.first_copy_goal is None and status.backup_tid:
        return
    if not status.backup_tid:
        reached = "nothing of the upstream is here"
    else:
        reached = f"the first copy of the upstream has come to {moment(status.backup_tid)}"
        reached += f" of {moment(status.first_copy_goal)}" if status.first_copy_goal else ""
    if snapshot.answers:
        remedy = "wait for its end"
    else:
        remedy = (
            f"start the upstream {snapshot.upstream_name}, as this cluster cannot take its place; if that is lost,"
            " there is nothing here to go on with, and another backup or a new cluster is the only way"
        )
    yield Reason(REFUSE, f"{reached}, and a part of a database is none to {action}, expected all of it: {remedy}")


def storage_problems(snapshot: Snapshot) -> Iterator[Reason]:
    """What storages that are down or behind make of it."""
    status, absent = snapshot.status, missing(snapshot.status)
    if absent:
        many = "them" if len(absent) > 1 else "it"
        yield Reason(
            FORCE,
            f"of the storages, {named(absent)} do not run, expected all of them: the cluster would stay RECOVERING"
            f" until they come back; start {many}, or force it, and the cluster goes on without {many} where replicas"
            " have the same data",
        )
    if status.cells_out_of_date:
        yield Reason(
            WARN, f"{status.cells_out_of_date} cells are out of date, expected none: their data is on other storages"
        )


def lost_problems(snapshot: Snapshot, remedy: str) -> Iterator[Reason]:
    """What the upstream is known to have had, and would not be here."""
    lost = lost_seconds(snapshot)
    if lost is None:
        yield Reason(WARN, "what the upstream had last is not known here, so that nobody can tell what would be lost")
    elif lost > TRAILS:
        yield Reason(FORCE, f"{span(snapshot)} would be lost, as they are not here, expected all of them: {remedy}")
    elif lost:
        yield Reason(
            WARN, f"{span(snapshot)} would be lost, as a backup is that much behind an upstream that is written to"
        )
    else:
        yield Reason(INFO, "nothing is known that the upstream had and this backup has not")
