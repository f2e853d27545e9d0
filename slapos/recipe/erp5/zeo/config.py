# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of `etc/zeo.json`, and where a ZEO partition's files lie."""

from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config
from slapos.recipe.erp5.control.configuration import Control, Partition
from slapos.recipe.erp5.supervisor import Service
from slapos.recipe.erp5.words import bracketed

PROGRAMS = "zeo"
"""What the names of the partition's programs begin with, and the server's service."""
BACKUP = "backup"
"""The parameter, and the regular job that it asks for."""


@dataclass(frozen=True)
class Software:
    """Locations of the release's parts; `zope` is the environment that has ZEO and repozo."""

    zope: str
    logrotate: str
    zstd: str

    def program(self, name: str) -> str:
        """The path of one of its programs, such as `runzeo`, or of its interpreter, `python`."""
        return str(Path(self.zope, "bin", name))


@dataclass(frozen=True)
class Backup:
    """The parameter `backup`."""

    enable: bool
    periodicity: str
    retention_days: int


@dataclass(frozen=True)
class Config(Partition):
    """`etc/zeo.json`: what the programs of a ZEO partition know. What runzeo itself reads is in `etc/zeo.conf`."""

    instance: str  # the instance's title, for messages
    partition: str  # the partition's directory
    software: Software
    host: str  # without brackets
    port: int
    storages: tuple[str, ...]
    backup: Backup
    control: Control

    @property
    def prefix(self) -> str:
        """What the names of its programs begin with."""
        return PROGRAMS

    @property
    def address(self) -> str:
        """Where the server answers, as it is published."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def service(self) -> Service:
        """The server, under its supervisor."""
        return Service(self.path("var", "run"), PROGRAMS)

    @property
    def conf(self) -> Path:
        """What runzeo reads at its start."""
        return self.path("etc", "zeo.conf")

    @property
    def nginx_pid(self) -> Path:
        """Where nginx has its process number."""
        return self.path("var", "run", "nginx.pid")

    def database(self, storage: str) -> Path:
        """The file of a storage; ZODB puts others of its own beside it, `.index`, `.lock`, `.tmp` and `.old`."""
        return self.path("srv", "zodb", f"{storage}.fs")

    def has_database(self, storage: str) -> bool:
        """Whether it is there; of an empty file ZODB would make an empty database."""
        path = self.database(storage)
        return path.is_file() and path.stat().st_size > 0

    def set_up(self, storage: str) -> Path:
        """The mark that a storage's file was made, which says when: from then on a missing one is not made again."""
        return self.path("srv", "zodb", f"{storage}.set-up")

    def backups(self, storage: str) -> Path:
        """The folder of a storage's backups (repository.py)."""
        return self.path("srv", "backup", "zeo", storage)


def load(path: str | Path) -> Config:
    """Read `etc/zeo.json`. Raises ConfigurationError."""
    return config.load(path, Config)
