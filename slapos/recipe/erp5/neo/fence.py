# SPDX-License-Identifier: GPL-2.0-or-later
"""The action fence: stops the masters of a cluster on all its nodes, over restarts and reprocessing, until resumed."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, WARN, Preflight, Reason
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.neo import nodes, role_state
from slapos.recipe.erp5.neo.ask import Status
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.nodes import Answers
from slapos.recipe.erp5.neo.preflight import BACKUP_STATES, RUNNING
from slapos.recipe.erp5.neo.role_state import Fence, RoleState
from slapos.recipe.erp5.neo.status import asker

PAGE = 1000
"""Transactions that are asked for at once."""


def run(config: ClusterConfig, act: Act, options: dict[str, Any]) -> str:
    """The action fence. Raises Error."""
    # A fenced cluster claims nothing from an old primary.
    role_state.of(config).change(fence_pending=None)
    fenced = fence(config, act, Fence(act.by, "the action fence", times.text(times.now())))
    return f"the masters of this cluster are stopped, over restarts too, until bin/neo-resume{fenced.left}"


def check(config: ClusterConfig, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    with asker(config) as ask:
        return decide(role_state.of(config).load(), ask.status())


@dataclass(frozen=True)
class Fenced:
    """What a fence has come to: the cluster's last transaction (None: not known), and nodes that are to follow."""

    tid: int | None
    undone: tuple[str, ...]

    @property
    def left(self) -> str:
        """For the end of a sentence."""
        if not self.undone:
            return ""
        return f"; {', '.join(self.undone)} could not be reached, which neo-control goes on with"


def fence(config: ClusterConfig, act: Act, wanted: Fence) -> Fenced:
    """Stop all masters, and have them stay so; what lasts is written first. Raises ServerError when one serves."""
    role = role_state.of(config)
    with asker(config) as ask:
        before = ask.status()
        everywhere = tuple(node.name for node in config.nodes)
        fenced = role.change(fenced=dataclasses.replace(after(role.load().fenced, wanted), undone=everywhere)).fenced
        assert fenced
        many = f"{len(everywhere)} nodes" if len(everywhere) > 1 else "the node"
        act.step(f"stop the masters of {many}, over restarts too")
        answers = _ask(config, fenced)
        if answers.errors and (state := ask.status().cluster_state):
            raise ServerError(
                f"not all masters could be stopped ({answers.failed}), and this cluster is {state}, expected nobody to"
                " serve it: neo-control goes on trying; see that its nodes' neo-control run"
            )
    return Fenced(_last_tid(config, before), tuple(answers.errors))


def _ask(config: ClusterConfig, fenced: Fence) -> Answers:
    """Have the nodes stop their masters, and note which did not."""
    answers = nodes.ask(config, "fence", {"by": fenced.by, "reason": fenced.reason})
    role_state.of(config).change(fenced=dataclasses.replace(fenced, undone=tuple(answers.errors)))
    return answers


def enforce(config: ClusterConfig) -> None:
    """Have the rest of the nodes stop their masters. Raises ServerError while one cannot be reached."""
    fenced = role_state.of(config).load().fenced
    if fenced and fenced.undone:
        answers = _ask(config, fenced)
        if answers.errors:
            raise ServerError(f"not all masters of this fenced cluster could be stopped ({answers.failed})")
        process.log("all masters of this fenced cluster are stopped now")


def _last_tid(config: ClusterConfig, before: Status) -> int | None:
    """The cluster's last transaction, by its storages' files: some may have come since the cluster was asked."""
    newest = before.last_tid
    try:
        while newest and (found := nodes.stored_tids(config, newest, PAGE)):
            newest = found[-1]
    except (Error, OSError) as error:
        process.log(f"warning: what came last is known by the cluster's last answer alone: {process.describe(error)}")
    return newest


# ---- decide


def decide(state: RoleState, status: Status) -> Preflight:
    """What a fence would meet with."""
    reasons = []
    if state.fenced:
        text = f"this cluster is fenced already, since {state.fenced.at} ({state.fenced.reason})"
        reasons.append(Reason(INFO, text))
    elif status.cluster_state == RUNNING:
        reasons.append(Reason(WARN, "its masters are stopped: clients can neither read nor write, and wait"))
    elif status.cluster_state in BACKUP_STATES:
        reasons.append(Reason(WARN, "this cluster is a backup, which takes no writes: fenced, it follows nobody"))
    return Preflight("fence", tuple(reasons))


def after(before: Fence | None, wanted: Fence) -> Fence:
    """The fence that there is when another one is put up: the first stays, and learns what is new.

    Who is to be the primary is not forgotten.
    """
    if before is None:
        return wanted
    if before.new_primary and before.new_primary == (wanted.new_primary or before.new_primary):
        return dataclasses.replace(before, tid=wanted.tid or before.tid)
    return wanted if wanted.new_primary else before
