# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a master from starting while its cluster is fenced: by its node's mark, or as the cluster's partition says.

A fence may have been put up while this node was not there to be told, so its own mark alone proves nothing.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import peer_proof, token
from slapos.recipe.erp5.control.peer_client import Peer
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import node_role
from slapos.recipe.erp5.neo.config import NodeConfig

LOOK = 0.2
"""Seconds between two looks at the node's own mark."""
ASK = 2.0
"""Seconds between two questions to the cluster's partition."""
REACH = 3.0
"""Seconds for it to answer."""
UNANSWERED = 20.0
"""Seconds after which a master starts without an answer: one that starts with its machine answers within a few."""


@dataclass(frozen=True)
class Answer:
    """What the cluster's partition says: why the cluster is `fenced`, empty when it is not, or `error`: no answer."""

    fenced: str = ""
    error: str = ""


def wait(path: str | Path) -> NodeConfig:
    """The configuration at `path`, once the node's master may run. Raises ConfigurationError."""
    began, known = time.monotonic(), False
    while True:
        config = configuration.load_node(path)
        if node_role.of(config).load().fenced:
            return _until_lifted(path, config)
        answer = ask(config)
        if answer.fenced and not known:
            known = True
            process.log(f"the cluster {config.cluster} is fenced {answer.fenced}, and its master starts when that ends")
        if not answer.fenced and not answer.error:
            return config
        # Once it is known to be fenced, silence is no reason to start.
        if answer.error and not known and time.monotonic() - began >= UNANSWERED:
            process.log(
                f"warning: the partition of the cluster {config.cluster} does not say whether that is fenced"
                f" ({answer.error}): the master starts all the same after {UNANSWERED:g} s, as a cluster has to run"
                " without that partition"
            )
            return config
        time.sleep(ASK)


def _until_lifted(path: str | Path, config: NodeConfig) -> NodeConfig:
    """Wait for the end of the node's own mark, by which the cluster's partition says that its fence has ended."""
    fenced = node_role.of(config).load().fenced
    said = f"since {fenced.at}, by {fenced.by} ({fenced.reason})" if fenced else ""
    process.log(f"the master of this node is fenced {said}, and starts when that is resumed")
    while node_role.of(config).load().fenced:
        time.sleep(LOOK)
    return configuration.load_node(path)


def ask(config: NodeConfig) -> Answer:
    """Ask the cluster's partition, with this node's own token, which that one knows. Raises nothing."""
    if not config.cluster_control:
        return Answer()
    try:
        secret = token.load(config)
        with Peer(f"https://{config.cluster_control}/#{secret}", "the address of the cluster's partition") as peer:
            peer.ready(REACH)
            told = peer.call("is-fenced", {"id": peer_proof.public_name(secret)}, REACH)
    except (Error, OSError) as error:
        return Answer(error=process.describe(error))
    return Answer(str(told.get("fenced", "")))
