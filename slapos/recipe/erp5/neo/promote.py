# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a backup cluster a primary, in steps that the next call completes whoever is killed at which.

intent (state.promotion)     still a backup: the next takeover begins again
STOPPING_BACKUP              NEO cuts at backup_tid, and goes through RECOVERING to RUNNING by itself
RUNNING                      takes writes
intent removed, last change  complete
"""

import time

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import Refused, ServerError
from slapos.recipe.erp5.neo import preflight, role_state
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.preflight import BACKUP_STATES, RUNNING, STOPPING_BACKUP, Snapshot
from slapos.recipe.erp5.neo.role_state import Change, PendingFence, Promotion

PATIENCE = 60.0
"""Seconds for RUNNING once nothing changes any more: storages that are missing may take for ever."""
LOOK = 0.1
BACK = 5.0
"""Seconds after which an answer that the cluster is a backup is no old news."""
FORCED_START = 2.0
"""Seconds in RECOVERING before a forced takeover goes on without the storages that are missing."""


def begin(
    config: ClusterConfig,
    act: Act,
    snapshot: Snapshot,
    *,
    forced: bool,
    unfenced: bool = False,
    pending: PendingFence | None = None,
) -> Promotion:
    """Write down that a promotion begins. Raises OSError."""
    status = snapshot.status
    assert status.backup_tid
    last = snapshot.upstream_tid
    promotion = Promotion(
        action=act.action,
        from_cluster=snapshot.upstream_name,
        tid=tids.text(status.backup_tid),
        at=times.text(times.now()),
        upstream_tid=tids.text(last) if last else "",
        unfenced=unfenced,
        pending=pending,
        forced=forced,
    )
    role_state.of(config).change(promotion=promotion)
    return promotion


def promote(config: ClusterConfig, act: Act, ask: Asker, promotion: Promotion) -> str:
    """Let NEO stop being a backup, and wait until it takes writes; returns the closing sentence. Raises Error."""
    act.step(f"stop being a backup of {promotion.from_cluster}, at {promotion.tid}")
    try:
        ask.set_state(STOPPING_BACKUP)
    except Refused:
        role_state.of(config).change(promotion=None)
        raise
    return finish(config, act, ask, promotion)


def finish(config: ClusterConfig, act: Act, ask: Asker, promotion: Promotion) -> str:
    """What follows once NEO has begun; all of it can be done again. Raises ServerError."""
    act.details |= {"tid": promotion.tid, "upstream-tid": promotion.upstream_tid, "from": promotion.from_cluster}
    began = time.monotonic()
    _wait(act, ask, promotion)
    act.details["seconds"] = round(time.monotonic() - began, 2)
    process.log(f"step: the cluster is {RUNNING} after {act.details['seconds']:g} s")
    pending = promotion.pending
    change = Change(promotion.action, promotion.at, promotion.from_cluster, "", promotion.tid, promotion.unfenced)
    role_state.of(config).change(
        promotion=None, upstream=None, upstream_control_url="", fenced=None, fence_pending=pending, last=change
    )
    return sentence(config, promotion)


def _wait(act: Act, ask: Asker, promotion: Promotion) -> None:
    """Until the cluster is RUNNING; the deadline moves with what changes. Raises ServerError."""
    seen: tuple[object, ...] = ()
    began = changed = time.monotonic()
    started = False
    while (status := ask.status()).cluster_state != RUNNING:
        absent = preflight.missing(status)
        now = (status.cluster_state, status.primary, absent)
        if now != seen:
            seen, changed = now, time.monotonic()
        storages = [node for node in status.nodes if node.type == preflight.STORAGE]
        waited = time.monotonic() - began
        act.step(progress(status, promotion), len(storages) - len(absent), len(storages))
        if promotion.forced and not started and status.cluster_state == "RECOVERING" and waited > FORCED_START:
            process.log("step: start the cluster without the storages that are missing, as it was forced")
            started = _start(ask)
        if status.cluster_state in BACKUP_STATES and waited > BACK:
            raise ServerError(back(status, promotion))
        if time.monotonic() - changed > PATIENCE:
            raise ServerError(stuck(status, promotion))
        time.sleep(LOOK)


def _start(ask: Asker) -> bool:
    try:
        ask.start()
    except Refused as error:  # a node is coming in at this moment: then it is asked again
        process.log(f"step: NEO does not start yet ({error})")
        return False
    return True


def progress(status: Status, promotion: Promotion) -> str:
    """What the cluster is doing now, in a sentence."""
    state, absent = status.cluster_state or "without a primary master", preflight.missing(status)
    waits = f", and waits for {preflight.named(absent)}" if absent and status.cluster_state == "RECOVERING" else ""
    return f"wait until the cluster, cut at {promotion.tid}, is {RUNNING}: it is {state}{waits}"


def stuck(status: Status, promotion: Promotion) -> str:
    """Why the promotion does not come to its end, and what to do."""
    absent = preflight.missing(status)
    if not status.cluster_state:
        what, remedy = f"no primary master answers ({status.reason})", "see that the masters run on their nodes"
    elif absent:
        what = f"the cluster is {status.cluster_state}, as it waits for the storages {preflight.named(absent)}"
        remedy = "start them on their nodes, or run it again with --force where replicas have the same data"
    else:
        what, remedy = f"the cluster is {status.cluster_state}", "see the logs of its nodes (bin/neolog)"
    return (
        f"the {promotion.action} has cut the database at {promotion.tid}, and {what}, expected {RUNNING}: {remedy}; it"
        f" is completed by itself then, or by bin/neo-{promotion.action}"
    )


def back(status: Status, promotion: Promotion) -> str:
    """NEO does so when a node is lost before it has cut anything."""
    return (
        f"the cluster is a backup still ({status.cluster_state}), expected that the {promotion.action} makes it"
        f" {RUNNING}: a node was lost meanwhile, or it had not begun; run bin/neo-{promotion.action} again"
    )


# ---- after a kill


def is_unfinished(role: role_state.RoleState, status: Status) -> bool:
    """Whether a promotion was begun and NEO has begun with it: it only has to be completed.

    A cluster that does not answer may be either: it is waited for.
    """
    return role.promotion is not None and status.cluster_state not in BACKUP_STATES


def unfinished_sentence(promotion: Promotion) -> str:
    """What the next call will do."""
    return f"the {promotion.action} that was begun at {promotion.at} did not come to its end: it is completed now"


def complete(config: ClusterConfig, act: Act, ask: Asker, promotion: Promotion, forced: bool = False) -> str:
    """Complete a promotion that was interrupted; returns the closing sentence. Raises Error."""
    process.log(f"step: {unfinished_sentence(promotion)}")
    if forced and not promotion.forced:
        promotion = Promotion(**{**vars(promotion), "forced": True})
    return finish(config, act, ask, promotion)


def sentence(config: ClusterConfig, promotion: Promotion) -> str:
    """What to say at the end."""
    lost = _lost(promotion)
    if promotion.action == "detach":
        return (
            f"this cluster follows {promotion.from_cluster} no longer, and takes writes, since {promotion.tid}{lost};"
            f" nothing was done to {promotion.from_cluster}"
        )
    return f"this cluster is the primary now, from {promotion.tid} on, in place of {promotion.from_cluster}{lost}"


def _lost(promotion: Promotion) -> str:
    if not promotion.upstream_tid:
        return ""
    seconds = tids.to_time(tids.parse(promotion.upstream_tid)) - tids.to_time(tids.parse(promotion.tid))
    return f"; the last {preflight.seconds(seconds)} of its transactions are not here" if seconds > 0 else ""
