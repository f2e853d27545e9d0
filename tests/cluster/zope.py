# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenarios of Zope share: requested partitions of Zopes, how they stand, and their pages."""

import contextlib
from collections.abc import Callable
from typing import Any

import psutil

from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.standby_state import Standing, Zope
from tests import zope_pages
from tests.cluster.neo import Cluster
from tests.cluster.node import Instance, Node, eventually, only
from tests.zope_pages import Page


class Zopes(Instance):
    """A requested partition of Zopes."""

    software_type = "zope"

    @property
    def config(self) -> Config:
        return configuration.load(self.path / "etc/zope.json")

    def process(self, *options: str) -> str:
        """Process it once, which has to succeed; the output."""
        return self.node.process(*only(self), *options)

    def standing(self) -> Standing:
        """How all stand, as soon as there is a supervisor."""
        return eventually(lambda: standby_state.status(self.config.run), "a supervisor that tells how all stand")

    def zope(self, name: str = "web-0") -> Zope:
        return self.standing().zope(name)

    def wait(self, state: str, name: str = "web-0", but: Callable[[Zope], bool] = lambda zope: True) -> Zope:
        """Until a Zope is in a state, and more is true of it."""

        def reached() -> Zope | None:
            zope = self.zope(name)
            return zope if zope.state == state and but(zope) else None

        try:
            return eventually(reached, f"{name} of {self.name} is {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.standing()}\n{self.logs()}") from None

    def logs(self) -> str:
        """The ends of its logs, for messages."""
        paths = [*self.path.glob(".*zope*.log"), *self.path.glob("var/log/*-event.log")]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(paths))

    def get(self, path: str = "/page", name: str = "web-0") -> Page:
        return zope_pages.get(self.config, path, name)

    def read(self, name: str = "web-0") -> str:
        return zope_pages.read(self.config, name)

    def write(self, text: str, name: str = "web-0") -> None:
        zope_pages.write(self.config, text, name)

    def do(self, program: str, *words: str) -> str:
        """What a program of bin/ says, which has to succeed."""
        finished = self.program(program, *words)
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def promise(self, name: str = "zope-standby") -> tuple[bool, str]:
        """Whether it has failed, and what it says, now."""
        return self.promises()[name]

    def peers(self) -> set[str]:
        """The addresses, host:port, to which its processes have connections."""
        found = set()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found |= {f"{one.raddr.ip}:{one.raddr.port}" for one in process.net_connections("inet") if one.raddr}
        return found


def zodb_of(cluster: Cluster) -> dict[str, str]:
    """The parameter `zodb` for a cluster, made of what it publishes alone."""
    published = cluster.published
    return {name: published[name] for name in ("neo-cluster", "neo-masters", "neo-admins")}


def deploy(node: Node, name: str, zodb: dict[str, Any], **parameters: Any) -> Zopes:
    """Request a partition of Zopes, and process it once."""
    zopes = Zopes(node, name)
    zopes.request({"zodb": zodb, **{key.replace("_", "-"): value for key, value in parameters.items()}})
    zopes.process()
    return zopes


def addresses(cluster: Cluster) -> set[str]:
    """Of a cluster's masters and storages: who has a connection to one of them is a client."""
    return {*cluster.config.masters, *(address for node in cluster.config.nodes for address in node.storages)}
