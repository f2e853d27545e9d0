# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON file of a partition that runs Zope, as frozen dataclasses, and where the partition's files are."""

from dataclasses import dataclass, field
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control.configuration import Control, Partition
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.words import bracketed
from slapos.recipe.erp5.zope.standby_decide import ALL

PROGRAMS = "zope"
"""What the names of the partition's programs begin with."""


@dataclass(frozen=True)
class Software:
    """What the release built: `zope` and `neo` are the interpreters of those environments (Python 2.7); the scripts are
    our own, py2/zope_serve.py and py2/neo_ask.py; `logrotate` and `zstd` are locations of parts."""

    zope: str
    zope_serve: str
    neo: str
    neo_ask: str
    logrotate: str
    zstd: str


@dataclass(frozen=True)
class Neo:
    """The NEO cluster that holds the database; masters and admins are host:port; `tls` is empty, or the paths of CA,
    certificate and key, which a partition gets at `certificate_url`; `cache_size` is the client's, in bytes."""

    cluster: str
    masters: tuple[str, ...]
    admins: tuple[str, ...]
    tls: tuple[str, ...] = ()
    cache_size: int = 20 << 20
    certificate_url: str = field(default="", repr=False)


@dataclass(frozen=True)
class Zeo:
    """The ZEO server that holds the database: host:port, and the name that it has for the storage; `cache_size` is the
    client's, in bytes."""

    address: str
    storage: str
    cache_size: int = 20 << 20


@dataclass(frozen=True)
class Instance:
    """One Zope process: it listens on `host` and `port` with so many `threads`; what is held back or served together is
    one family."""

    name: str
    family: str
    host: str
    port: int
    threads: int

    @property
    def address(self) -> str:
        """Where it answers, as URLs have it."""
        return f"{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class User:
    """The user that a database without any user gets."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Config(Partition):
    """Everything that the programs of one Zope partition are told; exactly one of `neo` and `zeo` is not None.

    `zodb_cache_size` counts objects for each connection; `products` are folders of packages Products.*; `hold` names
    the families that are held back from their beginning, "*" being all: it counts at their creation only. Of each of
    `mysql_urls` Zope has a connection, mysql_0 and so on (mysql_url.py).
    """

    instance: str  # the instance's title, for messages
    partition: str  # the partition's directory
    software: Software
    neo: Neo | None
    zeo: Zeo | None
    zopes: tuple[Instance, ...]
    inituser: User
    zodb_cache_size: int
    products: tuple[str, ...]
    hold: tuple[str, ...]
    control: Control
    mysql_urls: tuple[str, ...] = field(default=(), repr=False)

    @property
    def prefix(self) -> str:
        """What the names of its programs begin with."""
        return PROGRAMS

    @property
    def certificate_url(self) -> str:
        """Where the partition gets a certificate as a client of NEO; empty without TLS."""
        return self.neo.certificate_url if self.neo else ""

    @property
    def families(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(sorted({zope.family for zope in self.zopes}))

    def of(self, family: str) -> tuple[Instance, ...]:
        """The Zopes of a family, "*" being all."""
        return tuple(zope for zope in self.zopes if family in (ALL, zope.family))

    @property
    def run(self) -> Path:
        """The folder of the supervisor's FIFO and state."""
        return self.path("var", "run")

    @property
    def homes(self) -> Path:
        """The folder of all Zopes' homes."""
        return self.path("var", "zope")

    def home(self, name: str) -> Path:
        """The folder that Zope calls its instance home; all in it is made anew at each start."""
        return self.homes / name

    def logs(self, name: str) -> tuple[Path, Path]:
        """A Zope's log of events, and that of requests."""
        return self.path("var", "log", f"{name}-event.log"), self.path("var", "log", f"{name}-access.log")

    def neo_log(self, name: str) -> Path:
        """The log of its NEO client, for neolog."""
        return self.path("var", "log", f"{name}-neo.log")

    def zope(self, name: str) -> Instance:
        for zope in self.zopes:
            if zope.name == name:
                return zope
        names = ", ".join(zope.name for zope in self.zopes)
        raise ConfigurationError(f"there is no Zope {name} in this partition, expected one of {names}")


def load(path: str | Path) -> Config:
    """Read the partition's JSON file. Raises ConfigurationError."""
    config = shapes.load(path, Config)
    if (config.neo is None) == (config.zeo is None):
        raise ConfigurationError(f"{path} names both or none of neo and zeo, expected the one that holds the database")
    return config
