# SPDX-License-Identifier: GPL-2.0-or-later
"""The action takeover: a replica becomes the primary; what it has received is applied first, a live primary fenced."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.peer_client import Peer, PeerRefused, PeerUnreachable
from slapos.recipe.erp5.control.preflight import FORCE, INFO, WARN, Preflight, Reason, require
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.mariadb import drain, gtid, own_url, preflight, promote, sql
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Snapshot
from slapos.recipe.erp5.mariadb.replication_status import Own
from slapos.recipe.erp5.mariadb.role_state import PendingFence
from slapos.recipe.erp5.mariadb.status import is_replica

FENCE_TIMEOUT = 15.0
"""Seconds for a primary that answers to refuse writes: it waits itself for statements (sql_role.LOCK_WAIT)."""
GONE_TIMEOUT = 3.0
"""Seconds for one whose server does not answer: its control page may, and fences it for when it comes back."""


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, Error."""
    if promote.is_unfinished(config):
        return promote.complete(config, act)
    forced = bool(options.get("force"))
    snapshot = preflight.gather(config, times.now(), options.get("control-url", ""))
    verdict = decide(snapshot)
    require(verdict, forced)
    own = snapshot.status.own
    assert own
    act.details |= {"lost-transactions": verdict.lost_transactions, "forced": forced and verdict.needs_force}
    old = _fence_primary(config, act, snapshot, own, forced)
    address, unfenced = own.sources[0].address, not old.fenced
    with (
        _telling(config, old),
        sql.connect(config.defaults_file, config.socket) as connection,
        drain.drained(config, act, connection, old.gtid, forced) as position,
    ):
        promotion = promote.begin(config, act, address, gtid.text(position), unfenced=unfenced, pending=old.pending)
        promote.promote(config, act, connection, promotion)
    return f"{promote.sentence(config, promotion)}; {old.sentence}"


@contextlib.contextmanager
def _telling(config: Config, old: "OldPrimary") -> Iterator[None]:
    """Say of an Error from inside that the old primary is fenced already, where it is, and nobody writable."""
    try:
        yield
    except Error as error:
        if not old.fenced or not is_replica(config):
            raise
        raise ServerError(
            f"{error}; {old.sentence}, so that nobody takes writes: bin/mariadb-resume --force there lets it write"
            " again"
        ) from error


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    if promote.is_unfinished(config):
        return Preflight("takeover", (Reason(INFO, promote.unfinished_sentence(config)),), 0, 0.0)
    return decide(preflight.gather(config, times.now(), options.get("control-url", "")))


# ---- decide


def decide(snapshot: Snapshot) -> Preflight:
    """What a takeover would meet with, and lose."""
    reasons = list(preflight.replica_problems(snapshot, "take over"))
    own = snapshot.status.own
    if reasons or own is None:
        return Preflight("takeover", tuple(reasons))
    lost = lost_transactions(snapshot, own)
    reasons += preflight.applying_problems(snapshot, own)
    reasons += _primary_problems(snapshot, own, lost)
    reasons += preflight.backup_remarks(snapshot)
    seconds = 0.0 if lost == 0 else snapshot.known.lag
    return Preflight("takeover", tuple(reasons), lost, seconds)


def is_reachable(snapshot: Snapshot) -> bool:
    """Whether the primary answers now, if only to refuse us."""
    upstream = snapshot.status.upstream
    return upstream is not None and (upstream.facts is not None or upstream.refused)


def lost_transactions(snapshot: Snapshot, own: Own) -> int | None:
    """What the primary is known to have had, and would not be here; None when nothing is known of it."""
    here, upstream = preflight.received(snapshot, own), snapshot.status.upstream
    if upstream and upstream.facts:
        fetched = snapshot.control_url and own.sources[0].io.running == "Yes"
        return 0 if fetched else gtid.count(gtid.parse(upstream.facts.position), here)
    if snapshot.known.position:
        return gtid.count(gtid.parse(snapshot.known.position), here)
    return None


def _primary_problems(snapshot: Snapshot, own: Own, lost: int | None) -> Iterator[Reason]:
    source, upstream = own.sources[0], snapshot.status.upstream
    if is_reachable(snapshot):
        yield from _living_primary(snapshot, own, lost)
        return
    why = upstream.error if upstream else "it was not asked"
    yield Reason(INFO, f"the primary at {source.address} does not answer ({why})")
    if lost:
        yield Reason(
            FORCE,
            f"the primary had {lost} more transactions at {snapshot.known.at} than were received here, expected all of "
            "them: they would be lost; start the primary if it can be started",
        )
    elif lost is None:
        yield Reason(WARN, "what the primary had last is not known here, so that nobody can tell what was not received")
    if not snapshot.control_url:
        yield Reason(
            WARN,
            f"nobody can fence {source.address} when it comes back, as its takeover-url is not known here, expected it "
            "in replication.control-url, or with this action: see that it does not come back as a primary",
        )


def _living_primary(snapshot: Snapshot, own: Own, lost: int | None) -> Iterator[Reason]:
    source, upstream = own.sources[0], snapshot.status.upstream
    if not snapshot.control_url:
        more = f", and has {lost} transactions that were not received here" if lost else ""
        yield Reason(
            FORCE,
            f"the primary at {source.address} answers{more}, and could go on writing, expected to be able to fence it: "
            "give its takeover-url (control-url), or stop it, or use bin/mariadb-switchover",
        )
        return
    yield Reason(
        INFO, f"the primary at {source.address} answers: it is fenced first, and the rest of what it has fetched"
    )
    if source.io.running != "Yes":
        amount = f"{lost} transactions" if lost and upstream and upstream.facts else "the rest"
        said = f" ({source.io})" if source.io.number else ""
        yield Reason(
            FORCE if lost is None or lost else WARN,
            f"the thread that receives does not run{said}, so that {amount} of the primary's would be lost, expected "
            "it to run: the promise mariadb-replication says what to do",
        )


# ---- the old primary


@dataclass(frozen=True)
class OldPrimary:
    """What became of it: `fenced` at `gtid`, or to be fenced later (`pending`), or neither; `sentence` says so."""

    sentence: str
    fenced: bool = False
    gtid: str = ""
    pending: PendingFence | None = None


def _fence_primary(config: Config, act: Act, snapshot: Snapshot, own: Own, forced: bool) -> OldPrimary:
    """Fence it as far as we may and can. Raises ServerError when it answers and refuses, unless forced.

    One whose control page answers lives, whatever its server says: it may be full, and still be written to.
    """
    address, url = own.sources[0].address, snapshot.control_url
    alive = is_reachable(snapshot)
    if not url:
        state = "answers and is not fenced" if alive else "could not be fenced"
        return OldPrimary(
            f"the old primary at {address} {state}, as its takeover-url is not known here: see that nobody writes to it"
        )
    act.step(f"fence the old primary at {address}")
    pending = PendingFence(address, url, times.text(times.now()))
    try:
        with Peer(url) as peer:
            peer.ready(GONE_TIMEOUT)
            alive = True
            reason = f"{act.action} of its replica at GTID {own.facts.position or 'empty'}"
            asked = {
                "address": address,
                "by": "its replica",
                "new-primary": own_url.primary(config),
                "reason": reason,
            }
            answer = peer.call("fence", asked, FENCE_TIMEOUT)
            if answer.get("role") != "primary":
                raise PeerRefused(f"{address} is a replica itself, so that another one is the primary", True)
    except (PeerUnreachable, PeerRefused) as error:
        if alive and not forced:
            late = ", unless it is fenced a moment later" if isinstance(error, PeerUnreachable) else ""
            raise ServerError(
                f"the primary at {address} answers and could not be fenced ({error}), expected it to refuse writes: "
                f"this database is a replica still, and the other one as it was{late}; remove the cause, or force it"
            ) from error
        process.log(f"warning: the old primary at {address} is not fenced: {error}")
        return OldPrimary(
            f"the old primary at {address} is not fenced yet ({error}): that is tried until it succeeds",
            pending=pending,
        )
    return OldPrimary(f"the old primary at {address} is fenced", fenced=True, gtid=str(answer.get("gtid", "")))
