# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `neo-nodes`: requests a partition for each node of a NEO cluster, and tells them all of its masters.

In two stages: the nodes publish their addresses, and only once all have does each get the complete list of masters,
before which it starts nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.buildout import requests
from slapos.recipe.erp5.buildout.neo_cluster import LAYOUT, Created, Node, field
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.words import bracketed

ABSENT: Mapping[str, Any] = {"master": "", "admin": "", "storages": [], "control-url": ""}

Ask = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""Requests a node by its name, parameters and sla; returns its addresses, ABSENT's keys, or nothing."""


@dataclass(frozen=True)
class Told:
    """The masters that the nodes were told of, and the admins that there were then: lists of addresses."""

    masters: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()


class Recipe:
    """Options in: those of requests.CONNECTION, of the recipe `neo-cluster` those of LAYOUT, `upstream` and `nodes`;
    `autostart` (bool), `innodb-buffer-pool-size` (bytes), `ssl` (what a node is told of the authority), `control-ip`
    and `control-port` (where the cluster's own control page answers), and the files that keep Created (`created-path`)
    and Told (`told-path`).

    Options out, set while the section is initialised: `found` (a list of objects as neo.config.Node),
    `masters` and `admins` (lists of addresses, empty until all nodes have published theirs), the same as texts,
    `masters-text` and `admins-text`, `requests` (certificate requests, PEM, of nodes that wait for a person),
    `missing` (names of the nodes that have not published), and `unsatisfied` (those of them that have no partition).
    When the part is installed, the nodes are told of new masters, after Created was written.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.created_path, self.told_path = Path(options["created-path"]), Path(options["told-path"])
        self.nodes = options["nodes"]
        self.cluster = {key: options[key] for key in (*LAYOUT, "upstream")}
        self.autostart = sum(node["storage_count"] for node in self.nodes) if options["autostart"] else 0
        self.ssl, self.pool = options["ssl"], options["innodb-buffer-pool-size"]
        self.control = f"{bracketed(options['control-ip'])}:{options['control-port']}"
        self.ask = asker(buildout, {key: options[key] for key in requests.CONNECTION})
        self.told = load(self.told_path)
        self.unsatisfied: list[str] = []
        found = [self._found(node) for node in self.nodes]
        missing = [node["name"] for node, one in zip(self.nodes, found, strict=True) if not is_complete(node, one)]
        # While a node that was added has not published its addresses yet, what was told before stays.
        self.telling = self.told if missing else Told(_known(found, "master"), _known(found, "admin"))
        options["found"] = [
            {
                "name": node["name"],
                "storage-count": node["storage_count"],
                "listed": node["listed"],
                "published": node["name"] not in missing,
                "has-partition": node["name"] not in self.unsatisfied,
                **{key: one.get(key, value) for key, value in ABSENT.items()},
            }
            for node, one in zip(self.nodes, found, strict=True)
        ]
        options["missing"], options["unsatisfied"] = missing, self.unsatisfied
        options["requests"] = "".join(one.get("request", "") for one in found)
        for key, addresses in (("masters", self.telling.masters), ("admins", self.telling.admins)):
            options[key], options[f"{key}-text"] = list(addresses), " ".join(addresses)

    def _found(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Request a node with what it was told before; what it has published, nothing when it cannot be requested."""
        try:
            return self._request(node, self.told.masters)
        except requests.NoPartition:
            self.unsatisfied.append(node["name"])
        except UserError:  # which has been logged
            pass
        return {}

    def _request(self, node: Mapping[str, Any], masters: Sequence[str]) -> Mapping[str, Any]:
        sla = json.loads(node["sla"])
        wanted = parameters(self.cluster, self.autostart, node, masters, self.ssl)
        ours = {"innodb-buffer-pool-size": self.pool, "cluster-control": self.control}
        return self.ask(node["name"], wanted | ours, sla)

    def install(self) -> tuple[str, ...]:
        if self.telling.masters:
            self.created_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.telling is not self.told:
                keep(self.created_path, created(self.cluster, self.nodes))
                keep(self.told_path, self.telling)
            if self.telling.masters != self.told.masters:
                for node in self.nodes:
                    self._request(node, self.telling.masters)
        return ()

    update = install


def _known(found: Iterable[Mapping[str, Any]], key: str) -> tuple[str, ...]:
    return tuple(addresses[key] for addresses in found if addresses[key])


def parameters(
    cluster: Mapping[str, Any],
    autostart: int,
    node: Mapping[str, Any],
    masters: Iterable[str],
    ssl: Mapping[str, str],
) -> dict[str, Any]:
    """The parameters of a node's partition."""
    upstream = cluster["upstream"] or {"cluster": "", "masters": ""}
    return {
        "cluster": cluster["cluster"],
        "masters": list(masters),
        "master": node["master"],
        "storage-count": node["storage_count"],
        "partitions": cluster["partitions"],
        "replicas": cluster["replicas"],
        "engine": cluster["engine"],
        "autostart": autostart,
        "founding": node["founding"],
        "upstream-cluster": upstream["cluster"],
        "upstream-masters": upstream["masters"],
        "use-ipv6": cluster["use-ipv6"],
        "ssl": dict(ssl),
    }


def is_complete(node: Mapping[str, Any], addresses: Mapping[str, Any]) -> bool:
    """Whether a node has published the address of each of its processes."""
    return bool(addresses) and (bool(addresses["master"]) or not node["master"])


def created(cluster: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> Created:
    """What the database is created with, or is by now."""
    upstream = Upstream(**cluster["upstream"]) if cluster["upstream"] else None
    keys = ("name", "storage_count", "master", "founding", "sla")
    made = tuple(Node(**{key: node[key] for key in keys}) for node in nodes)
    return Created(**{field(key): cluster[key] for key in LAYOUT}, upstream=upstream, nodes=made)


def asker(buildout: Any, connection: Mapping[str, str]) -> Ask:
    """Requests by way of the Master, which may not have anything of the node yet. Raises UserError when it refuses."""
    request = requests.asker(buildout, connection)
    return lambda name, parameters, sla: request(name, "neo-node", parameters, sla).get("addresses") or {}


def keep(path: Path, value: Created | Told) -> None:
    """Write a file that keeps `value`, unless it does already."""
    if not path.exists() or shapes.load(path, type(value)) != value:
        shapes.save(path, value)


def load(path: Path) -> Told:
    """What the nodes were told. Raises UserError when that cannot be read."""
    try:
        return shapes.load(path, Told) if path.exists() else Told()
    except ConfigurationError as error:
        raise UserError(str(error)) from error
