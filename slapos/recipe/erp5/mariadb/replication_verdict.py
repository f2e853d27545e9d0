# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether replication is as asked for: pure functions; sentences tell what is, what should be, what to do."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import decide, gtid, role_verdict, semi_sync, verdict
from slapos.recipe.erp5.mariadb.replication_status import Own, ReplicationStatus, Upstream, known_lag
from slapos.recipe.erp5.mariadb.role_verdict import ANEW, CREATION
from slapos.recipe.erp5.mariadb.sql_replication import Source, Thread
from slapos.recipe.erp5.tls.files import CLIENT_SUBJECT
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.words import duration, size_text

# Preparing: it is connected, and about to ask for the first transaction.
RUNNING = ("Yes", "Preparing")
REMEDIES = {
    # A position that the primary cannot serve, for either reason.
    1236: ANEW,
    1045: "give the present password with bin/mariadb-replication-password --set, and see that the certificate in "
    "srv/tls/upstream is one of the primary's authority",
    1950: ANEW,
    2003: "start the primary, or mend the way to it",
    2013: "start the primary, or mend the way to it",
    2026: "read the promise mariadb-certificates, here and on the primary",
}


def replication(status: ReplicationStatus, now: datetime) -> Verdict:
    """Whether the database has the role that is asked for, and does well in it."""
    if not status.exists and verdict.is_bootstrapping(status.bootstrap):
        assert status.bootstrap
        return verdict.bootstrap(status.bootstrap)
    if not status.exists and status.wanted is None:
        return Verdict(True, ("there is no database yet",))
    return judge(_problems(status, now), _summary(status))


def _problems(status: ReplicationStatus, now: datetime) -> Iterator[str]:
    if not status.exists:
        assert status.wanted
        yield (
            "Mariadb is not in replica mode, as there is no database yet, expected a replica of "
            f"{status.wanted.address}: {verdict.PROCESS} to start the service, which makes it"
        )
        return
    if status.own is None:
        yield (
            f"replication cannot be judged, as no server answers on {status.socket} ({status.error}), expected one: "
            "the promise mariadb-server says what to do"
        )
        return
    yield from _role_problems(status, status.own)
    for source in status.own.sources[:1]:
        yield from _source_problems(status, source)
        yield from _thread_problems(status, source)
        yield from _lag_problems(status, source)
        yield from _gtid_problems(status, status.own, source)
        yield from _setting_problems(status.own)
    if not status.own.sources:
        yield from _account_problems(status, status.own)
    if status.own.semi_sync:
        writable = not status.own.facts.read_only
        yield from semi_sync.problems(status.semi_sync, _role(status.own), writable, status.own.semi_sync)
    yield from _log_problems(status, status.own, now)


# ---- the role


def _role_problems(status: ReplicationStatus, own: Own) -> Iterator[str]:
    yield from role_verdict.problems(status, own)
    sources = own.sources
    if len(sources) > 1:
        others = ", ".join(f"{source.name!r} ({source.address})" for source in sources[1:])
        yield (
            f"Mariadb replicates from {len(sources)} servers, expected one: look after the connections {others} by "
            "other means, or remove them (RESET SLAVE 'name' ALL in bin/mariadb), as only the first one is watched"
        )


def _role(own: Own) -> str:
    return semi_sync.REPLICA if own.sources else semi_sync.PRIMARY


def _source_problems(status: ReplicationStatus, source: Source) -> Iterator[str]:
    wanted = status.wanted
    if wanted is None:
        return
    if (source.host, source.port, source.user) != (wanted.host, wanted.port, wanted.user):
        yield (
            f"Mariadb replicates from {source.address} as {source.user}, expected {wanted.address} as {wanted.user}, "
            f"as replication.primary-url says, which {CREATION}: give what it replicates from, or change that with "
            "bin/mariadb-follow"
        )
    if source.tls != wanted.tls:
        yield (
            f"Mariadb replicates {_how(source.tls)}, expected {_how(wanted.tls)}, as replication.replicate-with-tls "
            f"says, which {CREATION}: give {str(source.tls).lower()} there, or {ANEW}"
        )
    elif source.tls and not source.verified:
        yield (
            "Mariadb replicates over TLS with whatever server answers, expected it to prove that it is the primary: "
            "CHANGE MASTER TO MASTER_SSL_VERIFY_SERVER_CERT = 1 in bin/mariadb, between STOP SLAVE and START SLAVE"
        )


def _how(tls: bool) -> str:
    return "over TLS" if tls else "without TLS"


# ---- the threads, and how far they are


def _thread_problems(status: ReplicationStatus, source: Source) -> Iterator[str]:
    if source.io.running not in RUNNING:
        remedy = _remedy(source.io)
        yield (
            f"the thread that receives from {source.address} is {_running(source.io.running)}"
            f"{_said(str(source.io))}{_last_lag(status)}, expected it to run: "
            f"{remedy or 'START SLAVE in bin/mariadb, and read var/log/mariadb-error.log'}"
        )
    elif status.upstream and status.upstream.refused:
        yield (
            f"the primary at {source.address} would not let us in again ({status.upstream.error}), expected it to, as "
            f"the connection that there is may break: {REMEDIES[1045]}"
        )
    if source.sql.running != "Yes":
        remedy = _remedy(source.sql)
        yield (
            f"the thread that applies what came from {source.address} is {_running(source.sql.running)}"
            f"{_said(str(source.sql))}, expected it to run: "
            f"{remedy or 'remove the cause, and START SLAVE in bin/mariadb'}"
        )


def _remedy(thread: Thread) -> str:
    """What helps against the thread's error; empty when that is for people to find out."""
    if thread.number == 1236 and "GTID" not in thread.error:
        return ""  # the same number for what else keeps a primary from sending, such as a packet that is too large
    return REMEDIES.get(thread.number, "")


def _running(state: str) -> str:
    return {"No": "stopped", "Connecting": "trying to connect"}.get(state, state)


def _said(error: str) -> str:
    return f" ({error})" if error else ""


def _last_lag(status: ReplicationStatus) -> str:
    lag = status.lag
    since = f" since {lag.unknown_since}" if lag.unknown_since else ""
    return since + (f", the last known lag is {lag.seconds} s at {lag.at}" if lag.at else "")


def _lag_problems(status: ReplicationStatus, source: Source) -> Iterator[str]:
    seconds = known_lag(source)
    if status.wanted is None or seconds is None or status.wanted.threshold < 0:
        return
    if seconds > status.wanted.threshold:
        yield (
            f"the replica is {seconds} s behind {source.address}, expected at most {status.wanted.threshold} s "
            "(replication.seconds-behind-master-threshold): wait if it is catching up, else look for long transactions "
            "on the primary and for a slow disk here, or raise the threshold"
        )


# ---- what it has, and may not have


def _gtid_problems(status: ReplicationStatus, own: Own, source: Source) -> Iterator[str]:
    extra = extra_transactions(status, own)
    mine = [one for one in extra if one.server == own.facts.server_id]
    others = [one for one in extra if one.server != own.facts.server_id]
    if mine:
        yield (
            f"the replica has transactions of its own (GTID {gtid.text(mine)}), expected none but {source.address}'s: "
            f"find out what was written here, and {ANEW}"
        )
    if others:
        yield (
            f"the replica has transactions that {source.address} has not (GTID {gtid.text(others)}), expected it not "
            f"to be ahead of its primary: find out whether {source.address} is the right one, and {ANEW}"
        )


def extra_transactions(status: ReplicationStatus, own: Own) -> tuple[gtid.Gtid, ...]:
    """What is here and not there, told by each server's own sequence: the highest ones alone could be equal."""
    ours = gtid.parse(own.facts.binlog_state)
    begun = gtid.parse(status.begun.gtid) if status.begun else None
    theirs = _theirs(status.upstream)
    if theirs is not None:
        # What it began with is the primary's history, but where that is ahead: MariaDB lets a replica follow that has
        # a domain which its primary never had.
        known = [one for one in begun or () if gtid.contains(theirs, (one,))]
        # All that a replica has since it began is from one primary, until a role changes. Without strict mode sequences
        # may go back, so that what is older than something in common can be extra, too.
        compared = gtid.only_in if status.role.last and own.facts.strict else gtid.missing
        extra = compared((*ours, *gtid.parse(own.facts.slave_pos)), (*theirs, *known))
    elif begun is not None and status.role.last is None:
        # Nobody to compare with: what our own server id has added is not the primary's.
        extra = gtid.errant(ours, own.facts.server_id, begun)
    else:
        extra = ()
    return extra


def _theirs(upstream: Upstream | None) -> tuple[gtid.Gtid, ...] | None:
    """All that the primary has; None when it did not say."""
    if upstream is None or upstream.facts is None:
        return None
    return (*gtid.parse(upstream.facts.binlog_state), *gtid.parse(upstream.facts.slave_pos))


def _setting_problems(own: Own) -> Iterator[str]:
    if not own.facts.strict:
        yield (
            "gtid_strict_mode is OFF on the replica, expected ON, as what is written here by mistake would be silent: "
            "SET GLOBAL gtid_strict_mode = ON in bin/mariadb, and look for a transaction of its own"
        )
    if not own.facts.read_only:
        yield (
            "read_only is OFF on the replica, expected ON, as applications could write here what the primary has not: "
            "SET GLOBAL read_only = ON in bin/mariadb, or restart the service"
        )
    source = own.sources[0]
    if source.using_gtid == "No":
        yield (
            "the replica follows by the names of binary logs, expected by GTID: CHANGE MASTER TO MASTER_USE_GTID = "
            "slave_pos in bin/mariadb, between STOP SLAVE and START SLAVE"
        )


# ---- how replicas are let in


def _account_problems(status: ReplicationStatus, own: Own) -> Iterator[str]:
    """Of the accounts that we make; others are for those who made them."""
    subject = f"SUBJECT '{CLIENT_SUBJECT}'"
    for account, required in own.requirements:
        if account.host not in (decide.IPV4, decide.IPV6):
            continue
        always = account.host == decide.IPV6
        expected = subject if always or status.replicas_use_tls else "NONE"
        if required != expected:
            why = "as there is no other way in over IPv6" if always else f"as replicas-use-tls says, which {CREATION}"
            other = {"NONE": "false", subject: "true"}.get(required) if not always else None
            yield (
                f"the account {account} has REQUIRE {required}, expected REQUIRE {expected}, {why}: ALTER USER "
                f"'{account.user}'@'{account.host}' REQUIRE {expected} in bin/mariadb"
                + (f", or give replicas-use-tls: {other}" if other else "")
            )


# ---- what is kept for replicas


def _log_problems(status: ReplicationStatus, own: Own, now: datetime) -> Iterator[str]:
    logs, days = status.logs, status.logs.binary.expire_days
    for seen in status.replicas:
        away, kept = now - times.parse(seen.at), timedelta(days=days)
        if seen.server_id not in own.connected and kept / 2 < away <= kept:
            yield (
                f"the replica with server id {seen.server_id} was last connected at {seen.at}, {duration(away)} ago, "
                f"and the binary logs that it needs go at {times.text(times.parse(seen.at) + kept)}, expected it back "
                "before: start it, or raise binlog-expire-days; if it is gone for good, it is forgotten then"
            )
    for parameter, retention in logs.retention:
        if retention > days:
            yield (
                f"backups are kept for {retention} days ({parameter}) and binary logs for {days} (binlog-expire-days), "
                "expected binary logs for as long, as replicas made from older backups could not go on from there: "
                f"raise binlog-expire-days, or lower {parameter}"
            )
    if not own.sources:
        needed = verdict.binary_logs_to_come(logs.binary, now)
        if logs.free < needed:
            yield (
                f"{size_text(logs.free)} are free, expected at least {size_text(needed)} for the binary logs of {days} "
                "days, without which replicas could not follow: free some, give it a larger disk, or lower "
                "binlog-expire-days"
            )


# ---- when all is well


def _summary(status: ReplicationStatus) -> str:
    own = status.own
    if own is None:
        return ""
    there = f"; connected replicas: {', '.join(map(str, sorted(own.connected)))}" if own.connected else ""
    if own.semi_sync:
        there += semi_sync.summary(status.semi_sync, _role(own), own.semi_sync)
    if not own.sources:
        return f"Mariadb is a primary, at GTID {own.facts.binlog_pos or 'empty'}{there}"
    source = own.sources[0]
    upstream = status.upstream
    unasked = f"; the primary could not be asked ({upstream.error})" if upstream and upstream.error else ""
    lag = known_lag(source)
    behind = f"{lag} s behind" if lag is not None else "its lag not known yet"
    return (
        f"Mariadb replicates from {source.address} {_how(source.tls)}, {behind}, at GTID "
        f"{own.facts.slave_pos or 'empty'}{unasked}{there}"
    )
