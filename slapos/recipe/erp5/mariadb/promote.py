# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets a replica that has applied all be a primary, in steps that the next call completes whoever is killed at which.

intent (state.promotion)     still a replica: the next takeover begins again
RESET SLAVE ALL              no replica any more, read-only until it is restarted
read_only = 0                writable
events, accounts, TCP        done again when they are done already
intent removed, last change  complete
"""

from collections.abc import Callable

from pymysql.connections import Connection

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import Busy, Error, ServerError
from slapos.recipe.erp5.mariadb import (
    drain,
    hand_over,
    networking,
    provision,
    relay,
    role_state,
    semi_sync,
    sql,
    sql_replication,
    sql_role,
)
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.role_state import Change, PendingFence, Promotion
from slapos.recipe.erp5.mariadb.status import is_replica

DETACH = "detach"


def begin(
    config: Config,
    act: Act,
    from_address: str,
    position: str,
    hand_over_id: str = "",
    unfenced: bool = False,
    pending: PendingFence | None = None,
) -> Promotion:
    """Write down that a promotion begins: `position` is what the replica has. Raises OSError."""
    now = times.text(times.now())
    promotion = Promotion(act.action, from_address, position, now, hand_over_id, unfenced, pending)
    role_state.change(config, promotion=promotion)
    return promotion


def promote(
    config: Config,
    act: Act,
    connection: Connection,
    promotion: Promotion,
    last_check: Callable[[], None] = lambda: None,
) -> None:
    """Make the replica of `connection` (the administrator's), which has applied all it received, a primary.

    `last_check` is called right before what cannot be undone, and raises what speaks against it. Raises Error.
    """
    act.step("stop being a replica")
    _keep_what_is_left(config, connection)
    try:
        last_check()
    except BaseException:
        role_state.change(config, promotion=None)
        raise
    sql_replication.forget_primary(connection)
    finish(config, act, connection, promotion)


def _keep_what_is_left(config: Config, connection: Connection) -> None:
    """Stop both threads; what could not be applied (forced) stays in files, as RESET SLAVE ALL deletes relay logs."""
    sql_role.stop_replica(connection)
    if drain.look(connection).left:
        relay.keep(config)
    else:
        relay.forget_applied(config, sql_replication.server_facts(connection).position)


def finish(config: Config, act: Act, connection: Connection, promotion: Promotion) -> None:
    """What follows once the server is no replica any more; everything of it can be done again. Raises Error."""
    act.step("accept writes")
    detached = promotion.action == DETACH
    before = role_state.load(config).fenced
    later = before if before and before.at > promotion.at else None  # people who want no writes here meanwhile
    role_state.change(config, fenced=later, upstream=None, hand_over=None, fence_pending=promotion.pending)
    if later:
        process.log(f"warning: this database stays read-only, as it was fenced at {later.at} ({later.reason})")
    else:
        sql_role.set_writable(connection)
    semi_sync.apply(connection, config, semi_sync.PRIMARY)
    act.details["gtid"] = promotion.gtid
    if not detached:
        act.details["events"] = _enable_events(connection)
    try:
        provision.provision(config, connection)
    except (Error, Busy) as error:
        process.log(f"warning: {error}; bin/mariadb-provision does that later")
    networking.open_up(config, act, connection)
    fields: dict[str, object] = {"authority_dropped": True} if detached else {}
    change = Change(promotion.action, promotion.at, promotion.from_address, "", promotion.unfenced)
    if promotion.hand_over_id:  # while there is a promotion this is a primary's; later it may be a replica again
        hand_over.end(config, promotion.hand_over_id, hand_over.PROMOTED)
    role_state.change(config, promotion=None, last=change, **fields)


def _enable_events(connection: Connection) -> list[str]:
    """Let the old primary's events fire here; which ones.

    An event that arrives by replication is SLAVESIDE_DISABLED whether it was enabled there or not, so those that people
    had disabled are among them (10.11.19, measured).
    """
    enabled = []
    for event in sql_role.events_elsewhere(connection):
        name = f"{event.database}.{event.name}"
        try:
            sql_role.enable_event(connection, event)
            enabled.append(name)
        except ServerError as error:
            process.log(f"warning: the event {name} does not fire here: {error}")
    if enabled:
        process.log(f"step: these events fire here now, also if they were disabled before: {', '.join(enabled)}")
    return enabled


# ---- after a kill


def is_unfinished(config: Config) -> bool:
    """Whether a promotion was begun, and the database is no replica any more: it only has to be completed."""
    return role_state.load(config).promotion is not None and config.data_directory.is_dir() and not is_replica(config)


def unfinished_sentence(config: Config) -> str:
    """What the next call will do."""
    promotion = role_state.load(config).promotion
    assert promotion
    return f"the {promotion.action} that was begun at {promotion.at} did not come to its end: it is completed now"


def complete(config: Config, act: Act) -> str:
    """Complete a promotion that was interrupted; returns the closing sentence. Raises Error."""
    promotion = role_state.load(config).promotion
    assert promotion
    process.log(f"step: {unfinished_sentence(config)}")
    with sql.connect(config.defaults_file, config.socket) as connection:
        finish(config, act, connection, promotion)
    return sentence(config, promotion)


def sentence(config: Config, promotion: Promotion) -> str:
    """What to say at the end."""
    where = f"{config.network.ipv4}:{config.network.port}"
    at = f"GTID {promotion.gtid or 'empty'}"
    if promotion.action == DETACH:
        return f"this database follows {promotion.from_address} no longer, and is writable at {where}, since {at}"
    return f"this database is the primary now, writable at {where}, from {at} on, in place of {promotion.from_address}"
