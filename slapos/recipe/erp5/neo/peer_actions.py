# SPDX-License-Identifier: GPL-2.0-or-later
"""What another instance may have this cluster do, when it proves to know its token: tell its state, be fenced."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import action, peer_client, peer_proof
from slapos.recipe.erp5.errors import ConfigurationError, Refused, ServerError
from slapos.recipe.erp5.neo import fence, nodes, role_state
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.config import ClusterConfig, Upstream
from slapos.recipe.erp5.neo.role_state import Fence, RoleState
from slapos.recipe.erp5.neo.status import asker

BY = "another instance"
CLOSED = 60
"""Seconds for which clients are kept out, so that a backup that takes over can fetch the rest."""
QUIET, SENT_AWAY = 0.5, 10.0
"""Seconds without a new transaction after which there are no clients any more, and within which that has to be."""
LOOK = 0.1


def do(config: ClusterConfig, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Do what was asked, for control/peer.py. Raises Busy, Refused, Error."""
    return _ACTIONS[name](config, **{key.replace("-", "_"): value for key, value in parameters.items()})


def _status(config: ClusterConfig) -> dict[str, Any]:
    state = role_state.of(config).load()
    with asker(config) as ask:
        status = ask.status()
    return {
        "cluster": config.cluster,
        "masters": " ".join(config.masters),
        "state": status.cluster_state,
        "fenced": state.fenced.reason if state.fenced else "",
        "tid": tids.text(status.last_tid) if status.last_tid else "",
        "unreached": " ".join(nodes.ask(config, "status").errors) if config.nodes else "",
    }


def _close(config: ClusterConfig, cluster: str) -> dict[str, Any]:
    """Send all clients away for a minute, but for backups; the last transaction, which all of those can fetch now."""
    _require_ours(config, cluster)
    with action.running(config, "close", BY) as act, asker(config) as ask:
        nodes.require(config, "close", {"seconds": str(CLOSED)})
        began = since = time.monotonic()
        last = None
        while time.monotonic() - since < QUIET:
            now = ask.status().last_tid
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - began > SENT_AWAY:
                raise ServerError(f"this cluster still has clients that write after {SENT_AWAY:g} s, expected none")
            time.sleep(LOOK)
        act.sentence = f"clients are kept out for {CLOSED} s, so that a backup can fetch the rest and take over"
        return {"tid": tids.text(last) if last else ""}


def _require_ours(config: ClusterConfig, cluster: str) -> None:
    """Raises Refused: with another one's token the one that is meant would go on."""
    if cluster != config.cluster:
        raise Refused(
            f"the control URL is that of the cluster {config.cluster}, expected that of {cluster}: give the"
            " takeover-url of that one"
        )


def _fence(
    config: ClusterConfig, cluster: str, by: str, new_cluster: str, new_masters: str, reason: str, tid: str
) -> dict[str, Any]:
    """Stop the masters here, if `cluster` is ours; `undone` in the answer: nodes where that has still to be done."""
    _require_ours(config, cluster)
    if tid:
        tids.parse(tid)
    state = role_state.of(config).load()
    if _is_told(state, new_cluster, tid):  # and asks how far it is; neo-control goes on with the rest
        return {"tid": "", "role": "primary", "undone": _undone(state)}
    with action.running(config, "fence", BY) as act:
        state = role_state.of(config).load()
        require_no_other(state, new_cluster)
        if tid and state.fenced and state.fenced.new_primary:
            role_state.of(config).change(fenced=dataclasses.replace(state.fenced, tid=tid))
            act.sentence = f"{by[:200]} has told that it has all that this cluster has up to {tid}"
            return {"tid": "", "role": "primary", "undone": _undone(state)}
        if state.fenced is None and _is_backup(config, state):
            act.sentence = f"this cluster is a backup itself: nothing was done, though {by[:200]} asked for a fence"
            return {"tid": "", "role": "backup", "undone": ""}
        new_primary = Upstream(new_cluster[:200], new_masters)
        done = fence.fence(config, act, Fence(by[:200], reason[:200], times.text(times.now()), new_primary, tid))
        last = tids.text(done.tid) if done.tid else ""
        act.details |= {"last-tid": last, "cut-at": tid}
        act.sentence = (
            f"the masters of this cluster are stopped, as {by[:200]} asked for it ({reason[:200]}){done.left}"
        )
        return {"tid": last, "role": "primary", "undone": " ".join(done.undone)}


def _is_told(state: RoleState, new_cluster: str, tid: str) -> bool:
    """Whether it is fenced for `new_cluster`, and knows already that it was cut at `tid`."""
    fenced = state.fenced
    primary = fenced.new_primary if fenced and not state.rejoin else None
    return bool(fenced and tid and fenced.tid == tid and primary and primary.cluster == new_cluster)


def _undone(state: RoleState) -> str:
    return " ".join(state.fenced.undone) if state.fenced else ""


def _is_backup(config: ClusterConfig, state: RoleState) -> bool:
    """Whether it is one now, as NEO has it, or was when it was asked last, where it does not answer."""
    with asker(config) as ask:
        status = ask.status()
    if status.cluster_state:
        return status.backup_tid is not None or status.cluster_state == "STOPPING_BACKUP"
    return state.upstream is not None or (config.upstream is not None and state.last is None)


def require_no_other(state: RoleState, new_cluster: str) -> None:
    """Raises Refused when another cluster than `new_cluster` is the primary in place of this one, or may be."""
    if state.rejoin and state.rejoin.upstream.cluster != new_cluster:
        other, at = state.rejoin.upstream.cluster, state.rejoin.at
    elif state.fenced and state.fenced.new_primary and state.fenced.new_primary.cluster != new_cluster:
        other, at = state.fenced.new_primary.cluster, state.fenced.at
    else:
        return
    raise Refused(
        f"this cluster is stopped since {at} for {other} to be the primary, expected it to be for no other than"
        f" {new_cluster}: look there, and rejoin it if it is"
    )


# ---- what a node of this cluster may ask


def token_of(config: ClusterConfig, public_name: str) -> str:
    """The token of the node that is called so where others may listen; empty for none."""
    for node in config.nodes:
        with contextlib.suppress(ConfigurationError):  # it has not published its control URL yet
            _, secret = peer_client.parse(node.control_url)
            if peer_proof.public_name(secret) == public_name:
                return secret
    return ""


def _is_fenced(config: ClusterConfig, id: str) -> dict[str, Any]:
    """Why this cluster is fenced, for a master that is about to start; empty when it is not."""
    fenced = role_state.of(config).load().fenced
    return {"fenced": f"since {fenced.at}, by {fenced.by} ({fenced.reason})" if fenced else ""}


_ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "status": _status,
    "is-fenced": _is_fenced,
    "close": _close,
    "fence": _fence,
}
