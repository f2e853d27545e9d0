# SPDX-License-Identifier: GPL-2.0-or-later
"""The action takeover: a backup cluster becomes a primary, in place of its upstream, which is fenced."""

import contextlib
from collections.abc import Iterator
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import FORCE, INFO, WARN, Preflight, Reason, require
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.neo import look, old_primary, preflight, promote, role_state
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.old_primary import OldPrimary
from slapos.recipe.erp5.neo.preflight import Snapshot
from slapos.recipe.erp5.neo.status import asker
from slapos.recipe.erp5.words import listing


def run(config: ClusterConfig, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, Error."""
    forced = bool(options.get("force"))
    with asker(config) as ask:
        begun = role_state.of(config).load()
        if begun.promotion and promote.is_unfinished(begun, ask.status()):
            return promote.complete(config, act, ask, begun.promotion, forced)
        snapshot = look.snapshot(config, ask, times.now(), options.get("control-url", ""))
        verdict = decide(snapshot)
        require(verdict, forced)
        old = old_primary.fence(config, act, ask, snapshot, forced)
        with _telling(old):
            if old.fenced:
                snapshot = old_primary.settled(config, act, ask, snapshot, old, forced)
                verdict = decide(snapshot)
                require(verdict, forced)
            act.details |= {"lost-seconds": verdict.lost_seconds, "forced": forced and verdict.needs_force}
            unfenced = not old.fenced
            promotion = promote.begin(config, act, snapshot, forced=forced, unfenced=unfenced, pending=old.pending)
            return f"{promote.promote(config, act, ask, promotion)}; {old.sentence}"


@contextlib.contextmanager
def _telling(old: OldPrimary) -> Iterator[None]:
    """Say of an Error from inside that the old primary is fenced already, where it is."""
    try:
        yield
    except Error as error:
        if not old.fenced:
            raise
        raise ServerError(
            f"{error}; {old.sentence}, so that nobody takes writes: bin/neo-resume --force there lets it write again"
        ) from error


def check(config: ClusterConfig, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    with asker(config) as ask:
        begun = role_state.of(config).load()
        if begun.promotion and promote.is_unfinished(begun, ask.status()):
            return Preflight("takeover", (Reason(INFO, promote.unfinished_sentence(begun.promotion)),), None, 0.0)
        return decide(old_primary.seen(look.snapshot(config, ask, times.now(), options.get("control-url", ""))))


# ---- decide


def decide(snapshot: Snapshot) -> Preflight:
    """What a takeover would meet with, and lose."""
    reasons = list(preflight.backup_problems(snapshot, "take over"))
    if not reasons:
        reasons += _upstream_problems(snapshot)
        reasons += preflight.storage_problems(snapshot)
    return Preflight("takeover", tuple(reasons), None, _lost_seconds(snapshot))


def _lost_seconds(snapshot: Snapshot) -> float | None:
    """What a living upstream has and this backup has not is fetched, where that is not too much."""
    lost = preflight.lost_seconds(snapshot)
    is_fetched = snapshot.answers and snapshot.control_url and lost is not None and lost <= preflight.FETCHED
    return 0.0 if is_fetched else lost


def _upstream_problems(snapshot: Snapshot) -> Iterator[Reason]:
    name = snapshot.upstream_name
    if snapshot.fenced:
        yield from preflight.lost_problems(snapshot, "bin/neo-resume --force there lets the upstream go on")
    elif snapshot.answers:
        yield from _living_upstream(snapshot)
    else:
        yield Reason(INFO, f"the upstream {name} does not answer ({snapshot.error})")
        yield from preflight.lost_problems(snapshot, "start the upstream if it can be started")
        if not snapshot.control_url:
            yield Reason(
                WARN,
                f"nobody can fence {name} when it comes back, as its takeover-url is not known here, expected it in"
                " upstream-control-url, or with this action: it would come back RUNNING, see that it does not",
            )
    yield from _fencing(snapshot)


def _fencing(snapshot: Snapshot) -> Iterator[Reason]:
    """What a fence would meet with, where a dry run has asked."""
    name = snapshot.upstream_name
    if snapshot.control_error and snapshot.answers:
        yield Reason(
            FORCE,
            f"{name} could not be fenced ({snapshot.control_error}), expected its control page at the takeover-url that"
            " is known here: remove the cause, or stop its masters",
        )
    elif snapshot.control_error:
        yield Reason(
            WARN,
            f"{name} cannot be fenced yet ({snapshot.control_error}): that is tried until it succeeds, see that it"
            " stays down until then",
        )
    if snapshot.unreached:
        yield Reason(
            WARN,
            f"of the nodes of {name}, {listing(snapshot.unreached)} cannot be reached by its own partition, and are"
            " fenced as soon as they can: see that no master runs there",
        )


def _living_upstream(snapshot: Snapshot) -> Iterator[Reason]:
    name, lost = snapshot.upstream_name, preflight.lost_seconds(snapshot)
    if not snapshot.control_url:
        yield Reason(
            FORCE,
            f"the upstream {name} answers, and could go on writing, expected to be able to fence it: give its"
            " takeover-url (control-url), or stop its masters",
        )
    else:
        yield Reason(
            INFO,
            f"the upstream {name} answers: its clients are sent away, the rest of what they have committed is"
            " fetched, and it is fenced, which stops its masters",
        )
    if lost is not None and lost > preflight.FETCHED:
        yield Reason(
            FORCE,
            f"{preflight.span(snapshot)} would be lost, as this backup is that much behind, expected less than"
            f" {preflight.FETCHED:g} s: wait until it has caught up",
        )
