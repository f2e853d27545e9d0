# SPDX-License-Identifier: GPL-2.0-or-later
"""The action switchover: exchanges the roles of this replica and its primary, both being up; nothing is lost.

What happens when something ends on the way, on either side, is a table in stack/erp5/README.md.
"""

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pymysql.connections import Connection

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import peer_proof
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.peer_client import Peer, PeerRefused
from slapos.recipe.erp5.control.preflight import INFO, REFUSE, WARN, Preflight, Reason, require
from slapos.recipe.erp5.errors import ConfigurationError, Error, Refused
from slapos.recipe.erp5.mariadb import (
    gtid,
    hand_over,
    own_url,
    preflight,
    promote,
    role_state,
    sql,
    sql_replication,
    sql_role,
    status,
)
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Snapshot
from slapos.recipe.erp5.mariadb.role_state import Promotion

PREPARING, HANDING_OVER, WAITING, COMPLETING, CANCELLING = 60.0, 15.0, 10.0, 60.0, 20.0
"""Seconds that each step may take: HANDING_OVER and WAITING are the longest write outage, at the end of which it is
cancelled; CANCELLING is how long the old primary is told so, after which it asks by itself."""
NEAR, PATIENCE = 1, 120.0
"""Seconds of lag at which writes are stopped, and how many it may take to get there."""
LONG = 10
"""Seconds for which a transaction on the primary may have been writing."""


# ---- gather, decide


@dataclass(frozen=True)
class Primary:
    """What the primary's own control page says of it (peer_actions.about); or why not: `error`."""

    about: dict[str, Any]
    error: str = ""


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """The dry run. Raises Error."""
    snapshot = preflight.gather(config, times.now(), options.get("control-url", ""))
    return decide(snapshot, ask(snapshot.control_url), own_url.primary(config))


def ask(control_url: str) -> Primary:
    """Ask the primary, when its token is known."""
    if not control_url:
        return Primary({})
    try:
        with Peer(control_url) as peer:
            return Primary(peer.call("status", {}))
    except Error as error:
        return Primary({}, str(error))


def decide(snapshot: Snapshot, primary: Primary, own: str) -> Preflight:
    """What speaks against it: nothing of it can be forced."""
    return Preflight("switchover", tuple(_here(snapshot)) or tuple(_there(snapshot, primary, own)))


def _here(snapshot: Snapshot) -> list[Reason]:
    found = snapshot.status.own
    if found is None:
        return [Reason(REFUSE, f"this database does not answer ({snapshot.status.error}): start it")]
    if not found.sources:
        return [Reason(REFUSE, "this database is a primary, expected a replica: run switchover on one of its replicas")]
    source = found.sources[0]
    if (source.io.running, source.sql.running) != ("Yes", "Yes"):
        why = "; ".join(filter(None, (str(source.io), str(source.sql)))) or "it is stopped"
        sentence = (
            f"replication from {source.address} does not run ({why}), expected both threads to: mend that, or take over"
        )
        return [Reason(REFUSE, sentence)]
    if not snapshot.control_url:
        return [
            Reason(
                REFUSE,
                f"the primary {source.address} has to stop writing, which needs its own token: give the takeover-url"
                " that it publishes (option control-url, or the parameter replication.control-url)",
            )
        ]
    return []


def _there(snapshot: Snapshot, primary: Primary, own: str) -> list[Reason]:
    own_state = snapshot.status.own
    assert own_state
    source, about = own_state.sources[0], primary.about
    if primary.error:
        return [Reason(REFUSE, f"the primary cannot be asked: {primary.error}")]
    reasons = []
    if source.address not in about["addresses"]:
        reasons.append(
            Reason(
                REFUSE,
                f"the control URL is that of {', '.join(about['addresses'])}, expected that of {source.address}, which"
                " this replica follows: give the takeover-url of that one",
            )
        )
    elif about["role"] != "primary":
        reasons.append(Reason(REFUSE, f"{source.address} is a replica itself: switch over with its primary first"))
    elif about["fenced"] and about["hand-over"] != own:
        reasons.append(Reason(REFUSE, f"{source.address} is fenced ({about['fenced']}): resume it first, or take over"))
    ahead = gtid.only_in(gtid.parse(own_state.facts.binlog_state), gtid.parse(about["binlog-state"]))
    if ahead:
        sentence = f"this replica has {gtid.text(ahead)}, which {source.address} does not have and could not follow"
        reasons.append(Reason(REFUSE, f"{sentence}: make this replica anew"))
    if about["writer-seconds"] > LONG:
        reasons.append(Reason(REFUSE, f"{about['writer']} on {source.address} would be cut short: wait for its end"))
    elif about["writer"]:
        reasons.append(Reason(INFO, f"{about['writer']} on {source.address} is ended when it does not end by itself"))
    if source.lag is None or source.lag > NEAR:
        late = "unknown" if source.lag is None else f"{source.lag} s"
        reasons.append(Reason(WARN, f"the lag is {late}: writes go on until it is near 0"))
    return reasons


# ---- act


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """Exchange the roles. Raises Refused, Error: the sentence says who is writable."""
    done = settle(config, act, options)
    if done:
        return done
    snapshot = preflight.gather(config, times.now(), options.get("control-url", ""))
    primary = ask(snapshot.control_url)
    require(decide(snapshot, primary, own_url.primary(config)), forced=False)
    assert snapshot.status.own
    address = snapshot.status.own.sources[0].address
    with Peer(snapshot.control_url) as peer, sql.connect(config.defaults_file, config.socket) as connection:
        cancel_before(config, act, peer, str(primary.about.get("hand-over-id", "")))
        act.step(f"let {address} get ready to follow")
        with _before(f"{address} is writable as before"):
            in_turn(peer, "prepare-hand-over", {"primary-url": own_url.primary(config)}, PREPARING)
            wait_near(connection, act, lambda: peer.call("status", {})["position"])
        return _Switch(config, act, peer, connection, address).complete()


def cancel_before(config: Config, act: Act, peer: Peer, name: str) -> None:
    """Tell the primary that an earlier hand-over of ours was cancelled, when it has not asked yet. Raises Error."""
    if name and hand_over.outcome(config, hand_over.secret_of(config, name)) == hand_over.CANCELLED:
        act.step("let the primary write again, as an earlier switchover was cancelled")
        in_turn(peer, "cancel", {"id": name}, CANCELLING)


def in_turn(peer: Peer, name: str, arguments: dict[str, str], patience: float) -> dict[str, Any]:
    """Ask the old primary, which is busy while it asks by itself how a hand-over ended. Raises Error."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return peer.call(name, arguments, patience)
        except PeerRefused as error:
            if not error.busy or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


@contextlib.contextmanager
def _before(sentence: str):
    """Say of an Error from inside who is writable."""
    try:
        yield
    except Error as error:
        raise Refused(f"nothing was changed, {error}; {sentence}") from error


def wait_near(connection: Connection, act: Act, position: Callable[[], str]) -> None:
    """Until what the primary has just now is here a moment later. Raises Error."""
    deadline = time.monotonic() + PATIENCE
    while True:
        there, (source, *_) = position(), sql_replication.sources(connection)
        act.step("wait until the lag is near 0")
        if sql_role.wait_for(connection, there, NEAR):
            return
        if time.monotonic() > deadline:
            raise Refused(f"the lag is still {source.lag} s after {PATIENCE:g} s: try again when less is written")


def settle(config: Config, act: Act, options: dict[str, Any]) -> str:
    """What a run that was killed left open: completed, then the sentence says so; or cancelled, then it is empty."""
    left = hand_over.settle(config)
    if not left:
        return ""
    control_url = role_state.control_url(config, role_state.load(config), options.get("control-url", ""))
    if left[-1].outcome == hand_over.PROMOTED:
        if promote.is_unfinished(config):
            promote.complete(config, act)
        said = _tell(control_url, "complete", left[-1].secret, COMPLETING)
        return f"this database is the primary since a switchover that was interrupted{said}"
    _tell(control_url, "cancel", left[-1].secret, CANCELLING)
    return ""


def _tell(control_url: str, name: str, secret: str, timeout: float) -> str:
    """Tell the old primary; it asks by itself when that cannot be."""
    if not control_url:
        return "; its old primary asks by itself, and follows"
    try:
        with Peer(control_url) as peer:
            in_turn(peer, name, {"id": peer_proof.public_name(secret)}, timeout)
        return ", and its old primary follows it"
    except Error as error:
        return f"; its old primary could not be told ({error}): it asks by itself, and follows"


@dataclass
class _Switch:
    """One hand-over under way."""

    config: Config
    act: Act
    peer: Peer
    connection: Connection
    address: str
    secret: str = ""
    stopped: float = 0.0

    def complete(self) -> str:
        nonce = secrets.token_hex(16)
        self.secret = self.peer.hand_over_secret(nonce)
        self.peer.ready()
        hand_over.begin(self.config, self.secret)
        try:
            here = sql_replication.server_facts(self.connection).position
            self._promote(nonce, promote.begin(self.config, self.act, self.address, here, self.secret))
        except BaseException as error:
            self._give_up(error)
            raise
        outage = time.monotonic() - self.stopped
        hand_over.end(self.config, self.secret, hand_over.PROMOTED)
        return self._closing(outage)

    def _promote(self, nonce: str, promotion: Promotion) -> None:
        """From the first moment without writes to the next one with them: no step here may be longer than it has to."""
        self.act.step(f"let {self.address} stop writing and hand over")
        asked = {"id": nonce, "control": own_url.control(self.config), "primary-url": own_url.primary(self.config)}
        self.stopped = time.monotonic()
        position = self.peer.call("hand-over", asked, HANDING_OVER)["gtid"]
        self.act.step(f"apply all up to {position or 'the beginning'}")
        if not sql_role.wait_for(self.connection, position, WAITING):
            raise Refused(f"GTID {position} of {self.address} was not applied here within {WAITING:g} s")
        last_check = partial(hand_over.require_open, self.config, self.secret)
        promote.promote(self.config, self.act, self.connection, promotion, last_check)

    def _give_up(self, error: BaseException) -> None:
        """Durably here first, so that nothing can promote under it any more; then the old primary may write again."""
        reason = process.describe(error) if isinstance(error, Exception) else "it was interrupted"
        if not status.is_replica(self.config):
            raise Refused(
                f"this database has become the primary, and the rest was not completed ({reason}): run switchover again"
            ) from error
        hand_over.cancel(self.config, self.secret)
        hand_over.go_on(self.config)
        self.act.step(f"cancel, and let {self.address} write again")
        raise Refused(f"the switchover was cancelled, as {reason}; {self._cancelled()}") from error

    def _cancelled(self) -> str:
        try:
            answer = self._tell("cancel", CANCELLING)
        except Error as error:
            return (
                f"{self.address} cannot be told ({error}): nobody is writable until it asks this instance by"
                " itself, within seconds after it is back, and then it is"
            )
        if answer.get("writable"):
            return f"{self.address} is writable, as before"
        return f"{self.address} is not writable, as it is fenced for another reason"

    def _tell(self, name: str, patience: float) -> dict[str, Any]:
        """Tell the old primary how it ended. Raises Error."""
        return in_turn(self.peer, name, {"id": peer_proof.public_name(self.secret)}, patience)

    def _closing(self, outage: float) -> str:
        self.act.step(f"let {self.address} follow this database")
        self.act.details["outage"] = round(outage, 3)
        here = f"this database is the primary now, without writes for {outage:.2f} s"
        try:
            self._tell("complete", COMPLETING)
        except (Error, ConfigurationError) as error:
            return f"{here}; {self.address} refuses writes, and does not follow yet ({error}): it tries by itself"
        return f"{here}, and {self.address} follows it"
