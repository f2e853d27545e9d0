# SPDX-License-Identifier: GPL-2.0-or-later
"""The action follow: a replica replicates from another primary, which has all that it has, from where it is."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymysql.connections import Connection

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, REFUSE, Preflight, Reason, require
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.mariadb import (
    demote,
    drain,
    gtid,
    preflight,
    replica,
    replication_password,
    role_state,
    sql,
    sql_replication,
    sql_role,
)
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.role_state import Change, Upstream
from slapos.recipe.erp5.tls.files import Files

TIMEOUT = 10.0
"""Seconds that each step of a conversation with the new primary may take."""
CONNECTED = 15.0
"""Seconds for the replica to reach its new primary, before we go without having seen it."""


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, Error."""
    if not options.get("primary-url"):
        raise Refused(_MISSING)
    return follow(config, act, options["primary-url"], options.get("control-url", ""))


_MISSING = (
    "follow is refused: there is no primary-url, expected the replication-primary-url that the new primary publishes: "
    "give it (bin/mariadb-follow --primary-url-file FILE)"
)


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run; the new primary is asked with the certificate that is there already. Raises Error."""
    snapshot = preflight.gather(config, times.now())
    reasons = list(preflight.replica_problems(snapshot, "follow"))
    own = snapshot.status.own
    if not reasons and own:
        reasons += preflight.applying_problems(snapshot, own)
        if options.get("primary-url"):
            address = demote.primary_of(config, options["primary-url"]).address
            sentence = (
                f"{address} is asked, once there is a certificate of its authority, whether it has all that is here"
            )
            reasons.append(Reason(INFO, sentence))
        else:
            reasons.append(Reason(REFUSE, _MISSING))
    return Preflight("follow", tuple(reasons))


def follow(config: Config, act: Act, primary_url: str, control_url: str = "") -> str:
    """Replicate from the primary of `primary_url` (without an account: ours) from where this replica is; the sentence.

    Killed anywhere, it can be called again. Raises Refused, Error.
    """
    primary = demote.primary_of(config, primary_url)
    require(check(config, {"primary-url": primary_url}), forced=False)
    with sql.connect(config.defaults_file, config.socket) as connection:
        before = drain.look(connection).source
        # A primary without an endpoint may have TLS all the same, of an authority that somebody else runs.
        tls = before.tls or bool(primary.endpoint)
        files = replica.upstream(config, tls)
        if not demote.follows(connection, primary):
            with _certificate(config, act, primary):
                _require_all_of_ours(act, connection, primary, files)
                with drain.drained(config, act, connection):
                    act.step(f"replicate from {primary.address}")
                    _change(connection, primary, files)
        sql_role.start_replica(connection)
        role_state.change(
            config, upstream=_upstream(primary, tls, control_url), last=_last(act, before.address, primary)
        )
        if primary.password != config.secrets.replication_password:
            replication_password.keep(config, config.path("etc", "mariadb.json"), primary.password)
        return _closing(act, connection, primary)


def _upstream(primary: Primary, tls: bool, control_url: str) -> Upstream:
    return Upstream(urls.url(primary), tls, control_url=control_url)


def _last(act: Act, before: str, primary: Primary) -> Change:
    return Change(act.action, times.text(times.now()), before, urls.without_account(primary))


@contextlib.contextmanager
def _certificate(config: Config, act: Act, primary: Primary) -> Iterator[None]:
    """Join the new primary's authority; the old one's files come back when it is not followed in the end."""
    folder = Files(config.tls).upstream.folder
    files = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    try:
        demote.get_certificate(config, act, primary)
        yield
    except BaseException:
        _put_back(files)
        raise


def _put_back(files: dict[Path, bytes]) -> None:
    for path, content in files.items():
        with contextlib.suppress(OSError):
            process.write_atomically(path, content)


def _require_all_of_ours(act: Act, connection: Connection, primary: Primary, files: Files | None) -> None:
    """Raises Refused unless the new primary has all that is here, received or applied, and can serve what follows."""
    act.step(f"compare with {primary.address}")
    view, ours = drain.look(connection), sql_replication.server_facts(connection)
    with sql_replication.connect_primary(primary, files, TIMEOUT) as there:
        theirs = sql_replication.server_facts(there)
    if theirs.server_id == ours.server_id:
        raise Refused(f"{primary.address} is this very database, expected another one: give the new primary's URL")
    has = (*gtid.parse(theirs.binlog_state), *gtid.parse(theirs.slave_pos))
    extra = gtid.only_in((*gtid.parse(ours.binlog_state), *gtid.parse(ours.slave_pos), *view.received), has)
    if extra:
        raise Refused(
            f"this replica has transactions that {primary.address} has not (GTID {gtid.text(gtid.furthest(extra))}), "
            f"expected none: it goes on with {view.source.address}; have it made anew from {primary.address}"
        )
    refusal = sql_replication.can_follow(sql_replication.connect_primary(primary, files, TIMEOUT), ours.slave_pos)
    if refusal:
        raise Refused(
            f"{primary.address} cannot be followed from GTID {ours.slave_pos or 'empty'} ({refusal}), expected it to "
            f"have all binary logs since: this replica goes on with {view.source.address}; have it made anew"
        )


def _change(connection: Connection, primary: Primary, files: Files | None) -> None:
    """From one source to the other, a replica at every moment: a server that starts as none is writable."""
    sql_role.stop_replica(connection)
    sql_replication.change_primary(connection, primary, files, forget=False)


def _closing(act: Act, connection: Connection, primary: Primary) -> str:
    act.step(f"wait until {primary.address} is reached")
    deadline = time.monotonic() + CONNECTED
    source = drain.look(connection).source
    while source.io.running != "Yes" and time.monotonic() < deadline:
        time.sleep(drain.POLL)
        source = drain.look(connection).source
    here = f"this database is a replica of {primary.address} now"
    if source.io.running == "Yes":
        return here
    return (
        f"{here}, and has not reached it yet ({source.io or source.io.running}): the promise mariadb-replication tells"
    )
