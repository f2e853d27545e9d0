# SPDX-License-Identifier: GPL-2.0-or-later
"""What neo-control does by itself about role changes that stopped on the way: nobody has to call anything.

- A promotion that was killed once NEO had begun is noted as complete (complete_promotion).
- A rejoin that was killed is completed (complete_rejoin).
- Masters of a fenced cluster that could not be reached are stopped (enforce_fence).
- A new primary fences the old one as soon as that answers, and tells it where it was cut (fence_old_primary).
"""

import dataclasses
from collections.abc import Callable

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import action, journal
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.control.peer_client import Peer
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.neo import fence, nodes, old_primary, promote, rejoin, role_state
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.preflight import RUNNING
from slapos.recipe.erp5.neo.status import asker

BY = "neo-control"
FENCE_OLD_PRIMARY = "fence-old-primary"

Attempt = Callable[[str, Callable[[], None]], None]
"""Does the step of that name, or leaves it for later. Raises nothing, so that each step has its turn."""


def look_on(config: ClusterConfig, attempt: Attempt) -> None:
    """Let `attempt` do what is to be done now; each step raises Error, OSError: to be tried again."""
    attempt("complete-promotion", lambda: complete_promotion(config))
    attempt("complete-rejoin", lambda: complete_rejoin(config))
    attempt("enforce-fence", lambda: enforce_fence(config))
    attempt(FENCE_OLD_PRIMARY, lambda: fence_old_primary(config))


def complete_promotion(config: ClusterConfig) -> None:
    """Note that a promotion is complete: NEO gets to RUNNING by itself, or is a backup still."""
    promotion = role_state.of(config).load().promotion
    if promotion is None or action.current(config):
        return
    with asker(config) as ask:
        if ask.status().cluster_state != RUNNING:
            return
        with action.running(config, promotion.action, BY) as act:
            begun = role_state.of(config).load().promotion
            ended = f"the {promotion.action} has come to its end meanwhile"
            act.sentence = promote.complete(config, act, ask, begun) if begun else ended


def complete_rejoin(config: ClusterConfig) -> None:
    """Go on with what was noted, once all nodes can be asked. Raises ServerError when they cannot."""
    if role_state.of(config).load().rejoin is None or action.current(config):
        return
    nodes.require(config, "status")
    with action.running(config, "rejoin", BY) as act:
        begun = role_state.of(config).load().rejoin
        act.sentence = rejoin.complete(config, act, begun) if begun else "the rejoin has come to its end meanwhile"


def enforce_fence(config: ClusterConfig) -> None:
    """See that the masters of a fenced cluster are stopped on all nodes."""
    fenced = role_state.of(config).load().fenced
    if fenced is None or not fenced.undone:
        return  # without the place of actions, which others want to have at once
    with action.place(config, "fence"):
        fence.enforce(config)


def fence_old_primary(config: ClusterConfig) -> None:
    """Fence the one that could not be reached at the takeover, or tell it the tid; once is enough, as a fence lasts.

    Only a primary may claim that: not one that is fenced itself, or about to follow somebody. Raises ServerError while
    it has nodes that it could not reach itself.
    """
    state = role_state.of(config).load()
    pending = state.fence_pending
    if pending is None or state.fenced or state.rejoin or state.promotion:
        return
    reason = f"takeover at {pending.since}"
    tid = state.last.tid if state.last else ""
    with Peer(pending.control_url) as peer:
        peer.ready(old_primary.GONE)
        answer = peer.call("fence", old_primary.question(config, pending.cluster, reason, tid), old_primary.FENCING)
    last, undone = state.last, old_primary.undone_of(answer)
    if last and last.unfenced:
        last = dataclasses.replace(last, unfenced=False)
    if undone:
        role_state.of(config).change(fence_pending=dataclasses.replace(pending, undone=undone), last=last)
        raise ServerError(old_primary.fenced_sentence(pending.cluster, undone))
    role_state.of(config).change(fence_pending=None, last=last)
    sentence = f"the old primary {pending.cluster} is fenced now, and knows that it was cut at {tid}"
    process.log(sentence)
    if pending.undone or (state.last and state.last.unfenced):  # else the takeover has said so
        journal.append(config, Entry(times.text(times.now()), FENCE_OLD_PRIMARY, BY, "done", sentence, {"tid": tid}))
