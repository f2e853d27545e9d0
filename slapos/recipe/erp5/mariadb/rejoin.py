# SPDX-License-Identifier: GPL-2.0-or-later
"""The action rejoin: an old primary comes back as a replica of the new one; what only it has is not thrown away.

It fences itself first. Its history is then compared with the new primary's: when that has all of it, it becomes its
replica as it is; otherwise it can save what only it has, and be made anew beside, the old database being kept.
"""

from typing import Any

from pymysql.connections import Connection

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, REFUSE, WARN, Preflight, Reason
from slapos.recipe.erp5.errors import Error, Refused
from slapos.recipe.erp5.mariadb import (
    demote,
    diverged,
    fence,
    gtid,
    hand_over,
    own_url,
    rebuild,
    role_state,
    sql,
)
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.demote import Comparison
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.role_state import Fence, RoleState

FENCE = "it is to become a replica again"


# ---- gather, decide


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """The dry run. Raises Error."""
    state = role_state.load(config)
    try:
        primary = new_primary(config, state, options)
    except Refused as error:
        return Preflight("rejoin", (Reason(REFUSE, str(error)),))
    with sql.connect(config.defaults_file, config.socket) as connection:
        if demote.follows(connection, primary):
            return Preflight("rejoin", (Reason(INFO, f"this database follows {primary.address} already"),), 0)
        if sql.is_replica(connection):
            return Preflight("rejoin", (Reason(REFUSE, _IS_REPLICA),))
        if not demote.has_certificate(config, primary):
            text = f"a certificate of {primary.address} is asked for first; then the histories can be compared"
            return Preflight("rejoin", (Reason(INFO, text),))
        try:
            found = demote.compare(config, connection, primary)
        except Error as error:
            return Preflight("rejoin", (Reason(REFUSE, f"the new primary cannot be asked: {error}"),))
    return decide(primary, found, options)


_IS_REPLICA = "this database is a replica, expected an old primary: use the action follow for another primary"


def decide(primary: Primary, found: Comparison, options: dict[str, Any]) -> Preflight:
    """What would happen, and what would be left behind."""
    if not found.only_here and not found.refused:
        return Preflight("rejoin", (Reason(INFO, f"{primary.address} has all that this database has"),), 0, 0.0)
    can_save = bool(found.only_here and options.get("save"))  # then it is refused, once what only it has is in a file
    level = WARN if options.get("rebuild") or can_save else REFUSE
    try:
        demote.require_same_history(primary, found)
    except Refused as error:
        return Preflight("rejoin", (Reason(level, str(error)),), found.count)
    return Preflight("rejoin")


def new_primary(config: Config, state: RoleState, options: dict[str, Any]) -> Primary:
    """Where to come back to: given, or noted when this database handed over. Raises Refused, ConfigurationError."""
    url = options.get("primary-url", "")
    if not url and state.hand_over:
        url = state.hand_over.to_primary_url
    if not url and state.upstream:
        url = state.upstream.primary_url
    if not url:
        raise Refused(
            "nobody has said who the primary is now: give the replication-primary-url that it publishes (option"
            " primary-url)"
        )
    return demote.primary_of(config, url)


# ---- act


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """Come back as a replica; returns the closing sentence. Raises Refused, Error: then the fence stays."""
    hand_over.settle(config)
    state = role_state.load(config)
    primary = new_primary(config, state, options)
    rebuild.settle(config, act)
    upstream = rebuild.source(config, primary, options.get("bootstrap-url", "")) if options.get("rebuild") else None
    with sql.connect(config.defaults_file, config.socket) as connection:
        if sql.is_replica(connection) and not demote.follows(connection, primary):
            raise Refused(_IS_REPLICA)
        if not sql.is_replica(connection):
            wanted = Fence(act.by, FENCE, times.text(times.now()), urls.without_account(primary))
            fence.fence(config, act, wanted)
        try:
            demote.become_replica(config, act, connection, primary, own_url.address(config))
        except demote.Diverged as error:
            saved = _save(config, act, connection, primary) if options.get("save") else ""
            if not upstream:
                raise Refused(f"{error}{saved}; it refuses writes, and stays as it is") from error
            act.step(f"make the database anew from {primary.address}")
        except Refused:
            if not upstream:
                raise
            saved = ""
        else:
            return f"this database is a replica of {primary.address} again, with all that it had"
    kept = rebuild.rebuild(config, act, primary, upstream)
    return f"this database was made anew and is a replica of {primary.address}; the old one is {kept}{saved}"


def _save(config: Config, act: Act, connection: Connection, primary: Primary) -> str:
    found = demote.compare(config, connection, primary)
    act.step(f"save {found.count} transactions up to {gtid.text(found.only_here)}")
    path = diverged.save(config, found, f"{times.now():%Y%m%dT%H%M%SZ}")
    return f"; they are saved as {path}"
