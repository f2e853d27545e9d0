# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a new database a replica, once what it begins with is there: nothing of this gets into its binary log."""

import dataclasses

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import decide, mroonga, role_state, sql, sql_replication
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import Config, Replication
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.tls.files import Files

THRESHOLD = 0
"""Seconds of lag that alarm on a replica that was asked for as a primary: the schema's default."""


def effective(config: Config) -> Config:
    """With the parameter `replication` as a role action has replaced it, if one has. Raises ConfigurationError."""
    upstream = role_state.load(config).upstream
    if upstream is None:
        return config
    before = config.replication
    replication = Replication(
        primary_url=upstream.primary_url,
        bootstrap_url=upstream.bootstrap_url,
        caucased_url="",
        seconds_behind_master_threshold=before.seconds_behind_master_threshold if before else THRESHOLD,
        allow_tcp_connections_on_replica=before.allow_tcp_connections_on_replica if before else True,
        replicate_with_tls=upstream.tls,
        control_url=upstream.control_url,
    )
    return dataclasses.replace(config, replication=replication)


def wanted(config: Config) -> Primary | None:
    """The primary that a role action, or else the parameters, named; None for a primary. Raises ConfigurationError."""
    replication = effective(config).replication
    return urls.parse(replication.primary_url) if replication else None


def upstream(config: Config, tls: bool) -> Files | None:
    """The files with which a replica reaches its primary over TLS; None without it."""
    return Files(config.tls).upstream if tls else None


def source(config: Config, note: Bootstrap) -> Primary:
    """The primary of the new replica. Raises ConfigurationError when it is no longer the one that `note` names."""
    primary = wanted(config)
    if primary is None or (primary.address, primary.user) != (note.primary, note.user):
        named = f"{primary.user} at {primary.address}" if primary else "no primary"
        raise ConfigurationError(
            f"this replica was begun from {note.user} at {note.primary}, and replication.primary-url now names {named}:"
            " the creation begins again from there"
        )
    return primary


def make(config: Config, connection: Connection, note: Bootstrap) -> None:
    """Turn the new server of `connection`, a private one, into a replica that begins to replicate when it serves.

    Raises ConfigurationError, ServerError.
    """
    primary = source(config, note)
    if note.gtid:
        with process.step("let the primary's events fire nowhere but there"):
            sql_replication.disable_events(connection)
    else:
        # Databases, users and the memory of both arrive with the first binary log.
        with process.step("keep only the server's own accounts"), sql.unlogged(connection):
            sql.keep_only_own_accounts(connection, decide.ADMINISTRATION)
    try:
        # Whatever the parameter says: the primary may have tables of that engine.
        mroonga.install(dataclasses.replace(config, mroonga=True), connection)
    except ConfigurationError as error:
        process.log(f"warning: the replica is made without Mroonga: {error}")
    over = " over TLS" if note.tls else ""
    with process.step(f"replicate from {primary.address}{over}, from GTID {note.gtid or 'empty'} on"):
        sql_replication.set_position(connection, note.gtid)
        sql_replication.change_primary(connection, primary, upstream(config, note.tls))
