# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `neo-cluster`: what a NEO cluster is to be until its database is created, and from then on what it is."""

import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.tls.files import Files

LAYOUT = ("cluster", "partitions", "replicas", "engine", "use-ipv6", "ssl.enable", "ssl.external-caucased-url")
"""The parameters that cannot be changed later."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster: its storages, and whether it has a master. `founding`: the database was created on it.

    `sla` is its parameter as JSON.
    """

    name: str
    storage_count: int
    master: bool
    founding: bool
    sla: str


@dataclass(frozen=True)
class Created:
    """What a database was created with, and its nodes, to which some may have been added since."""

    cluster: str
    partitions: int
    replicas: int
    engine: str
    use_ipv6: bool
    ssl_enable: bool
    ssl_external_caucased_url: str
    upstream: Upstream | None
    nodes: tuple[Node, ...]


class Recipe:
    """Options in: `configuration` (the parameters), `cluster` (its name, given or kept), and `storage-path`, the file
    that keeps Created once there is a database, which the recipe `neo-nodes` writes.

    Options out, set while the section is initialised: those of LAYOUT, `upstream` and `requested-upstream` (an object
    or None), `nodes` (a list of objects as Node, with `listed`: whether the parameters still have it), and
    `differences` (sentences: what is asked for and is not done to a database).
    Raises UserError, one sentence naming the parameter.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        try:
            parameters = options["configuration"]
            check(parameters)
            created = load(Path(options["storage-path"]))
            wanted = requested(parameters, options["cluster"])
            if created:
                check_layout(created, wanted)
            is_now = replace(created, nodes=merged(created.nodes, wanted.nodes)) if created else wanted
            check_nodes(is_now.nodes, parameters)
        except ConfigurationError as error:
            raise UserError(str(error)) from error
        options["nodes"] = [
            {"listed": number < len(wanted.nodes), **asdict(node)} for number, node in enumerate(is_now.nodes)
        ]
        options["differences"] = list(differences(created, wanted)) if created else []
        options["requested-upstream"] = asdict(wanted.upstream) if wanted.upstream else None
        options["upstream"] = asdict(is_now.upstream) if is_now.upstream else None
        for key in LAYOUT:
            options[key] = getattr(is_now, field(key))

    def install(self) -> tuple[str, ...]:
        return ()

    update = install


# ---- what is asked for


def listed(parameters: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The nodes that the parameters ask for: `node-list`, or the one that `storage-count` means."""
    return parameters["node-list"] or [{"storage-count": parameters["storage-count"] or 1, "sla": {}}]


def check(parameters: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what a schema cannot say."""
    if parameters["node-list"] and parameters["storage-count"]:
        raise ConfigurationError("storage-count: node-list says it of each node; give one of the two.")
    check_ssl(parameters["ssl"])
    if bool(parameters["upstream-cluster"]) != bool(parameters["upstream-masters"]):
        given, other = ("upstream-cluster", "upstream-masters")[:: 1 if parameters["upstream-cluster"] else -1]
        raise ConfigurationError(
            f"{other}: it is empty and {given} is not; give both, as the upstream publishes them, or none."
        )


def check_nodes(nodes: Sequence[Node], parameters: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what the nodes that there are, listed or not any more, are too few for."""
    storages, replicas = sum(node.storage_count for node in nodes), parameters["replicas"]
    masters = parameters["masters"]
    if masters > sum(node.master for node in nodes):
        raise ConfigurationError(
            f"masters: {masters} masters need as many nodes, and there are {len(listed(parameters))};"
            " give fewer, or add nodes to node-list."
        )
    if replicas >= storages:
        raise ConfigurationError(
            f"replicas: {replicas} need at least {replicas + 1} storages, and there are {storages}; give fewer, or add"
            " storages."
        )


def check_ssl(ssl: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what of `ssl` could never work."""
    external, upstream = ssl["external-caucased-url"], ssl["upstream-certificate-url"]
    given = [name for name, value in ssl.items() if name != "enable" and value]
    if given and not ssl["enable"]:
        raise ConfigurationError(
            f"ssl.{given[0]}: it is given and ssl.enable is false; make that true, or leave it out."
        )
    if external and (upstream or ssl["csr-to-sign"]):
        other = "upstream-certificate-url" if upstream else "csr-to-sign"
        raise ConfigurationError(
            f"ssl.{other}: the authority {external} is used, which we are not; have requests signed there, for the"
            " upstream and its backup alike, and leave it out."
        )
    if upstream:
        tls.giver(Files(Path()), upstream)


def requested(parameters: Mapping[str, Any], cluster: str) -> Created:
    """What the parameters ask for, checked."""
    name, masters = parameters["upstream-cluster"], parameters["upstream-masters"]
    return Created(
        cluster=cluster,
        partitions=parameters["partitions"],
        replicas=parameters["replicas"],
        engine=parameters["engine"],
        use_ipv6=parameters["use-ipv6"],
        ssl_enable=parameters["ssl"]["enable"],
        ssl_external_caucased_url=parameters["ssl"]["external-caucased-url"],
        upstream=Upstream(name, " ".join(masters.split())) if name else None,
        nodes=tuple(
            Node(
                name=f"neo-node-{number}",
                storage_count=node["storage-count"],
                master=number < parameters["masters"],
                founding=True,
                sla=json.dumps(node["sla"], sort_keys=True),
            )
            for number, node in enumerate(listed(parameters))
        ),
    )


# ---- what there is


def check_layout(created: Created, wanted: Created) -> None:
    """Raise ConfigurationError when something else is asked for than what the database was created with."""
    for parameter in LAYOUT:
        before, now = getattr(created, field(parameter)), getattr(wanted, field(parameter))
        if before != now:
            raise ConfigurationError(
                f"{parameter}: it is {shown(now)}, but the database was created with {shown(before)}, which no"
                f" parameter changes; give {shown(before)} again, or request another instance."
            )


def field(parameter: str) -> str:
    """The field of Created that keeps a parameter."""
    return parameter.replace("-", "_").replace(".", "_")


def shown(value: object) -> str:
    """A value as JSON has it, texts as they are."""
    return value if isinstance(value, str) else json.dumps(value)


def merged(before: Sequence[Node], wanted: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes that there are, with what is asked for besides: nothing is ever taken away."""
    known = {node.name: node for node in before}
    nodes = []
    for node in wanted:
        has = known.pop(node.name, replace(node, founding=False))
        count, master = max(has.storage_count, node.storage_count), has.master or node.master
        nodes.append(replace(node, storage_count=count, master=master, founding=has.founding))
    return (*nodes, *known.values())


def differences(created: Created, wanted: Created) -> Iterator[str]:
    """What of the nodes is asked for, and not done, as it would delete something: a sentence for each."""
    wanted_nodes = {node.name: node for node in wanted.nodes}
    for node in created.nodes:
        now = wanted_nodes.get(node.name)
        if now is None:
            yield (
                f"{node.name} is not in node-list any more, but the cluster has it, with"
                f" {_storages(node.storage_count)}; nothing is deleted: put it back into node-list"
            )
        elif now.storage_count < node.storage_count:
            yield (
                f"storage-count of {node.name} is {now.storage_count}, but it has {_storages(node.storage_count)};"
                f" nothing is deleted: give {node.storage_count} again"
            )
        elif node.master and not now.master:
            masters = sum(node.master for node in created.nodes)
            yield (
                f"masters is {sum(node.master for node in wanted.nodes)}, but {node.name} has a master;"
                f" nothing is deleted: give {masters} again"
            )


def _storages(count: int) -> str:
    return "one storage" if count == 1 else f"{count} storages"


def load(path: Path) -> Created | None:
    """The kept Created, None when there is no database yet. Raises ConfigurationError when it cannot be read."""
    return shapes.load(path, Created) if path.exists() else None
