# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at a NEO cluster and at its upstream, for the actions: what preflight.Snapshot holds."""

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.errors import ConfigurationError, Error
from slapos.recipe.erp5.neo import role_state
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import ClusterConfig, Upstream
from slapos.recipe.erp5.neo.preflight import Snapshot
from slapos.recipe.erp5.neo.role_state import RoleState
from slapos.recipe.erp5.neo.status import asker

CONNECT = 1.0
"""Seconds for one of the upstream's masters to accept a connection."""
ANSWER = 2.0
"""Seconds for an upstream that accepts connections to answer as well."""
PAGE = 1000
"""Transactions of the upstream that are asked for at once."""


@dataclass(frozen=True)
class Seen:
    """What was last seen of the upstream `cluster`: its last transaction (tid.text), at a moment (times.py)."""

    cluster: str = ""
    tid: str = ""
    at: str = ""


def seen_path(config: ClusterConfig) -> Path:
    """Where neo-control notes that, every few seconds."""
    return config.path("var", "run", "upstream-seen.json")


def seen(config: ClusterConfig, upstream: Upstream | None) -> Seen:
    """What neo-control saw last of `upstream`; nothing when it never did."""
    with contextlib.suppress(ConfigurationError):
        found = shapes.load(seen_path(config), Seen)
        if upstream and found.cluster == upstream.cluster:
            return found
    return Seen()


def follows(config: ClusterConfig, role: RoleState) -> Upstream | None:
    """What the cluster is, or was last, a backup of: by a rejoin, or by its creation."""
    return role.upstream or config.upstream


def control_url(config: ClusterConfig, role: RoleState, given: str = "") -> str:
    """The upstream's takeover-url: given now, with a rejoin, or by the parameters; empty for none.

    A parameter counts for the upstream that the parameters name.
    """
    if given or role.upstream_control_url:
        return given or role.upstream_control_url
    return config.upstream_control_url if follows(config, role) == config.requested_upstream else ""


def snapshot(config: ClusterConfig, ask: Asker, now: datetime, given_url: str = "") -> Snapshot:
    """Look at the cluster, and at its upstream where it is a backup. Raises ConfigurationError."""
    role = role_state.of(config).load()
    status = ask.status()
    upstream = follows(config, role)
    last = seen(config, upstream)
    known = tids.parse(last.tid) if last.tid else None
    answer = upstream_answer(config, upstream, status) if upstream and status.backup_tid is not None else Answer()
    newest = max((tid for tid in (known, answer.tid) if tid), default=None)
    return Snapshot(
        now=now,
        status=status,
        role=role,
        upstream=upstream,
        answers=answer.answers,
        error=answer.error,
        known_tid=newest,
        known_at=last.at,
        control_url=control_url(config, role, given_url),
    )


# ---- the upstream


@dataclass(frozen=True)
class Answer:
    """Whether the upstream answers as a client sees it, its last transaction if it told one, and why it does not."""

    answers: bool = False
    tid: int | None = None
    error: str = "it was not asked"


def upstream_answer(config: ClusterConfig, upstream: Upstream, status: Status) -> Answer:
    """Ask it, as one that hangs stays connected to our masters for long."""
    error = connect(upstream.masters.split())
    if error:
        return Answer(error=error)
    try:
        newest = newest_tid(config, upstream, max(status.last_tid or 0, status.backup_tid or 0))
    except Error:
        return Answer(error=f"its masters at {upstream.masters} accept connections and serve nobody")
    return Answer(True, newest, "")


def newest_tid(config: ClusterConfig, upstream: Upstream, since: int) -> int | None:
    """Its last transaction from `since` on; None when it has none. Raises Error when it does not answer."""
    ask, newest = asker(config, timeout=ANSWER), None
    while True:
        found = ask.tids_from(upstream.masters.split(), since, PAGE, upstream.cluster)
        newest = found[-1] if found else newest
        if len(found) < PAGE:
            return newest
        since = found[-1] + 1


def connect(addresses: Iterable[str]) -> str:
    """Whether one of these accepts connections: empty, or else why none does."""
    errors = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
            return ""
        except OSError as error:
            errors.append(f"{address}: {error.strerror or error}")
    return ", ".join(errors) or "it has no masters"
