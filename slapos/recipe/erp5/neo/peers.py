# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be asked of a NEO partition by who proves to know its token: by others, or by a node's own cluster."""

from typing import Any

from slapos.recipe.erp5.control.peer import Peers, Question
from slapos.recipe.erp5.neo.config import ClusterConfig, NodeConfig


def _asks(*parameters: str) -> Question:
    return Question(frozenset(parameters))


def _do(config: ClusterConfig, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    from slapos.recipe.erp5.neo import peer_actions  # with all that changes roles

    return peer_actions.do(config, name, parameters)


def _do_on_node(config: NodeConfig, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    from slapos.recipe.erp5.neo import node_actions

    return node_actions.do(config, name, parameters)


def _token_of(config: ClusterConfig, public_name: str) -> str:
    from slapos.recipe.erp5.neo import peer_actions

    return peer_actions.token_of(config, public_name)


OF_CLUSTER = Peers(
    {
        "status": _asks(),
        "is-fenced": Question(frozenset({"id"}), by_its_own_secret=True),  # by a node of its own, with that one's token
        "close": _asks("cluster"),
        "fence": _asks("cluster", "by", "new-cluster", "new-masters", "reason", "tid"),
    },
    _do,
    _token_of,
)
OF_NODE = Peers(
    {
        "status": _asks(),
        "fence": _asks("by", "reason"),
        "resume": _asks(),
        "follow": _asks("id", "cluster", "masters", "reset"),
        "close": _asks("seconds"),
        "open": _asks(),
        "tids": _asks("after", "limit"),
    },
    _do_on_node,
)
