# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks the nodes of a cluster, through their control endpoints, to do what node_actions.py offers."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from slapos.recipe.erp5.control.peer_client import Peer, PeerRefused
from slapos.recipe.erp5.errors import ConfigurationError, Error, ServerError
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.config import ClusterConfig, Node

REACH = 3.0
"""Seconds for a node to answer at all."""
WORK = 30.0
"""Seconds for it to do what it was asked for: it stops processes, which may hang."""
AT_ONCE = 8


@dataclass(frozen=True)
class Answers:
    """What the nodes said, by name: results, and why the others gave none."""

    results: Mapping[str, dict[str, Any]]
    errors: Mapping[str, str]

    @property
    def failed(self) -> str:
        """The nodes that gave no result, and why, for people; empty for none."""
        return "; ".join(f"{name}: {error}" for name, error in self.errors.items())


def ask(config: ClusterConfig, name: str, parameters: dict[str, str] | None = None) -> Answers:
    """Ask all nodes at once. Raises nothing but ConfigurationError: there have to be nodes."""
    if not config.nodes:
        raise ConfigurationError("this cluster has no nodes yet, expected some: process the instance again")

    def one(node: Node) -> dict[str, Any] | Error:
        try:
            return _ask(node, name, parameters or {})
        except Error as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip((node.name for node in config.nodes), pool.map(one, config.nodes), strict=True))
    results = {node: answer for node, answer in found.items() if not isinstance(answer, Error)}
    return Answers(results, {node: str(error) for node, error in found.items() if isinstance(error, Error)})


def _ask(node: Node, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    if not node.control_url:
        raise ServerError("it has not published its control URL yet, expected one: process the instance again")
    with Peer(node.control_url, f"the control URL of {node.name}") as peer:
        peer.ready(REACH)
        try:
            return peer.call(name, parameters, WORK)
        except PeerRefused as error:
            raise (
                error if error.proved else ServerError(f"{error}; process the instance again, for its token")
            ) from error


def require(config: ClusterConfig, name: str, parameters: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The results of all of them. Raises ServerError, naming those that gave none."""
    answers = ask(config, name, parameters)
    if answers.errors:
        raise ServerError(f"not all nodes could be asked to {name} ({answers.failed}), expected all: try it again")
    return dict(answers.results)


def stored_tids(config: ClusterConfig, after: int, limit: int) -> Sequence[int]:
    """The first transactions above `after` that any storage of the cluster has. Raises ServerError."""
    found = set[int]()
    for result in require(config, "tids", {"after": tids.text(after), "limit": str(limit)}).values():
        found.update(tids.parse(text) for text in result["tids"])
    return sorted(found)[:limit]
