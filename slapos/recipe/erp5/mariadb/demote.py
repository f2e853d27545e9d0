# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes an old primary, which is fenced, a replica of the new one, unless it has transactions that the other lacks."""

from dataclasses import dataclass

from pymysql.connections import Connection

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.mariadb import gtid, replica, role_state, semi_sync, sql_replication, sql_role, tls
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.gtid import Gtid
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.role_state import Change, Upstream
from slapos.recipe.erp5.mariadb.sql_replication import Facts
from slapos.recipe.erp5.tls import join
from slapos.recipe.erp5.tls.files import Files

TIMEOUT = 30.0
"""Seconds that each step of a conversation with the new primary may take."""


class Diverged(Refused):
    """This database has transactions that the new primary does not have."""


@dataclass(frozen=True)
class Comparison:
    """Both sides' state; `only_here` are the last ones of each server in each domain, `refused` MariaDB's words."""

    ours: Facts
    theirs: Facts
    only_here: tuple[Gtid, ...]
    refused: str = ""

    @property
    def common(self) -> tuple[Gtid, ...]:
        """In each domain the last transaction that both have."""
        return gtid.common(gtid.parse(self.ours.binlog_state), gtid.parse(self.theirs.binlog_state))

    @property
    def count(self) -> int:
        """How many transactions only this database has, as sequences count them."""
        parted = gtid.position(self.common)
        return sum(one.sequence - parted.get(one.domain, 0) for one in gtid.furthest(self.only_here))


# ---- the new primary


def primary_of(config: Config, url: str) -> Primary:
    """The new primary of a URL, which may lack the account: it has ours. Raises ConfigurationError."""
    account = config.replication_user, config.secrets.replication_password
    return urls.parse(urls.with_account(url, *account))


def has_certificate(config: Config, primary: Primary) -> bool:
    """Whether we can connect to the new primary as it wants it."""
    upstream = Files(config.tls).upstream
    return not primary.endpoint or (
        join.record(upstream).get("endpoint") == primary.endpoint and not join.needs_join(upstream, times.now())
    )


def get_certificate(config: Config, act: Act, primary: Primary) -> None:
    """Join the authority of the new primary, where it has one. Raises CertificateError."""
    if not has_certificate(config, primary):
        act.step(f"have a certificate of {primary.address}")
        join.join(tls.giver(config, primary))


def _connect(config: Config, primary: Primary) -> Connection:
    return sql_replication.connect_primary(primary, replica.upstream(config, bool(primary.endpoint)), TIMEOUT)


def ask(config: Config, primary: Primary) -> Facts:
    """What the new primary says, as our account on it sees it. Raises ServerError."""
    with _connect(config, primary) as connection:
        return sql_replication.server_facts(connection)


def compare(config: Config, connection: Connection, primary: Primary) -> Comparison:
    """Ask both. Raises ServerError when the other one does not answer."""
    there = ask(config, primary)
    here = sql_replication.server_facts(connection)
    if there.server_id == here.server_id:
        raise Refused(f"{primary.address} is this very database: give the URL of another one")
    only_here = gtid.only_in(gtid.parse(here.binlog_state), gtid.parse(there.binlog_state))
    refused = ""
    if not only_here:
        refused = sql_replication.can_follow(_connect(config, primary), here.position)
    return Comparison(here, there, only_here, refused)


def require_same_history(primary: Primary, found: Comparison) -> None:
    """Raises Diverged, or Refused when the other one cannot serve our position."""
    if found.only_here:
        raise Diverged(
            f"this database has {found.count} transactions that {primary.address} does not have, up to"
            f" {gtid.text(found.only_here)}, expected none: save them (option save), and make it anew (option rebuild)"
        )
    if found.refused:
        raise Refused(
            f"{primary.address} cannot be followed from {found.ours.position or 'its beginning'} ({found.refused}):"
            " make this database anew (option rebuild)"
        )


def require_replica(primary: Primary, ours: Facts, theirs: Facts) -> None:
    """Before roles are exchanged: raises Refused unless `theirs`, which may lag, will have all that `ours` has."""
    lacking = gtid.never_reaches(gtid.parse(theirs.binlog_state), gtid.parse(ours.binlog_state))
    if lacking:
        raise Refused(
            f"this primary has GTID {gtid.text(lacking)}, which {primary.address}, at GTID {theirs.position}, lacks and"
            " will not receive, so this one could not follow it, expected none: make that replica anew"
        )


# ---- becoming its replica


def become_replica(config: Config, act: Act, connection: Connection, primary: Primary, from_address: str = "") -> None:
    """Make this fenced primary a replica of one that has all that it has. Killed anywhere, it can be called again.

    The fence goes last: a replica is read-only as such. Raises Error.
    """
    get_certificate(config, act, primary)
    if not follows(connection, primary):
        act.step(f"compare with {primary.address}")
        found = compare(config, connection, primary)
        require_same_history(primary, found)
        act.step(f"replicate from {primary.address}, from GTID {found.ours.position or 'empty'} on")
        semi_sync.apply(connection, config, semi_sync.REPLICA)
        sql_role.disable_events(connection)
        sql_role.set_slave_position(connection, found.ours.position)
        sql_replication.change_primary(connection, primary, replica.upstream(config, bool(primary.endpoint)))
    sql_role.start_replica(connection)
    finish(config, act, primary, from_address)


def follows(connection: Connection, primary: Primary) -> bool:
    """Whether the server is a replica of this one already."""
    found = sql_replication.sources(connection)
    return bool(found) and (found[0].host, found[0].port) == (primary.host, primary.port)


def finish(config: Config, act: Act, primary: Primary, from_address: str, bootstrap_url: str = "") -> None:
    """Note that it is one, and take the fence away. Raises Error, OSError."""
    role_state.change(
        config,
        fenced=None,
        hand_over=None,
        promotion=None,
        fence_pending=None,
        upstream=Upstream(urls.url(primary), bool(primary.endpoint), bootstrap_url),
        last=Change(act.action, times.text(times.now()), from_address, urls.without_account(primary)),
    )
    process.log(f"this database is a replica of {primary.address} now")
