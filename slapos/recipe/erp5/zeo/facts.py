# SPDX-License-Identifier: GPL-2.0-or-later
"""All that the control page, status.json and the metrics tell of a ZEO server, gathered from what is at hand."""

from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import action, facts, journal
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.zeo import status, verdict
from slapos.recipe.erp5.zeo.config import PROGRAMS, Config
from slapos.recipe.erp5.zeo.status import Backups, Storage

SERVER, BACKUPS = "zeo", "zeo-backup"
"""The promises whose judgement is made here anew."""


@dataclass(frozen=True)
class Backed:
    """The backups of a storage: when the `last` good run was begun, and the `newest` file, both empty for none.

    `size` is what they take in bytes, in so many `chains` of a full one and what was added.
    """

    storage: str
    last: str
    newest: str
    chains: int
    size: int


@dataclass(frozen=True)
class Facts(facts.Facts):
    """Everything. `answers` is None before anybody has looked; `next_backup` a moment, or empty; sizes are in bytes."""

    address: str
    answers: bool | None
    storages: tuple[Storage, ...]
    unserved: tuple[str, ...]
    scheduled: bool
    next_backup: str
    backups: tuple[Backed, ...]


def gather(config: Config, sampler: Sampler, now: datetime) -> Facts:
    """Raises Error."""
    look, promises = sampler.look, tuple(facts.promises(config))
    server = look.status if look else None
    backups = status.snapshot(config, now)
    seen, of_backups = verdict.server(server) if server else None, verdict.backups(backups)
    others = [one for one in promises if one.name != BACKUPS]
    return Facts(
        instance=config.instance,
        at=times.text(look.at) if look else "",
        problems=(
            *facts.problems(look, seen, others, now, PROGRAMS, SERVER),
            *(of_backups.sentences if not of_backups.good else ()),
        ),
        notes=(),
        running=action.current(config),
        actions=journal.last(config, 10),
        promises=promises,
        now=now,
        address=config.address,
        answers=not server.silent if server else None,
        storages=server.storages if server else (),
        unserved=server.unserved if server else (),
        scheduled=config.backup.enable,
        next_backup=backups.scheduler.job(verdict.BACKUP).next_run if config.backup.enable else "",
        backups=tuple(backed(one) for one in backups.backups),
    )


def backed(one: Backups) -> Backed:
    """What is told of the backups of a storage; whether they are good the problems tell."""
    return Backed(one.storage, times.text(one.last) if one.last else "", one.newest, one.chains, one.size)
