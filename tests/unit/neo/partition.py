# SPDX-License-Identifier: GPL-2.0-or-later
"""The shapes of a cluster's and of a node's partition, for unit tests."""

import dataclasses
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.neo import ask as asked
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.neo.config import (
    ClusterConfig,
    ClusterTls,
    Control,
    Monitor,
    MySQL,
    Network,
    Node,
    NodeConfig,
    Software,
    Upstream,
)
from slapos.recipe.erp5.tls.partition import Caucased

TLS = ClusterTls("127.0.0.1", "", 24000, Caucased("", ()), "SECRET", "")
SOFTWARE = Software("/none/neoppod", "/none/neo_master.py", "/none/neo_ask.py", "/none/neo_tls.py")
CONTROL = Control("127.0.0.1", 28000)
UPSTREAM = Upstream("main", "127.0.0.9:30000")


def node(partition: Path, **fields: Any) -> NodeConfig:
    """Of a node with a master, an admin and two storages, whose folders are there; `fields` replace its fields."""
    for name in ("srv/neo", "var/run", "var/log"):
        (partition / name).mkdir(parents=True, exist_ok=True)
    config = NodeConfig(
        instance="a node",
        partition=str(partition),
        software=SOFTWARE,
        cluster="copy",
        network=Network("127.0.0.1", 30000, 31000, 10000),
        masters=("127.0.0.1:30000", "127.0.0.1:30001"),
        cluster_control="",
        master=True,
        storages=2,
        partitions=12,
        replicas=1,
        autostart=4,
        founding=True,
        upstream=None,
        tls=None,
        control=CONTROL,
        mysql=None,
    )
    return dataclasses.replace(config, **fields)


def mysql(partition: Path) -> MySQL:
    """The server of a node with two storages."""
    return MySQL(str(partition), "/none/mariadb", "administrator's", ("first 100%", "second"))


def cluster(**fields: Any) -> ClusterConfig:
    """Of one node with a master and two storages; `fields` replace its fields."""
    config = ClusterConfig(
        instance="a cluster",
        partition="/p",
        software=SOFTWARE,
        cluster="copy",
        partitions=12,
        replicas=0,
        upstream=None,
        requested_upstream=None,
        nodes=(Node("neo-node-0", 2, True, True, "a:1", "a:2", ("a:3", "a:4")),),
        masters=("a:1",),
        admins=("a:2",),
        differences=(),
        autostart=True,
        monitor=Monitor(60, ()),
        tls=None,
        control=CONTROL,
        upstream_control_url="",
    )
    return dataclasses.replace(config, **fields)


def authority(folder: Path, **fields: Any) -> tls.Authority:
    """Of a cluster with TLS; `fields` replace those of its parameter."""
    return tls.authority(cluster(partition=str(folder), tls=dataclasses.replace(TLS, **fields)))


def storage(state: str) -> asked.Node:
    """A storage as the cluster's primary master has it."""
    return asked.Node("STORAGE", "S1", "a:3", state)
