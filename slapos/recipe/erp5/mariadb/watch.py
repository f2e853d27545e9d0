# SPDX-License-Identifier: GPL-2.0-or-later
"""What mariadb-control does by itself about role changes that stopped on the way: nobody has to call anything.

- An old primary that handed over, and was not told how that ended, asks the new one (ask_new_primary).
- A new primary fences the old one as soon as that answers (fence_old_primary).
- A switchover that was killed before its point of no return is cancelled (settle).
- A promotion that was killed behind it is completed (complete_promotion).
- A fence that was noted, and not put up before its program was killed, is put up (enforce_fence).
"""

from datetime import datetime, timedelta

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import action, journal, peer_proof
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.control.peer_client import Peer
from slapos.recipe.erp5.control.service import Attempt
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import fence, hand_over, own_url, peer_actions, promote, role_state, sql, status
from slapos.recipe.erp5.mariadb.config import Config

BY = "mariadb-control"
SILENCE = timedelta(seconds=15)
"""How long an old primary waits to be told how a hand-over ended, before it asks."""
TIMEOUT = 10.0
FENCE_OLD_PRIMARY = "fence-old-primary"


def look(config: Config, now: datetime, attempt: Attempt) -> None:
    """Let `attempt` do what is to be done now; each step raises Error, OSError: to be tried again."""
    attempt("settle-hand-over", lambda: settle(config))
    attempt("complete-promotion", lambda: complete_promotion(config))
    attempt("enforce-fence", lambda: enforce_fence(config))
    attempt(FENCE_OLD_PRIMARY, lambda: fence_old_primary(config))
    attempt("ask-new-primary", lambda: ask_new_primary(config, now))


def settle(config: Config) -> None:
    """Decide what a killed switchover left open."""
    promotion = role_state.load(config).promotion
    if promotion and promotion.hand_over_id:
        with action.place(config, "hand-over"):  # not while the switchover itself is at work
            hand_over.settle(config)


def enforce_fence(config: Config) -> None:
    """See that a server which is fenced is read-only now; one that does not run is so from its start on."""
    if role_state.load(config).fenced is None or not _is_writable(config):
        return  # without the place of actions, which others want to have at once
    with action.running(config, "fence", BY) as act:
        noted = role_state.load(config).fenced
        if noted is None:
            act.sentence = "the fence was taken away meanwhile"
            return
        gtid = fence.fence(config, act, noted)
        act.sentence = f"a fence that was noted and not put up is: this database refuses writes, at GTID {gtid}"


def _is_writable(config: Config) -> bool:
    try:
        with sql.connect(config.defaults_file, config.socket, status.TIMEOUT) as connection:
            return sql.is_writable(connection)
    except ServerError:
        return False


def ask_new_primary(config: Config, now: datetime) -> None:
    """Follow it when it was promoted, accept writes again when it was not, wait while it does not say."""
    noted = role_state.load(config).hand_over
    if noted is None or now - times.parse(noted.at) < SILENCE:
        return
    with Peer(f"{noted.to_control}/#{noted.id}") as peer:
        answer = peer.call("hand-over-state", {"id": peer_proof.public_name(noted.id)}, TIMEOUT)["state"]
    process.log(f"step: the hand-over to {noted.to_primary_url}, as asked there, is {answer}")
    if answer == hand_over.PROMOTED:
        with action.running(config, "complete-hand-over", BY) as act:
            act.sentence = peer_actions.complete(config, act)
    elif answer == hand_over.CANCELLED:
        with action.running(config, "cancel-hand-over", BY) as act:
            act.sentence = peer_actions.cancelled(config, act)


def fence_old_primary(config: Config) -> None:
    """Fence the one that could not be reached at the takeover; once is enough, as a fence lasts.

    Only a primary may claim that: not one that is fenced itself, and a replica has nothing to claim any more.
    """
    state = role_state.load(config)
    pending = state.fence_pending
    if pending is None or state.fenced:
        return
    if status.is_replica(config):
        _claim_nothing(config)
        return
    reason = f"its replica {config.instance} took over at {pending.since}"
    asked = {"address": pending.address, "by": "its replica", "new-primary": own_url.primary(config), "reason": reason}
    with Peer(pending.control_url) as peer:
        peer.call("fence", asked, TIMEOUT)
    role_state.change(config, fence_pending=None)
    sentence = f"the old primary at {pending.address} is fenced now"
    process.log(sentence)
    journal.append(config, Entry(times.text(times.now()), FENCE_OLD_PRIMARY, BY, "done", sentence))


def _claim_nothing(config: Config) -> None:
    with action.place(config, "fence"):  # not while a takeover makes a primary of it, and notes another one
        if status.is_replica(config):
            role_state.change(config, fence_pending=None)


def complete_promotion(config: Config) -> None:
    """Go on behind the point of no return."""
    promotion = role_state.load(config).promotion
    if promotion is None or not promote.is_unfinished(config):
        return
    with action.running(config, promotion.action, BY) as act:
        act.sentence = promote.complete(config, act)
