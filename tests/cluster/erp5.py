# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenarios of whole ERP5 instances share: the instance, its children, and what its balancer answers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node import promises
from slapos.recipe.erp5.root import config as configuration
from tests import zope_pages
from tests.cluster import neo
from tests.cluster.neo import Cluster
from tests.cluster.node import Instance, Node, eventually
from tests.cluster.zope import Zopes
from tests.zope_pages import Page

RUNS = 12
"""Runs of `slapos node instance` after which an ERP5 instance has to be complete: each child needs what others have
published before, and each run sees what the one before has left."""


class Erp5(Instance):
    """A requested ERP5 instance."""

    software_type = "default"

    def child(self, name: str) -> Path:
        """The partition of a child, such as mariadb or zope-1."""
        return self._titles()[f"{self.name}-{name}"]

    def _titles(self) -> dict[str, Path]:
        """The partitions by the titles of their instances."""
        found = {}
        for partition in self.node.slap.computer.getComputerPartitionList():
            title = partition.getInstanceParameterDict().get("instance_title")
            if title:
                found[title] = self.node.instances / partition.getId()
        return found

    def partitions(self) -> list[Path]:
        """Those that there are by now: its own, its children's, and those of NEO's nodes."""
        titles = self._titles()
        found = [self.path, *(path for title, path in titles.items() if title.startswith(f"{self.name}-"))]
        with contextlib.suppress(Exception):
            found += self.neo().partitions()
        return sorted(set(found))

    def all(self) -> list[str]:
        """The names of all its partitions."""
        return [path.name for path in self.partitions()]

    def process(self, *options: str) -> str:
        """Process all its partitions once, which has to succeed; the output."""
        return self.node.process("--only-cp", ",".join(self.all()), *options)

    def mariadb(self) -> Instance:
        return self._as(Instance, "mariadb")

    def neo(self) -> Cluster:
        found = self._as(Cluster, "neo")
        found.name = found.config.cluster
        return found

    def zopes(self, name: str = "1") -> Zopes:
        return self._as(Zopes, f"zope-{name}")

    def _as(self, kind: Any, name: str) -> Any:
        found = kind(self.node, f"{self.name}-{name}")
        found.path = self.child(name)
        return found

    def get(self, path: str = "/page", family: str = "default") -> Page:
        """What the balancer answers."""
        return zope_pages.fetch(self.published[f"family-{family}-url"], path)

    def promises(self) -> dict[str, tuple[bool, str]]:
        """Those of all its partitions, such as p3/neo-node."""
        found = {}
        for path in self.partitions():
            for title, result in promises.evaluate(path, self.node.slap._master_url).items():
                found[f"{path.name}/{title}"] = result
        return found

    def promise(self, child: str, title: str) -> tuple[bool, str]:
        """One of a child's, or of its own when `child` is empty: whether it has failed, and what it says."""
        path = self.child(child) if child else self.path
        return promises.evaluate(path, self.node.slap._master_url)[title]

    def is_complete(self) -> bool:
        with contextlib.suppress(Exception):
            children = configuration.load(self.path / "etc/erp5.json").children
            return all(child.published for child in children) and bool(self.published)
        return False


def deploy(node: Node, name: str, **parameters: Any) -> Erp5:
    """Request an ERP5 instance, and process it until it is complete."""
    made = Erp5(node, name)
    made.request({key.replace("_", "-"): value for key, value in parameters.items()})
    neo.process_until_complete(made, RUNS)
    return made


@contextlib.contextmanager
def destroyed_at_the_end(node: Node, *names: str) -> Iterator[None]:
    """For fixtures: ERP5 instances of these names are destroyed afterwards, and their partitions free again."""

    def titles() -> list[str]:
        return [
            title for title in Erp5(node, "")._titles() if any(f"{title}-".startswith(f"{name}-") for name in names)
        ]

    try:
        yield
    finally:
        for name in names:
            if name in titles():
                Erp5(node, name).request({}, "destroyed")

        def gone() -> bool:
            # What a destroyed partition has requested is destroyed by the next report, and it is by the one after that.
            assert node.slapos("report").returncode == 0
            return not titles()

        eventually(gone, f"{names} are destroyed")
