# SPDX-License-Identifier: GPL-2.0-or-later
"""What this instance does for another one that has proved to know its token (control/peer.py)."""

from collections.abc import Callable
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import action, peer_proof, token
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import Error, Refused
from slapos.recipe.erp5.mariadb import demote, fence, follow, hand_over, own_url, role_state, sql, sql_role, status
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.role_state import Fence, HandOver, RoleState
from slapos.recipe.erp5.mariadb.sql_replication import server_facts

BY = "another instance"


def do(config: Config, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Do what was asked, for control/peer.py. Raises Busy, Refused, Error."""
    return _ACTIONS[name](config, **{key.replace("-", "_"): value for key, value in parameters.items()})


def about(config: Config) -> dict[str, Any]:
    """What the other side wants to know before it begins anything."""
    state = role_state.load(config)
    with sql.connect(config.defaults_file, config.socket, status.TIMEOUT) as connection:
        facts, writer = server_facts(connection), sql_role.longest_writer(connection)
        replica = sql.is_replica(connection)
    return {
        "role": "replica" if replica else "primary",
        "server-id": facts.server_id,
        "position": facts.position,
        "binlog-state": facts.binlog_state,
        "writable": not facts.read_only,
        "fenced": state.fenced.reason if state.fenced else "",
        "hand-over": state.hand_over.to_primary_url if state.hand_over else "",
        "addresses": list(own_url.addresses(config)),
        "hand-over-id": peer_proof.public_name(state.hand_over.id) if state.hand_over else "",
        "primary-url": own_url.primary(config),
        "writer": str(writer) if writer else "",
        "writer-seconds": writer.seconds if writer else 0,
    }


def _fence(config: Config, address: str, by: str, new_primary: str, reason: str) -> dict[str, Any]:
    """Refuse writes here, if `address` is ours: with another one's token the one that is meant would stay writable."""
    ours = own_url.addresses(config)
    if address not in ours:
        raise Refused(
            f"the control URL is that of {', '.join(ours)}, expected that of {address}: give the takeover-url of that"
            " one"
        )
    if status.is_replica(config):  # nothing to fence; and who asks does not know who is the primary
        return {"gtid": "", "role": "replica"}
    with action.running(config, "fence", BY) as act:
        require_no_other(role_state.load(config), new_primary)
        wanted = Fence(by[:200], reason[:200], times.text(times.now()), new_primary)
        gtid = fence.fence_wherever(config, act, wanted)
        at = "when it starts" if gtid is None else f"at GTID {gtid or 'empty'}"
        act.sentence = f"this database refuses writes, as {by[:200]} asked for it ({reason[:200]}), {at}"
        return {"gtid": gtid or "", "role": "primary"}


def require_no_other(state: RoleState, new_primary: str) -> None:
    """Raises Refused when somebody else than `new_primary` has become the primary in place of this one, or may have."""
    other, at = "", ""
    if state.hand_over:
        other, at = state.hand_over.to_primary_url, state.hand_over.at
    elif state.fenced:
        other, at = state.fenced.new_primary, state.fenced.at
    if other and other != new_primary:
        raise Refused(
            f"this database refuses writes since {at} for {other} to be the primary, expected it to be for no other"
            f" than {new_primary}: look there, and follow it if it is"
        )


def _prepare(config: Config, primary_url: str) -> dict[str, Any]:
    """See that we could follow the other one, and have its certificate already, while writes go on here."""
    with action.running(config, "prepare-hand-over", BY) as act:
        primary = demote.primary_of(config, primary_url)
        demote.get_certificate(config, act, primary)
        with sql.connect(config.defaults_file, config.socket) as connection:
            ours = server_facts(connection)
        theirs = demote.ask(config, primary)
        demote.require_replica(primary, ours, theirs)
        act.sentence = f"this primary could follow {primary.address}"
        return {"position": theirs.position}


# ---- a hand-over, on the old primary: it is open from before the fence until it is completed or cancelled


def _hand_over(config: Config, id: str, control: str, primary_url: str) -> dict[str, Any]:
    secret = peer_proof.hand_over(token.load(config), id)
    with action.running(config, "hand-over", BY) as act:
        primary = demote.primary_of(config, primary_url)
        _require_primary(config, secret)
        # Before the fence: whoever finds the fence after a crash can ask how it ended.
        noted = HandOver(secret, control, urls.without_account(primary), "", times.text(times.now()))
        role_state.change(config, hand_over=noted)
        try:
            gtid = fence.fence(config, act, _fence_of(noted, f"the switchover to {primary.address}"))
        except (Error, OSError):
            fence.resume(config, act)
            raise
        act.sentence = f"this database refuses writes, at GTID {gtid}, to hand over to {primary.address}"
        return {"gtid": gtid}


def _fence_of(noted: HandOver, by: str) -> Fence:
    return Fence(by, "hand-over", noted.at, noted.to_primary_url, peer_proof.public_name(noted.id))


def _require_primary(config: Config, secret: str) -> None:
    state = role_state.load(config)
    if status.is_replica(config):
        raise Refused("this database is a replica itself, expected the primary: ask its own primary")
    if state.hand_over and state.hand_over.id != secret:
        raise Refused(
            f"this database is handed over to {state.hand_over.to_primary_url} since {state.hand_over.at} already,"
            " expected none: complete that, or resume here"
        )
    if state.fenced and not state.hand_over:
        raise Refused(f"this database is fenced since {state.fenced.at} ({state.fenced.reason}): resume it before")


def _cancel(config: Config, id: str) -> dict[str, Any]:
    with action.running(config, "cancel-hand-over", BY) as act:
        act.sentence = cancelled(config, act) if _is_open(config, id) else "there is no such hand-over here"
        return {"writable": not status.is_replica(config) and role_state.load(config).fenced is None}


def cancelled(config: Config, act: Act) -> str:
    """Accept writes again, as the new primary has given up; the sentence. Raises Error.

    A fence that somebody has put up for another reason meanwhile stays.
    """
    state = role_state.load(config)
    if state.fenced and state.hand_over and state.fenced.hand_over != peer_proof.public_name(state.hand_over.id):
        role_state.change(config, hand_over=None)
        return f"the hand-over was cancelled; this database is fenced still ({state.fenced.reason})"
    fence.resume(config, act)
    return "the hand-over was cancelled: this database accepts writes again"


def _complete(config: Config, id: str) -> dict[str, Any]:
    with action.running(config, "complete-hand-over", BY) as act:
        state = role_state.load(config)
        if state.hand_over is None and status.is_replica(config):
            act.sentence = "this database is a replica already"
        elif not _is_open(config, id):
            raise Refused("there is no such hand-over here: it was cancelled, or resumed by force")
        else:
            act.sentence = complete(config, act)
        return {"follows": act.sentence}


def complete(config: Config, act: Act) -> str:
    """Follow the new primary, which has been promoted; the sentence. Raises Error."""
    noted = role_state.load(config).hand_over
    assert noted
    act.action = "hand-over"
    primary = demote.primary_of(config, noted.to_primary_url)
    with sql.connect(config.defaults_file, config.socket) as connection:
        demote.become_replica(config, act, connection, primary, own_url.address(config))
    return f"this database was handed over: it is a replica of {primary.address} now"


def _is_open(config: Config, public_name: str) -> bool:
    noted = role_state.load(config).hand_over
    return noted is not None and peer_proof.public_name(noted.id) == public_name


# ---- the new primary's side


def _hand_over_state(config: Config, id: str) -> dict[str, Any]:
    return {"state": hand_over.state(config, hand_over.secret_of(config, id))}


def _follow(config: Config, primary_url: str, control_url: str = "") -> dict[str, Any]:
    with action.running(config, "follow", BY) as act:
        act.sentence = follow.follow(config, act, primary_url, control_url)
        return {"follows": act.sentence}


_ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "status": about,
    "fence": _fence,
    "prepare-hand-over": _prepare,
    "hand-over": _hand_over,
    "cancel": _cancel,
    "complete": _complete,
    "follow": _follow,
    "hand-over-state": _hand_over_state,
}
