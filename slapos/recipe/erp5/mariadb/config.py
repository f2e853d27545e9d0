# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of a MariaDB partition's `etc/mariadb.json`, and where each of its files lies."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slapos.recipe.erp5 import config
from slapos.recipe.erp5.control.configuration import Places
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.supervisor import Service
from slapos.recipe.erp5.tls.partition import Caucased, Terms

ADMINISTRATOR = "slapos_administrator"
"""The local administration account: one name in every partition, a password of its own in each."""
REPLICATION_USER = "replication_user"
PROGRAMS = "mariadb"
"""What the names of a MariaDB partition's programs begin with."""


@dataclass(frozen=True)
class Software:
    """Locations of the release's parts: each holds `bin/` and whatever else the component has."""

    mariadb: str
    logrotate: str
    percona_toolkit: str
    zstd: str
    zoneinfo: str  # a folder such as .../usr/share/zoneinfo


@dataclass(frozen=True)
class Network:
    """`ipv6` is empty without `use-ipv6`; `backup_port` is nginx's, on the same addresses.

    `caucased_port` is the certificate authority's, which takes the next one too; `control_port` is the control page's.
    """

    ipv4: str
    ipv6: str
    port: int
    backup_port: int
    caucased_port: int
    control_port: int


@dataclass(frozen=True)
class Database:
    """One entry of `database-list`, its password given or generated."""

    name: str
    user: str
    password: str
    with_process_privilege: bool = False


@dataclass(frozen=True)
class Secrets:
    """Passwords that were generated for this partition and are kept; `backup_token` is in the backups' URL."""

    administrator_password: str
    replication_password: str
    backup_token: str


@dataclass(frozen=True)
class LogicalBackup:
    """`backup.logical`: `periodicity` is a cron expression, `daily` or `hourly`."""

    enable: bool
    periodicity: str
    retention_days: int


@dataclass(frozen=True)
class PhysicalBackup:
    """`backup.physical`: the same, and how many `incrementals` are made between two full backups."""

    enable: bool
    periodicity: str
    retention_days: int
    incrementals: int


@dataclass(frozen=True)
class Backup:
    """The parameter `backup`; `max_rate` is in bytes a second, 0 for no limit."""

    logical: LogicalBackup
    physical: PhysicalBackup
    max_rate: int


@dataclass(frozen=True)
class Replication:
    """The parameter `replication`, its synonyms translated (primary.py): where a new database comes from.

    `primary_url` is read by primary.parse(); `bootstrap_url` and `caucased_url` are empty when not given;
    `seconds_behind_master_threshold` of -1 never alarms; `control_url` is the primary's takeover-url, with its token.
    """

    primary_url: str
    bootstrap_url: str
    caucased_url: str
    seconds_behind_master_threshold: int
    allow_tcp_connections_on_replica: bool
    replicate_with_tls: bool
    control_url: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True)
class SemiSync:
    """The parameter `semi-sync` (semi_sync.py)."""

    enable: bool
    timeout_seconds: int


class Server(Protocol):
    """What it takes to run a server and to log in to it: Config has it, and so has any other stack's partition."""

    @property
    def mariadb(self) -> str:
        """The release's part MariaDB, with `bin/` and `sbin/`."""

    @property
    def data_directory(self) -> Path: ...

    @property
    def defaults_file(self) -> Path:
        """Read by the server, and through its [client] section by every local tool."""

    @property
    def socket(self) -> Path: ...


@dataclass(frozen=True)
class Config(Places):
    """`etc/mariadb.json`: all that the run-time programs of a MariaDB partition know."""

    instance: str  # the instance's title, for messages
    partition: str  # the partition's directory
    software: Software
    network: Network
    server_id: int
    secrets: Secrets
    databases: tuple[Database, ...]
    test_databases: tuple[Database, ...]
    character_set: str
    collation: str
    mroonga: bool
    innodb_log_file_size: int  # bytes
    binlog_expire_days: int
    backup: Backup
    replication: Replication | None  # None: a primary is asked for
    replication_user: str  # a replica's is its primary's
    replicas_use_tls: bool  # whether replicas on the IPv4 have to
    caucased: Caucased
    semi_sync: SemiSync

    @property
    def mariadb(self) -> str:
        """The release's part MariaDB."""
        return self.software.mariadb

    @property
    def data_directory(self) -> Path:
        return self.path("srv", "mariadb")

    @property
    def defaults_file(self) -> Path:
        """Read by the server, and through its [client] section by every local tool (mode 0600)."""
        return self.path("etc", "mariadb.cnf")

    @property
    def socket(self) -> Path:
        return self.path("var", "run", "mariadb.sock")

    @property
    def error_log(self) -> Path:
        return self.path("var", "log", "mariadb-error.log")

    @property
    def slow_log(self) -> Path:
        return self.path("var", "log", "mariadb-slow.log")

    @property
    def nginx_pid(self) -> Path:
        """The pid file of the nginx that serves the backups."""
        return self.path("var", "run", "nginx.pid")

    @property
    def dumps(self) -> Path:
        """Logical backups and their manifest."""
        return self.path("srv", "backup", "mariadb-full")

    @property
    def physical_backups(self) -> Path:
        """Physical backups and their manifest."""
        return self.path("srv", "backup", "mariabackup")

    @property
    def physical_backup_log(self) -> Path:
        """What mariadb-backup said the last time."""
        return self.path("var", "log", "mariadb-physical-backup.log")

    @property
    def offered(self) -> Path:
        """The folder that nginx serves: hard links of exactly what the manifests list."""
        return self.path("srv", "backup", "offered")

    @property
    def server_options(self) -> Path:
        """What on_start has decided on mariadbd's command line, an option a line; no file: nothing."""
        return self.path("var", "run", "mariadbd.options")

    @property
    def service(self) -> Service:
        """The service mariadb, under its supervisor."""
        return Service(self.path("var", "run"), "mariadb")

    @property
    def replication_memory(self) -> Path:
        """What was last known of a replica's lag (replication_memory.py)."""
        return self.path("var", "run", "replication.json")

    @property
    def replicas_memory(self) -> Path:
        """Which replicas were connected when (replication_memory.py)."""
        return self.path("var", "run", "replicas.json")

    @property
    def bootstrap_state(self) -> Path:
        """How far the making of a replica is (progress.py)."""
        return self.path("var", "run", "bootstrap.json")

    @property
    def prefix(self) -> str:
        """What the names of our programs begin with."""
        return PROGRAMS

    @property
    def control_host(self) -> str:
        """The address that is published, for everything."""
        return self.network.ipv6 or self.network.ipv4

    @property
    def control_port(self) -> int:
        return self.network.control_port

    @property
    def tls(self) -> Path:
        """Keys, certificates, authorities and revocation lists (tls/files.py)."""
        return self.path("srv", "tls")

    @property
    def terms(self) -> Terms:
        return TERMS

    @property
    def certificate_secret(self) -> str:
        return self.secrets.replication_password

    def program(self, name: str) -> str:
        """The path of one of MariaDB's own programs, such as program("mariadb-dump")."""
        return str(Path(self.software.mariadb, "bin", name))


def load(path: str | Path) -> Config:
    """Read `etc/mariadb.json`. Raises ConfigurationError."""
    return config.load(path, Config)
