# SPDX-License-Identifier: GPL-2.0-or-later
"""Fences the upstream of a backup that takes over, as far as that may be done and can, and says what became of it."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.peer_client import Peer, PeerRefused, PeerUnreachable
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.neo import look, preflight
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.preflight import Snapshot
from slapos.recipe.erp5.neo.role_state import PendingFence
from slapos.recipe.erp5.words import listing

GONE = 3.0
"""Seconds for a control page to answer at all."""
FENCING = 40.0
"""Seconds for one that answers to stop its masters: those that hang are killed."""
LOOKING = 15.0
"""Seconds for one that answers to look at all of its cluster."""
CLOSING = 20.0
"""Seconds for one that answers to send its clients away."""
FETCHING = 15.0
"""Seconds for what is missing then to come: it is mostly there at once."""
STILL, SETTLING = 0.5, 15.0
"""Seconds for which a backup's tids have to stand still, and within which they do once its upstream is stopped."""
LOOK = 0.1


@dataclass(frozen=True)
class OldPrimary:
    """What became of it: `fenced`, its last transaction then (`tid`, None: not known), or `pending`; or neither.

    `sentence` says so. It is fenced also while nodes of it are `pending.undone`.
    """

    sentence: str
    fenced: bool = False
    tid: int | None = None
    pending: PendingFence | None = None


def fence(config: ClusterConfig, act: Act, ask: Asker, snapshot: Snapshot, forced: bool) -> OldPrimary:
    """Fence it. Raises ServerError when it answers and refuses, or cannot do it, unless forced.

    One whose control page answers lives, whatever its masters say.
    """
    name, url, alive = snapshot.upstream_name, snapshot.control_url, snapshot.answers
    if not url:
        state = "answers and is not fenced" if alive else "could not be fenced"
        return OldPrimary(
            f"the old primary {name} {state}, as its takeover-url is not known here: see that it stays down"
        )
    pending = PendingFence(name, url, times.text(times.now()))
    try:
        with Peer(url) as peer:
            peer.ready(GONE)
            alive = True
            if snapshot.answers:
                _fetch_the_rest(act, ask, peer, name)
            act.step(f"fence the old primary {name}, which stops its masters")
            answer = peer.call("fence", question(config, name, act.action, ""), FENCING)
    except (PeerUnreachable, PeerRefused) as error:
        if alive and not forced:
            raise ServerError(
                f"the old primary {name} answers and could not be fenced ({error}), expected its masters to be stopped:"
                " this cluster is a backup still; remove the cause, or force it"
            ) from error
        process.log(f"warning: the old primary {name} is not fenced: {error}")
        text = f"the old primary {name} is not fenced yet ({error}): that is tried until it succeeds"
        return OldPrimary(text, pending=pending)
    last, undone = str(answer.get("tid", "")), undone_of(answer)
    # It is told later where it was cut, so that it knows from where on to compare when it comes back.
    pending = dataclasses.replace(pending, undone=undone)
    return OldPrimary(fenced_sentence(name, undone), True, tids.parse(last) if last else None, pending)


def undone_of(answer: Mapping[str, object]) -> tuple[str, ...]:
    """The nodes that a cluster which was asked to fence itself could not reach, by its answer."""
    return tuple(str(answer.get("undone", ""))[:1000].split())


def fenced_sentence(name: str, undone: tuple[str, ...]) -> str:
    """What has become of an old primary that is fenced: its own partition stops the masters of nodes that come back."""
    if not undone:
        return f"the old primary {name} is fenced"
    return (
        f"the old primary {name} is fenced, but of its nodes, {listing(undone)} could not be reached: see that no"
        " master runs there"
    )


def seen(snapshot: Snapshot) -> Snapshot:
    """The same, with what the upstream's own partition would meet with at a fence, where it can be asked."""
    if not snapshot.control_url or snapshot.status.cluster_state not in preflight.BACKUP_STATES:
        return snapshot
    try:
        with Peer(snapshot.control_url) as peer:
            peer.ready(GONE)
            told = peer.call("status", {}, LOOKING)
    except (PeerUnreachable, PeerRefused, ConfigurationError) as error:
        return dataclasses.replace(snapshot, control_error=str(error))
    if told.get("cluster") != snapshot.upstream_name:
        return dataclasses.replace(snapshot, control_error=f"it is that of the cluster {told.get('cluster')}")
    return dataclasses.replace(snapshot, unreached=tuple(str(told.get("unreached", "")).split()))


def _fetch_the_rest(act: Act, ask: Asker, peer: Peer, name: str) -> None:
    """Have its clients sent away, and wait until all that they have committed is here; what is not is told later."""
    act.step(f"send the clients of {name} away, and fetch the rest of what they have committed")
    try:
        answer = peer.call("close", {"cluster": name}, CLOSING)
    except PeerRefused as error:
        process.log(f"warning: the clients of {name} are not sent away before it is fenced: {error}")
        return
    last, deadline = str(answer.get("tid", "")), time.monotonic() + FETCHING
    while last and time.monotonic() < deadline:
        if (ask.status().backup_tid or 0) >= tids.parse(last):
            return
        time.sleep(LOOK)


def question(config: ClusterConfig, name: str, reason: str, tid: str) -> dict[str, str]:
    """What the fence of the cluster `name` is asked for with; `tid` is where it was cut, empty before."""
    return {
        "cluster": name,
        "by": f"its backup {config.cluster}",
        "new-cluster": config.cluster,
        "new-masters": " ".join(config.masters),
        "reason": reason,
        "tid": tid,
    }


def settled(config: ClusterConfig, act: Act, ask: Asker, snapshot: Snapshot, old: OldPrimary, forced: bool) -> Snapshot:
    """Look anew, once nothing comes from the fenced upstream any more. Raises ServerError when it serves still."""
    act.step(f"wait until nothing comes from {snapshot.upstream_name} any more")
    deadline, since, before = time.monotonic() + SETTLING, time.monotonic(), ask.status()
    while time.monotonic() - since < STILL and time.monotonic() < deadline:
        time.sleep(LOOK)
        status = ask.status()
        if not _same(status, before):
            since, before = time.monotonic(), status
    assert snapshot.upstream
    if not forced and not look.connect(snapshot.upstream.masters.split()):
        raise ServerError(
            f"the masters of {snapshot.upstream_name} accept connections though it was fenced, expected none to: the"
            " control URL may be that of another instance with the same cluster name; or force it"
        )
    last = max((tid for tid in (snapshot.known_tid, old.tid) if tid), default=None)
    return dataclasses.replace(
        snapshot, now=times.now(), status=before, known_tid=last, answers=False, error="it is fenced", fenced=True
    )


def _same(one: preflight.Status, other: preflight.Status) -> bool:
    return (one.cluster_state, one.backup_tid, one.last_tid) == (other.cluster_state, other.backup_tid, other.last_tid)
