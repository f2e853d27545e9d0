# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether a cluster may become a backup of another one as it is, and what a reset would leave behind."""

from dataclasses import dataclass

from slapos.recipe.erp5.control.preflight import INFO, REFUSE, WARN, Preflight, Reason
from slapos.recipe.erp5.neo import preflight
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.diverged import SHOWN, Comparison


@dataclass(frozen=True)
class Found:
    """What was seen before a rejoin: `follows` what the cluster is a backup of now, None for nothing.

    `comparison` is None where it could not be made, for the reason `error`.
    """

    cluster: str
    state: str
    follows: Upstream | None
    comparison: Comparison | None = None
    error: str = ""


def decide(found: Found, upstream: Upstream | None, reset: bool) -> Preflight:
    """What a rejoin would meet with, and leave behind."""
    if upstream is None:
        return refused(
            "nobody has said which cluster this one is to be a backup of: give what that publishes as neo-cluster and"
            " neo-masters (--upstream-cluster-file and --upstream-masters-file, or the same fields on the page)"
        )
    name = upstream.cluster
    if name == found.cluster:
        return refused(f"{name} is this very cluster, expected another one's name: NEO refuses a backup of itself")
    if found.follows == upstream and found.state in preflight.BACKUP_STATES and not reset:
        return Preflight("rejoin", (Reason(INFO, f"this cluster is a backup of {name} already"),), 0, 0.0)
    if reset:
        count = found.comparison.count if found.comparison else None
        return Preflight("rejoin", tuple(_reset(found, name)), count, kept=", which the old storages keep")
    if found.comparison is None:
        return refused(
            f"the transactions here cannot be compared with those of {name} ({found.error}), expected to know that it"
            " has all of them: remove the cause, or reset (--reset), which copies all anew and keeps the old storages"
        )
    if found.comparison.count:
        sentence = f"{only_here(found.comparison, name)}: {REMEDY}"
        return Preflight("rejoin", (Reason(REFUSE, sentence),), found.comparison.count)
    return Preflight(
        "rejoin", (Reason(INFO, f"{name} has all that this cluster has{_since(found.comparison)}"),), 0, 0.0
    )


REMEDY = (
    "NEO would follow it all the same, and be silently another database, so it is only possible with --reset, which"
    " copies all anew and keeps the old storages beside"
)
"""What is left when there are transactions that the upstream lacks."""


def only_here(comparison: Comparison, name: str) -> str:
    """Which transactions the upstream lacks."""
    shown = ", ".join(preflight.moment(tid) for tid in comparison.only_here)
    more = ", and so on" if comparison.count > SHOWN else ""
    one = "transaction" if comparison.count == 1 else "transactions"
    return f"this cluster has {comparison.count} {one} that {name} lacks ({shown}{more}), expected none"


def _since(comparison: Comparison) -> str:
    return f" since {preflight.moment(comparison.since)}" if comparison.since else ""


def _reset(found: Found, name: str) -> list[Reason]:
    reasons = [
        Reason(WARN, f"all is copied anew from {name}: the storages that are here now are put aside, and kept"),
        Reason(INFO, "until that copy is complete, this cluster can take over from nobody"),
    ]
    if found.comparison and found.comparison.count:
        reasons.insert(0, Reason(WARN, f"{only_here(found.comparison, name)}: they stay in the old storages alone"))
    elif found.comparison:
        sentence = f"{name} has all that this cluster has{_since(found.comparison)}: it could rejoin as it is"
        reasons.insert(0, Reason(INFO, sentence))
    else:
        sentence = f"the transactions here cannot be compared with those of {name} ({found.error})"
        reasons.insert(0, Reason(WARN, sentence))
    return reasons


def refused(sentence: str) -> Preflight:
    """Not even by force."""
    return Preflight("rejoin", (Reason(REFUSE, sentence),))
