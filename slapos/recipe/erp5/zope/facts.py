# SPDX-License-Identifier: GPL-2.0-or-later
"""All that the control page, status.json and the metrics tell of a partition's Zopes, gathered from what is at hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import action, facts, journal
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.supervisor import Ended
from slapos.recipe.erp5.zope import verdict
from slapos.recipe.erp5.zope.config import PROGRAMS, Config
from slapos.recipe.erp5.zope.standby_state import Database, Standing

STANDBY = "zope-standby"
"""The promise whose judgement is made here anew, of the last look."""


@dataclass(frozen=True)
class Zope:
    """One Zope: `state` is one of standby_decide's, empty without a supervisor; `ends` are those nobody asked for."""

    name: str
    family: str
    address: str
    state: str
    reason: str
    since: str
    next_start: str
    ends: tuple[Ended, ...]


@dataclass(frozen=True)
class Facts(facts.Facts):
    """Everything; `database` is None without a supervisor, `held` names families, "*" being all; `summary` is what the
    promise zope-standby says, empty when it has something to complain of."""

    supervised: bool
    database: Database | None
    held: tuple[str, ...]
    zopes: tuple[Zope, ...]
    summary: str


def gather(config: Config, sampler: Sampler, now: datetime) -> Facts:
    """Raises ConfigurationError."""
    look, promises = sampler.look, tuple(facts.promises(config))
    standing: Standing | None = look.status if look else None
    judged = verdict.standby(config, standing, look.at) if look else None
    return Facts(
        instance=config.instance,
        at=times.text(look.at) if look else "",
        problems=tuple(facts.problems(look, judged, promises, now, PROGRAMS, STANDBY)),
        notes=(),
        running=action.current(config),
        actions=journal.last(config, 10),
        promises=promises,
        now=now,
        supervised=standing is not None,
        database=standing.database if standing else None,
        held=standing.held if standing else (),
        zopes=tuple(_zopes(config, standing)),
        summary=" ".join(judged.sentences) if judged and judged.good else "",
    )


# ---- decide


def _zopes(config: Config, standing: Standing | None) -> Iterator[Zope]:
    known = {zope.name: zope for zope in standing.zopes} if standing else {}
    for zope in config.zopes:
        found = known.get(zope.name)
        who = zope.name, zope.family, zope.address
        if found:
            yield Zope(*who, found.state, found.reason, found.since, found.next_start, found.ends)
        else:
            yield Zope(*who, state="", reason="", since="", next_start="", ends=())
