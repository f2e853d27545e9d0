# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of `etc/balancer.json`, and where files of a balancer's partition lie."""

from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config
from slapos.recipe.erp5.supervisor import Service


@dataclass(frozen=True)
class Family:
    """Zopes of one kind, each host:port, which the balancer offers at its port `port`."""

    name: str
    port: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """`etc/balancer.json`: what the programs of a balancer's partition know; `haproxy` is the release's part."""

    instance: str  # the instance's title, for messages
    partition: str  # the partition's directory
    haproxy: str
    families: tuple[Family, ...]

    def path(self, *parts: str) -> Path:
        return Path(self.partition, *parts)

    @property
    def program(self) -> str:
        return str(Path(self.haproxy, "sbin", "haproxy"))

    @property
    def wanted(self) -> Path:
        """haproxy's configuration as the partition was processed."""
        return self.path("etc", "haproxy.cfg")

    @property
    def loaded(self) -> Path:
        """The one that haproxy runs with: checked, and complete."""
        return self.path("var", "run", "haproxy.cfg")

    @property
    def socket(self) -> Path:
        """Where haproxy tells how it stands."""
        return self.path("var", "run", "haproxy.sock")

    @property
    def refusal(self) -> Path:
        """Why what is wanted is not loaded, in a sentence; there as long as that is so."""
        return self.path("var", "run", "balancer.refusal")

    @property
    def service(self) -> Service:
        """haproxy, and what follows its configuration, under its supervisor."""
        return Service(self.path("var", "run"), "balancer")


def load(path: str | Path) -> Config:
    """Read `etc/balancer.json`. Raises ConfigurationError."""
    return config.load(path, Config)
