# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do about a database, decided from a snapshot of it: pure functions, tested without a server."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import sql, sql_memory
from slapos.recipe.erp5.mariadb.config import ADMINISTRATOR, REPLICATION_USER, Config, Database, Replication
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.tls import files

ADMINISTRATION = Account(ADMINISTRATOR, "localhost")
RESERVED_DATABASES = frozenset(("mysql", "information_schema", "performance_schema", "sys", sql_memory.MEMORY))
RESERVED_USERS = frozenset(("root", "mariadb.sys", "PUBLIC", ADMINISTRATOR, REPLICATION_USER))
LOCAL, IPV4, IPV6 = "localhost", "%.%.%.%", "%:%"
"""Hosts as accounts name them: with skip_name_resolve each pattern matches addresses of one family only (measured)."""


# ---- what is requested, and which of it to create


@dataclass(frozen=True)
class Item:
    """One thing to create: a database, an account, or a grant, as the memory names it.

    `hashed`, never a password, and `require` (as sql.create_account has it) belong to accounts; `privilege` to grants
    (`ALL` is on `database`).
    """

    kind: str  # "database", "account" or "grant"
    name: str
    database: str = ""
    account: Account | None = None
    hashed: str = dataclasses.field(default="", repr=False)
    require: str = ""
    privilege: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def requested(config: Config) -> tuple[Item, ...]:
    """All that the parameters ask for, each thing once, in an order in which it can be created.

    Raises ConfigurationError, naming the parameter, for what cannot be served.
    """
    entries = (*config.databases, *config.test_databases)
    _check(entries)
    hosts = (IPV4, IPV6) if config.network.ipv6 else (IPV4,)
    items: dict[tuple[str, str], Item] = {}

    def add(*more: Item) -> None:
        items.update({item.key: item for item in more if item.key not in items})

    for host in hosts:
        replication = Account(REPLICATION_USER, host)
        # Grants replicate, and an account has one subject: all replication clients have the same.
        subject = files.CLIENT_SUBJECT if host == IPV6 or config.replicas_use_tls else ""
        add(_account(replication, config.secrets.replication_password, subject))
        add(_global_grant("REPLICATION SLAVE", replication))
    for entry in known(entries):
        add(Item("database", entry.name, database=entry.name))
        for account in (Account(entry.user, host) for host in (LOCAL, *hosts)):
            add(_account(account, entry.password, sql.TLS if account.host == IPV6 else ""))
            add(_database_grant(entry.name, account))
            if entry.with_process_privilege:
                add(_global_grant("PROCESS", account))
    return tuple(items.values())


def known(entries: Iterable[Database]) -> tuple[Database, ...]:
    """Those whose password is known here: of others, which came to a replica from its primary, nothing is created."""
    return tuple(entry for entry in entries if entry.password)


def _account(account: Account, password: str, require: str) -> Item:
    return Item("account", str(account), account=account, hashed=sql.password_hash(password), require=require)


def _database_grant(database: str, account: Account) -> Item:
    return Item("grant", f"ALL ON {database} TO {account}", database=database, account=account, privilege="ALL")


def _global_grant(privilege: str, account: Account) -> Item:
    return Item("grant", f"{privilege} TO {account}", account=account, privilege=privilege)


def _check(entries: Iterable[Database]) -> None:
    """Refuse what the schema cannot: it sees one entry at a time."""
    names: set[str] = set()
    passwords: dict[str, str] = {}
    for entry in entries:
        if entry.name in names:
            raise ConfigurationError(
                f"database-list has the database {entry.name!r} twice: give each entry a name of its own"
            )
        if entry.name in RESERVED_DATABASES or not re.fullmatch(r"[^\x00/\\.]{1,64}(?<! )", entry.name):
            raise ConfigurationError(
                f"database-list has a database named {entry.name!r}, which the server keeps for itself or cannot store:"
                " choose another name"
            )
        if entry.user in RESERVED_USERS or not re.fullmatch(r"[^\x00]{1,80}", entry.user):
            raise ConfigurationError(
                f"database-list gives {entry.name!r} the user {entry.user!r}, which the server keeps for itself or"
                " cannot store: choose another user"
            )
        if entry.password and passwords.setdefault(entry.user, entry.password) != entry.password:
            raise ConfigurationError(
                f"database-list gives the user {entry.user!r} one password for {entry.name!r} and another elsewhere:"
                " a user has one password, so give it once more or choose another user"
            )
        names.add(entry.name)


@dataclass(frozen=True)
class World:
    """What a server has: everything that `requested` could name, and the (kind, name) pairs that it remembers."""

    databases: frozenset[str]
    accounts: frozenset[Account]
    database_grants: frozenset[tuple[str, Account]]
    global_grants: frozenset[tuple[str, Account]]
    remembered: frozenset[tuple[str, str]]

    def has(self, item: Item) -> bool:
        """Whether it exists, whoever made it."""
        if item.kind == "database":
            return item.database in self.databases
        assert item.account is not None  # accounts and grants have one
        if item.kind == "account":
            return item.account in self.accounts
        if item.database:
            return (item.database, item.account) in self.database_grants
        return (item.privilege, item.account) in self.global_grants


@dataclass(frozen=True)
class Plan:
    """`create` what is new; only `remember` what exists already; leave alone, and name, what people `removed`."""

    create: tuple[Item, ...] = ()
    remember: tuple[Item, ...] = ()
    removed: tuple[Item, ...] = ()


def plan(items: Iterable[Item], world: World, include_removed: bool = False) -> Plan:
    """Create what was never created and does not exist; with `include_removed` all that does not exist."""
    create, remember, removed = [], [], []
    gone = _gone_users(world) if not include_removed else set()
    for item in items:
        if world.has(item):
            if item.key not in world.remembered:
                remember.append(item)
        elif include_removed or not (item.key in world.remembered or (item.account and item.account.user in gone)):
            create.append(item)
        elif item.kind != "grant" or item.account in world.accounts:  # a dropped user's grants are gone with it
            removed.append(item)
    return Plan(tuple(create), tuple(remember), tuple(removed))


def _gone_users(world: World) -> set[str]:
    """Users that were created once and have no account left: a new host or database does not bring them back."""
    once = {name.rpartition("@")[0] for kind, name in world.remembered if kind == "account"}
    return once - {account.user for account in world.accounts}


def twin(item: Item, world: World) -> Account | None:
    """The account whose present password a new account of the same user takes over: people may have changed it."""
    assert item.account is not None
    user = item.account.user
    twins = (Account(user, host) for host in (IPV4, LOCAL, IPV6))
    return next((one for one in twins if one in world.accounts and ("account", str(one)) in world.remembered), None)


# ---- what to do before the service starts


@dataclass(frozen=True)
class Handled:
    """What a start has dealt with: as long as it is the same at the next one, that one needs no private server.

    `administrator`, `requested` and `zoneinfo` are fingerprints; `files` are size and time of the files of those system
    tables that a start cares for: a restarting server leaves both alone, and changes them with the tables (measured).
    """

    administrator: str
    requested: str
    zoneinfo: str
    mroonga: bool
    replica: bool
    files: tuple[str, ...]  # "name size nanoseconds", or "name none"


@dataclass(frozen=True)
class Snapshot:
    """What can be known about a data directory while no server runs; without an upgrade mark no `data_version`."""

    server_version: str
    data_version: str
    before: Handled | None
    now: Handled


@dataclass(frozen=True)
class Start:
    """With a `refusal` the service must not start; without `reasons` it can do so at once, with no private server."""

    refusal: str = ""
    upgrade: bool = False
    time_zones: bool = False
    reasons: tuple[str, ...] = ()


REASONS = {
    "administrator": "the administration account's password is new",
    "requested": "other databases or users are requested",
    "zoneinfo": "the time zones are new",
    "mroonga": "Mroonga is asked for, or no longer",
    "replica": "it has become a replica, or is none any more",
    "files": "accounts, plugins or time zones were changed",
}


def start(snapshot: Snapshot) -> Start:
    """What to do before the service starts."""
    server, data = series(snapshot.server_version), series(snapshot.data_version)
    if refusal := too_new("the data directory", snapshot.data_version, snapshot.server_version):
        return Start(refusal)
    before, now = snapshot.before, snapshot.now
    reasons = []
    if data < server:
        written = snapshot.data_version or "an unknown version"
        reasons.append(f"MariaDB is {snapshot.server_version}, and the data was written by {written}")
    if before and _missing(now) - _missing(before):
        reasons.append("system tables are missing")
    upgrade = bool(reasons)  # which also makes the system tables that are missing
    if before is None:
        reasons.append("nothing is known about this data directory yet")
    else:
        reasons += [why for field, why in REASONS.items() if getattr(before, field) != getattr(now, field)]
    # An upgrade rewrites their tables, so that they are not what was loaded any more.
    time_zones = upgrade or before is None or before.zoneinfo != now.zoneinfo or _zone_files(before) != _zone_files(now)
    return Start(upgrade=upgrade, time_zones=time_zones, reasons=tuple(reasons))


SILENT = "--skip-networking"
"""The option that leaves a server its socket alone."""


def server_options(replication: Replication | None, replica: bool, fenced: bool = False) -> tuple[str, ...]:
    """What mariadbd is told on its command line: static settings that follow what the database really is.

    A primary that is `fenced` refuses writes as a replica does, and is reachable.
    """
    if not replica:
        return ("--read-only=ON",) if fenced else ()
    silent = replication is not None and not replication.allow_tcp_connections_on_replica
    return ("--read-only=ON", *((SILENT,) if silent else ()))


def series(version: str) -> tuple[int, ...]:
    """The series of a version, (10, 11) for 10.11.19-MariaDB, and nothing for an empty one.

    Within a series there is nothing to upgrade: mariadb-upgrade itself compares no more than this (measured).
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()


def too_new(what: str, theirs: str, ours: str) -> str:
    """What is wrong when `what` is of a newer series than our server, at whichever version of it; else empty."""
    if series(theirs) <= series(ours):
        return ""
    return (
        f"{what} is of MariaDB {theirs} and this is {ours}, which cannot read it: install a release with that version"
        " or a newer one"
    )


def _missing(handled: Handled) -> set[str]:
    return {file for file in handled.files if file.endswith(" none")}


def _zone_files(handled: Handled) -> list[str]:
    return [file for file in handled.files if file.startswith("time_zone")]
