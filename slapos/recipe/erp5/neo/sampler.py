# SPDX-License-Identifier: GPL-2.0-or-later
"""How the sampler looks at a NEO cluster, and what is kept of it: for the page, and for takeovers.

Other programs read the last transaction that the upstream was seen to have (look.seen): it may be dead by now.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import sampler
from slapos.recipe.erp5.control.sampler import Look
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.neo import look, role_state, status, verdict
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.look import Seen
from slapos.recipe.erp5.neo.preflight import BACKINGUP


@dataclass(frozen=True)
class Sample(sampler.Sample):
    """One look at a cluster: its state, and its tids as text, empty for none."""

    state: str = ""
    backup_tid: str = ""
    last_tid: str = ""


@dataclass(frozen=True)
class Hour:
    """The looks of the last hour, oldest first."""

    samples: tuple[Sample, ...] = ()


def sample(found: Status, now: datetime) -> Sample:
    """What is kept of a look."""
    behind = verdict.lag(found, now)
    return Sample(
        at=times.text(now),
        lag=None if behind is None else int(behind.total_seconds()),
        state=found.cluster_state,
        backup_tid="" if found.backup_tid is None else tids.text(found.backup_tid),
        last_tid="" if found.last_tid is None else tids.text(found.last_tid),
    )


class Sight(sampler.Sight):
    """Looks at the cluster by a process that it keeps."""

    subject = "the cluster"
    longest = status.TIMEOUT
    hour = Hour

    def __init__(self) -> None:
        self._asker: Asker | None = None
        self._asked: tuple[str, tuple[str, ...]] = ("", ())
        self._seen: Seen | None = None

    def look(self, config: ClusterConfig, now: datetime) -> Look:
        found = self._ask(config).status() if config.admins else Status(reason="its addresses are not known yet")
        self._note(config, found, now)
        return Look(now, sample(found, now), found)

    def _ask(self, config: ClusterConfig) -> Asker:
        wanted = (config.cluster, config.admins)
        if self._asker is None or self._asked != wanted:
            self.close()
            self._asker, self._asked = status.asker(config), wanted
        return self._asker

    def _note(self, config: ClusterConfig, found: Status, now: datetime) -> None:
        try:
            upstream = look.follows(config, role_state.of(config).load())
        except Error:
            return
        self._seen = None
        if upstream and found.cluster_state == BACKINGUP and found.last_tid:
            self._seen = Seen(upstream.cluster, tids.text(found.last_tid), times.text(now))

    def remember(self, config: Any) -> None:
        if self._seen:
            shapes.save(look.seen_path(config), self._seen, durable=False)

    def close(self) -> None:
        if self._asker:
            self._asker.close()
        self._asker = None
