# SPDX-License-Identifier: GPL-2.0-or-later
"""The action rejoin: a cluster becomes a backup of another one, as an old primary does of the new one.

Its transactions are compared with the upstream's, as NEO would not notice: when that has all of them, it goes on as it
is. Otherwise it has to be reset: it gets new storages, which copy all, and the old ones are kept. It is compared before
it fences itself, so that what is refused changes nothing, and again once nobody can write any more.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, Preflight, Reason, require
from slapos.recipe.erp5.errors import Error, Refused, ServerError
from slapos.recipe.erp5.neo import diverged, fence, look, nodes, preflight, role_state
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import ClusterConfig, Upstream
from slapos.recipe.erp5.neo.diverged import Comparison
from slapos.recipe.erp5.neo.preflight import BACKUP_STATES, RUNNING, STARTING_BACKUP
from slapos.recipe.erp5.neo.rejoin_decide import REMEDY, Found, decide, only_here, refused
from slapos.recipe.erp5.neo.role_state import Change, Fence, Rejoin, RoleState
from slapos.recipe.erp5.neo.status import asker

_ADDRESS = re.compile(r"\S+:[0-9]{1,5}")
FENCE = "it is to become a backup"
PATIENCE = 120.0
"""Seconds for the cluster to get where it has to, once nothing changes any more."""
LOOK = 0.1
BY_ITSELF = 5.0
"""Seconds that a new cluster has to start by itself, before it is told to: where `autostart` is off, it does not."""
LISTING = 60.0
"""Seconds for the upstream to list its transactions, a page of them."""


# ---- gather


def target(config: ClusterConfig, state: RoleState, options: dict[str, Any]) -> Upstream | None:
    """Whose backup the cluster is to be: given, noted with a fence, by the parameters, or as before."""
    cluster, masters = options.get("upstream-cluster", ""), " ".join(options.get("upstream-masters", "").split())
    if not all(_ADDRESS.fullmatch(one) for one in masters.split()):
        raise Refused("upstream-masters are no addresses, expected HOST:PORT with spaces between, as it publishes them")
    if cluster and masters:
        return Upstream(cluster, masters)
    if cluster or masters:
        raise Refused("only one of upstream-cluster and upstream-masters is given, expected both, or none")
    if state.fenced and state.fenced.new_primary:
        return state.fenced.new_primary
    return config.requested_upstream or state.upstream


def common_tid(state: RoleState, upstream: Upstream) -> int:
    """The last transaction up to which both are known to be the same; 0: from the beginning."""
    fenced = state.fenced
    known = fenced.tid if fenced and fenced.new_primary and fenced.new_primary.cluster == upstream.cluster else ""
    return tids.parse(known) if known else 0


def compare(
    config: ClusterConfig, upstream: Upstream, since: int, step: Callable[[int], object] = lambda _: None
) -> Comparison:
    """By the storages' files here, as the masters are mostly stopped, and as a client there. Raises Error."""
    ask = asker(config, timeout=LISTING)
    masters = upstream.masters.split()
    if error := look.connect(masters):
        raise ServerError(f"{upstream.cluster} does not answer: {error}")
    return diverged.compare(
        lambda after, limit: nodes.stored_tids(config, after, limit),
        lambda after, limit: ask.tids_from(masters, after + 1, limit, upstream.cluster),
        since,
        step,
    )


def find(config: ClusterConfig, state: RoleState, status: Status, upstream: Upstream | None, act: Act | None) -> Found:
    """What decide() has to know; with an `act`, the comparison's progress is told. Raises nothing."""
    followed = look.follows(config, state) if status.cluster_state in BACKUP_STATES else None
    found = Found(config.cluster, status.cluster_state, followed)
    if upstream is None or upstream.cluster == config.cluster:
        return found

    def step(tid: int) -> None:
        if act:
            act.step(f"compare the transactions here with those of {upstream.cluster}: {preflight.moment(tid)}")

    try:
        return dataclasses.replace(found, comparison=compare(config, upstream, common_tid(state, upstream), step))
    except (Error, OSError) as error:
        return dataclasses.replace(found, error=process.describe(error))


def check(config: ClusterConfig, options: dict[str, Any]) -> Preflight:
    """The dry run. Raises Error."""
    state = role_state.of(config).load()
    if state.rejoin and not options.get("reset"):
        return Preflight("rejoin", (Reason(INFO, unfinished_sentence(state.rejoin)),))
    try:
        upstream = target(config, state, options)
    except Refused as error:
        return refused(str(error))
    with asker(config) as ask:
        found = find(config, state, ask.status(), upstream, None)
    return decide(found, upstream, bool(options.get("reset")))


# ---- act


def run(config: ClusterConfig, act: Act, options: dict[str, Any]) -> str:
    """Become a backup; returns the closing sentence. Raises Refused, Error: what it was fenced for then stays."""
    role = role_state.of(config)
    state, reset = role.load(), bool(options.get("reset"))
    if state.rejoin and (state.rejoin.reset or not reset):
        return complete(config, act, state.rejoin)
    upstream = target(config, state, options)
    with asker(config) as ask:
        status = ask.status()
    found = Found(config.cluster, status.cluster_state, look.follows(config, state))
    first = decide(dataclasses.replace(found, comparison=Comparison(0, 0, (), 0)), upstream, reset)
    require(first, False)
    assert upstream
    if found.follows == upstream and found.state in BACKUP_STATES and not reset:
        return first.reasons[0].sentence
    if not reset:
        act.step(f"compare the transactions here with those of {upstream.cluster}")
        require(decide(find(config, state, Status(), upstream, act), upstream, reset), False)
    fence.fence(config, act, Fence(act.by, FENCE, times.text(times.now()), upstream))
    act.step(f"compare the transactions here with those of {upstream.cluster}, now that nobody writes here")
    found = find(config, role.load(), Status(), upstream, act)
    try:
        require(decide(found, upstream, reset), False)
    except Refused as error:
        raise Refused(f"{error}; its masters are stopped: bin/neo-resume --force lets it go on") from error
    act.details |= {"only-here": found.comparison.count if found.comparison else None, "reset": reset}
    now = times.now()
    since = tids.text(found.comparison.since) if found.comparison else ""
    rejoin = Rejoin(f"{now:%Y%m%dT%H%M%SZ}", upstream, reset, since, times.text(now))
    role.change(rejoin=rejoin, upstream_control_url=options.get("control-url", ""))
    return complete(config, act, rejoin)


def unfinished_sentence(rejoin: Rejoin) -> str:
    """What the next call will do."""
    return (
        f"the rejoin of {rejoin.upstream.cluster} that was begun at {rejoin.at} did not come to its end: it is"
        " completed now"
    )


def complete(config: ClusterConfig, act: Act, rejoin: Rejoin) -> str:
    """Do what was noted, or the rest of it; returns the closing sentence. Raises Refused, Error."""
    name = rejoin.upstream.cluster
    state = role_state.of(config).load()
    if state.fenced:
        act.step(f"have the nodes follow {name}" + (", with new storages" if rejoin.reset else ""))
        asked = {"cluster": name, "masters": rejoin.upstream.masters, "reset": "yes" if rejoin.reset else "no"}
        nodes.require(config, "fence", {"by": state.fenced.by, "reason": state.fenced.reason})
        nodes.require(config, "follow", {"id": rejoin.id, **asked})
        act.step("start the masters")
        nodes.require(config, "resume")
        role_state.of(config).change(fenced=None)
    with asker(config) as ask:
        if rejoin.reset:
            _wait(act, ask, BACKUP_STATES, start=True)
        else:
            _reenter(config, act, ask, rejoin)
    act.details["upstream"] = name
    last = Change("rejoin", times.text(times.now()), "", name, rejoin.tid)
    role_state.of(config).change(rejoin=None, upstream=rejoin.upstream, promotion=None, fence_pending=None, last=last)
    if rejoin.reset:
        return f"this cluster is a backup of {name}, and copies all of it anew; the old storages are kept on the nodes"
    return f"this cluster is a backup of {name} again, with all that it had"


def _reenter(config: ClusterConfig, act: Act, ask: Asker, rejoin: Rejoin) -> None:
    """Through RUNNING, in which nobody is let in, to backup mode; and look again whether nothing was written."""
    status = _wait(act, ask, (RUNNING, *BACKUP_STATES))
    if status.cluster_state == RUNNING:
        act.step(f"become a backup of {rejoin.upstream.cluster}")
        ask.set_state(STARTING_BACKUP)
    _wait(act, ask, BACKUP_STATES)
    _wait_for_disks(config, act)
    try:
        found = compare(config, rejoin.upstream, tids.parse(rejoin.tid) if rejoin.tid else 0)
    except (Error, OSError) as error:
        raise ServerError(
            f"this cluster is a backup now, and whether it has transactions that {rejoin.upstream.cluster} lacks could"
            f" not be looked at again ({process.describe(error)}), expected to know: run bin/neo-rejoin again"
        ) from error
    if found.count:
        fence.fence(config, act, Fence(act.by, FENCE, times.text(times.now()), rejoin.upstream))
        role_state.of(config).change(rejoin=None)
        raise Refused(f"{only_here(found, rejoin.upstream.cluster)}: {REMEDY}; its masters are stopped")
    nodes.require(config, "open")


def _wait_for_disks(config: ClusterConfig, act: Act) -> None:
    """Until all storages have written down that they are a backup's: killed before, they come back RUNNING."""
    act.step("wait until all storages have that on their disks")
    deadline = time.monotonic() + PATIENCE
    while True:
        told = nodes.require(config, "status").values()
        if all(one["storages"] == one["backups"] for one in told):
            return
        if time.monotonic() > deadline:
            raise ServerError("not all storages have written down that they are a backup's: run bin/neo-rejoin again")
        time.sleep(LOOK)


def _wait(act: Act, ask: Asker, wanted: tuple[str, ...], start: bool = False) -> Status:
    """Until the cluster is in one of these states; the deadline moves with what changes. Raises ServerError."""
    seen: tuple[object, ...] = ()
    began = changed = time.monotonic()
    while (status := ask.status()).cluster_state not in wanted:
        now = (status.cluster_state, status.nodes)
        if now != seen:
            seen, changed = now, time.monotonic()
        storages = [node for node in status.nodes if node.type == preflight.STORAGE]
        up = sum(node.state in (RUNNING, "PENDING") for node in storages)
        state = status.cluster_state or "without a primary master"
        act.step(f"wait until the cluster is {wanted[0]}: it is {state}", up, len(storages))
        if start and status.cluster_state == "RECOVERING" and storages and up == len(storages):
            start = not _started(ask, began)
        if time.monotonic() - changed > PATIENCE:
            why = f" ({status.reason})" if status.reason else ""
            raise ServerError(
                f"the cluster is {state}{why}, expected {wanted[0]}: see that its nodes run; this is completed by"
                " itself then, or by bin/neo-rejoin"
            )
        time.sleep(LOOK)
    return status


def _started(ask: Asker, began: float) -> bool:
    """Start a new cluster that does not do so by itself; whether it was told to."""
    if time.monotonic() - began < BY_ITSELF:
        return False
    try:
        ask.start()
    except Refused:  # a storage is coming in at this moment
        return False
    return True
