# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cluster's partition has a node do, by the node's control endpoint: stop its master, change what it follows.

Each can be asked for again: what is done already stays as it is.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, supervisor, times
from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.errors import Error, Refused, ServerError
from slapos.recipe.erp5.neo import aside, node_role, stored
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.config import MARIADB, MASTER, Followed, NodeConfig, Upstream
from slapos.recipe.erp5.neo.node_role import NodeFence

BY = "the cluster's partition"
POLITE = 2.0
"""Seconds that a master has to end, before it is killed: it keeps nothing on the disk, and may hang."""
ENDING = 15.0
"""Seconds in which its supervisor has to see that."""


def do(config: NodeConfig, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Do what was asked, for control/peer.py. Raises Busy, Refused, Error."""
    return _ACTIONS[name](config, **{key.replace("-", "_"): value for key, value in parameters.items()})


def _status(config: NodeConfig) -> dict[str, Any]:
    state = node_role.of(config).load()
    return {
        "node": config.instance,
        "cluster": config.cluster,
        "fenced": state.fenced.reason if state.fenced else "",
        "followed": state.followed,
        "storages": len(_storages(config)),
        "backups": sum(stored.is_backup(config, name) for name in _storages(config)),
    }


# ---- fence and resume


def _fence(config: NodeConfig, by: str, reason: str) -> dict[str, Any]:
    with action.running(config, "fence", BY) as act:
        role = node_role.of(config)
        if role.load().fenced is None:
            role.change(fenced=NodeFence(by[:200], reason[:200], times.text(times.now())))
        stop_master(config)
        act.sentence = f"the master of this node stays stopped, as {by[:200]} asked for it ({reason[:200]})"
        return {"fenced": True}


def stop_master(config: NodeConfig) -> None:
    """End the node's master; its fence, which is noted, has neo-start wait then. Raises ServerError."""
    service = config.service(MASTER)
    before = supervisor.status(service)
    if not config.master or before is None or not before.child_pid:
        return
    supervisor.ask(service, "restart")
    began, killed = time.monotonic(), False
    while (now := supervisor.status(service)) and now.child_pid == before.child_pid:
        waited = time.monotonic() - began
        if waited > ENDING:
            raise ServerError(
                f"the master of this node did not end within {ENDING:g} s, expected it to: see the log of neo-master"
            )
        if waited > POLITE and not killed:
            killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(before.child_pid, signal.SIGKILL)
        time.sleep(0.02)


def _resume(config: NodeConfig) -> dict[str, Any]:
    with action.running(config, "resume", BY) as act:
        node_role.of(config).change(fenced=None)
        with contextlib.suppress(Error):  # it waits after failures, perhaps
            supervisor.ask(config.service(MASTER), "start")
        act.sentence = "the master of this node runs again"
        return {"fenced": False}


# ---- follow


def _follow(config: NodeConfig, id: str, cluster: str, masters: str, reset: str) -> dict[str, Any]:
    with action.running(config, "follow", BY) as act:
        role = node_role.of(config)
        if role.load().fenced is None:
            raise Refused("the master of this node is not fenced, expected it to be, while what it follows is changed")
        if role.load().followed != id:
            with _storages_stopped(config, reset == "yes"):
                kept = [str(path) for path in aside.put(config, _storages(config), id)] if reset == "yes" else []
                _note(config, Upstream(cluster, masters), reset == "yes")
            role.change(followed=id)
            act.details["kept"] = kept
        act.sentence = f"this node follows {cluster} from the next start of its master on"
        return {"follows": cluster}


def _storages(config: NodeConfig) -> tuple[str, ...]:
    return tuple(name for name in config.names if name.startswith("storage-"))


@contextlib.contextmanager
def _storages_stopped(config: NodeConfig, server_too: bool) -> Iterator[None]:
    """No storage runs inside, nor what they have their data in when it is `server_too`; what a supervisor has runs
    again afterwards, whatever happens to this program."""
    with contextlib.ExitStack() as stack:
        for name in (*_storages(config), *((MARIADB,) if config.mysql and server_too else ())):
            service = config.service(name)
            if supervisor.status(service):
                stack.callback(supervisor.start, service)
                supervisor.stop(service)
        yield


def _note(config: NodeConfig, upstream: Upstream, reset: bool) -> None:
    """What the master is to do from its next start on."""
    if not config.master:
        return
    config.upstream_partitions.unlink(missing_ok=True)
    if reset:
        process.write_atomically(config.new_flag, "{}\n")
        closed(config).unlink(missing_ok=True)
    else:
        process.write_atomically(closed(config), "")
        config.new_flag.unlink(missing_ok=True)
    shapes.save(config.upstream_file, Followed(upstream))


def closed(config: NodeConfig) -> Path:
    """While this file is there, the master has no clients but backups (py2/neo_master.py); it holds until when."""
    return config.new_flag.with_name("closed")


def _close(config: NodeConfig, seconds: str) -> dict[str, Any]:
    """For so many seconds; whoever was killed while somebody took over has the clients back then."""
    if not seconds.isdigit():
        raise Refused("seconds is no number")
    if config.master:
        process.write_atomically(closed(config), f"{time.time() + int(seconds):.0f}\n", durable=False)
    return {"closed": config.master}


def _open(config: NodeConfig) -> dict[str, Any]:
    closed(config).unlink(missing_ok=True)
    return {"open": True}


# ---- tids


def _tids(config: NodeConfig, after: str, limit: str) -> dict[str, Any]:
    """The first `limit` transactions above `after` that the storages of this node have, finished or about to be."""
    if not limit.isdigit():
        raise Refused("limit is no number")
    found = set[int]()
    for name in _storages(config):
        found.update(stored.tids(config, name, tids.parse(after), int(limit)))
    return {"tids": [tids.text(one) for one in sorted(found)[: int(limit)]]}


_ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "status": _status,
    "fence": _fence,
    "resume": _resume,
    "follow": _follow,
    "close": _close,
    "open": _open,
    "tids": _tids,
}
