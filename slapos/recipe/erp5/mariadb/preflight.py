# SPDX-License-Identifier: GPL-2.0-or-later
"""The dry run of an action: what speaks against it, and what would be lost. Gathers, then decides; changes nothing."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.mariadb import replication_status, role_state
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.replication_status import ReplicationStatus
from slapos.recipe.erp5.mariadb.role_state import RoleState

REFUSE, FORCE, WARN, INFO = "refuse", "force", "warn", "info"


@dataclass(frozen=True)
class Reason:
    """`level`: refuse (not even by force), force (only by force), warn, info."""

    level: str
    sentence: str


@dataclass(frozen=True)
class Preflight:
    """A verdict with its reasons; `lost_transactions` and `lost_seconds` are None where nobody can know."""

    action: str
    reasons: tuple[Reason, ...] = ()
    lost_transactions: int | None = None
    lost_seconds: float | None = None

    @property
    def refused(self) -> bool:
        return any(reason.level == REFUSE for reason in self.reasons)

    @property
    def needs_force(self) -> bool:
        return any(reason.level == FORCE for reason in self.reasons)

    def sentences(self, *levels: str) -> tuple[str, ...]:
        return tuple(reason.sentence for reason in self.reasons if reason.level in levels)


def require(preflight: Preflight, forced: bool) -> None:
    """Raises Refused, with every reason that stands against the action."""
    if preflight.refused:
        raise Refused(f"{preflight.action} is refused: {'; '.join(preflight.sentences(REFUSE))}")
    if preflight.needs_force and not forced:
        raise Refused(
            f"{preflight.action} is refused: {'; '.join(preflight.sentences(FORCE))}; or force it (--force), and accept "
            "that"
        )


@dataclass(frozen=True)
class Snapshot:
    """What actions look at before they begin: the same as the promise, and what is known of the role."""

    now: datetime
    status: ReplicationStatus
    role: RoleState
    control_url: str = dataclasses.field(default="", repr=False)


def gather(config: Config, now: datetime, control_url: str = "") -> Snapshot:
    """Look; `control_url` as given with the action. Raises ConfigurationError."""
    role = role_state.load(config)
    return Snapshot(
        now=now,
        status=replication_status.gather(config, now),
        role=role,
        control_url=role_state.control_url(config, role, control_url),
    )
