# SPDX-License-Identifier: GPL-2.0-or-later
"""A NEO cluster and a backup of it over TLS, by what the one publishes: strangers stay out, and a takeover works."""

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.neo.config import NodeConfig, NodeTls
from slapos.recipe.erp5.tls import trusted
from tests.cluster.neo import CLIENT, Cluster, deploy, destroyed_at_the_end
from tests.cluster.node import Node, eventually


class Secured(Cluster):
    """A cluster with TLS, which its clients are asked with its own certificate, unless a test says otherwise."""

    def client(self, do: str, **options: Any) -> Any:
        return super().client(do, **{"tls": [str(path) for path in self.config.tls_files], **options})


def secured(node: Node, name: str, **parameters: Any) -> Secured:
    cluster = deploy(node, name, **parameters)
    made = Secured(node, name)
    made.path, made.parameters = cluster.path, cluster.parameters
    return made


@pytest.fixture(scope="module")
def main(node: Node) -> Iterator[Secured]:
    with destroyed_at_the_end(node, "tls-main"):
        cluster = secured(node, "tls-main", ssl={"enable": True})
        cluster.wait_until_green()
        cluster.write(first="written before there was a backup")
        yield cluster


@pytest.fixture(scope="module")
def copy(node: Node, main: Secured) -> Iterator[Secured]:
    published = main.published
    with destroyed_at_the_end(node, "tls-copy"):
        cluster = secured(
            node,
            "tls-copy",
            upstream_cluster=published["neo-cluster"],
            upstream_masters=published["neo-masters"],
            ssl={"enable": True, "upstream-certificate-url": published["neo-certificate-url"]},
        )
        cluster.wait_until_green()
        yield cluster


def customer(folder: Path, main: Secured) -> NodeConfig:
    """Whoever has what a cluster publishes, anywhere: gets a certificate as a node does."""
    (folder / "var/run").mkdir(parents=True)
    given = tls.giver(tls.Files(folder), main.published["neo-certificate-url"])
    (node, *_) = main.nodes()
    config = dataclasses.replace(node, partition=str(folder), tls=NodeTls(given.endpoint, given.secret))
    assert tls.renew_node(config) == 0
    return config


def test_only_who_has_what_is_published_gets_in(main: Secured, tmp_path: Path):
    words = {"masters": main.published["neo-masters"], "cluster": main.name, "tls": [None] * 3, "do": "read"}
    with pytest.raises(subprocess.TimeoutExpired):  # it would be let in within a second
        subprocess.run([main.config.software.program("python"), str(CLIENT), json.dumps(words)], timeout=8)
    files = [str(path) for path in customer(tmp_path / "customer", main).tls_files]
    assert main.client("read", tls=files) == {"first": "written before there was a backup"}


def test_a_backup_follows_over_tls_and_takes_over_alone(node: Node, main: Secured, copy: Secured, tmp_path: Path):
    (tid,) = main.write(second="written while there is one")
    copy.wait_until_copied(tid)
    customers = customer(tmp_path / "customer", main)
    assert len(trusted.load(tls.node_files(customers))) == 1
    for path in (main.path, *main.partitions()):
        assert node.slapos("supervisorctl", "stop", f"{path.name}:*").returncode == 0
    copy.wait("STARTING_BACKUP")
    copy.take_over()
    copy.write(third="written after the takeover")
    copy.wait_until_green()

    # Nothing of it needs the dead one, nor its authority; and its clients are let in with what they have.
    (path,) = copy.partitions()
    assert node.slapos("supervisorctl", "restart", f"{path.name}:*").returncode == 0
    copy.process("--force")
    copy.wait("RUNNING")
    files = [str(path) for path in customers.tls_files]
    assert set(copy.client("read", tls=files)) == {"first", "second", "third"}
    eventually(lambda: not copy.promises()["neo-certificates"][0], "the certificates are good")
    copy.wait_until_green()
