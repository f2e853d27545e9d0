# SPDX-License-Identifier: GPL-2.0-or-later
"""On the new primary's side: how each hand-over that was begun here ended, for the old primary that asks, for ever.

A hand-over counts when this database stops being a replica (RESET SLAVE ALL), and not before; until then it can be
cancelled, durably, after which nothing here promotes under it any more. Whoever decides holds the place of the
partition's actions (action.py), as a switchover does from its beginning to its end.
"""

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import action, journal, peer_proof
from slapos.recipe.erp5.errors import Busy, Error, Refused
from slapos.recipe.erp5.mariadb import drain, role_state, sql, status
from slapos.recipe.erp5.mariadb.config import Config

OPEN, PROMOTED, CANCELLED, RUNNING = "open", "promoted", "cancelled", "running"
KEPT = 100
"""How many are remembered."""


@dataclass(frozen=True)
class Record:
    """One hand-over, known by a secret that only both sides have (peer_proof.py)."""

    secret: str = field(repr=False)
    outcome: str
    at: str


@dataclass(frozen=True)
class Records:
    """All of them, the oldest first."""

    records: tuple[Record, ...] = ()


def _path(config: Config) -> Path:
    return config.path("srv", "role", "hand-overs.json")


def load(config: Config) -> tuple[Record, ...]:
    """What is known. Raises ConfigurationError when it cannot be read."""
    path = _path(config)
    return shapes.load(path, Records).records if path.exists() else ()


def _save(config: Config, records: tuple[Record, ...]) -> None:
    journal.folder(config)
    shapes.save(_path(config), Records(records[-KEPT:]))


def secret_of(config: Config, public_name: str) -> str:
    """The secret of the hand-over of that name; empty when there is none."""
    secrets = (record.secret for record in load(config))
    return next((secret for secret in secrets if peer_proof.public_name(secret) == public_name), "")


def outcome(config: Config, secret: str) -> str:
    """How it ended, or OPEN; CANCELLED too when nothing is known of it, as nothing can promote under it."""
    return next((record.outcome for record in load(config) if record.secret == secret), CANCELLED)


# ---- under the lock of actions


def begin(config: Config, secret: str) -> None:
    """Note it before the old primary is asked, durably. Raises OSError."""
    _save(config, (*load(config), Record(secret, OPEN, times.text(times.now()))))


def cancel(config: Config, secret: str) -> None:
    """Nothing promotes under it any more, durably. Raises OSError."""
    end(config, secret, CANCELLED)
    role_state.change(config, promotion=None)


def end(config: Config, secret: str, outcome: str) -> None:
    """Note how it ended, durably. Raises OSError."""
    now = times.text(times.now())
    records = tuple(
        dataclasses.replace(record, outcome=outcome, at=now) if record.secret == secret else record
        for record in load(config)
    )
    _save(config, records)


def require_open(config: Config, secret: str) -> None:
    """Raises Refused when it was cancelled: the last question before what cannot be undone."""
    if outcome(config, secret) != OPEN:
        raise Refused("this hand-over was cancelled: begin the switchover again")


def settle(config: Config) -> tuple[Record, ...]:
    """Decide what a killed switchover left open, as the database itself says; returns what was decided."""
    left = [record for record in load(config) if record.outcome == OPEN]
    if not config.data_directory.is_dir():  # not mounted: nobody can say
        return ()
    decided = CANCELLED if status.is_replica(config) else PROMOTED
    promotion = role_state.load(config).promotion
    if decided == CANCELLED and promotion and promotion.hand_over_id in {record.secret for record in left}:
        role_state.change(config, promotion=None)
    for record in left:
        process.log(f"step: a hand-over that was begun at {record.at} and left open is {decided}")
        end(config, record.secret, decided)
    if left and decided == CANCELLED:
        go_on(config)
    return tuple(dataclasses.replace(record, outcome=decided) for record in left)


def go_on(config: Config) -> None:
    """Replicate again, where a hand-over that was cancelled had stopped that; a server does so at its start, too."""
    with (
        contextlib.suppress(Error, OSError),
        sql.connect(config.defaults_file, config.socket, status.TIMEOUT) as connection,
    ):
        drain.receive_again(config, connection)


# ---- asked by the old primary


def state(config: Config, secret: str) -> str:
    """PROMOTED, CANCELLED, or RUNNING while an action is at work here; what is open and abandoned is decided now."""
    now = outcome(config, secret)
    if now != OPEN:
        return now
    try:
        with action.place(config, "hand-over-state"):
            settle(config)
    except Busy:
        return RUNNING
    decided = outcome(config, secret)
    return RUNNING if decided == OPEN else decided
