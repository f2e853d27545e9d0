# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about replication: each state of the world, and the whole line."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import gtid, progress, replication_verdict
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import SemiSync
from slapos.recipe.erp5.mariadb.progress import State
from slapos.recipe.erp5.mariadb.replication_memory import Lag, Seen
from slapos.recipe.erp5.mariadb.replication_status import Logs, Own, ReplicationStatus, Upstream, Wanted
from slapos.recipe.erp5.mariadb.role_state import Change, RoleState
from slapos.recipe.erp5.mariadb.sql_replication import Facts, Source, Thread
from slapos.recipe.erp5.mariadb.status import BinaryLogs

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
THERE = "10.0.0.1:20000"
YES = Thread("Yes", 0, "")
OURS = Facts("10.11.19", 7, 0, "0-1-50", "0-1-50", "0-1-50", strict=True, read_only=True, encrypted=False)
THEIRS = dataclasses.replace(OURS, server_id=1, slave_pos="", read_only=False, encrypted=True)
SOURCE = Source("", "10.0.0.1", 20000, "replication_user", YES, YES, 0, True, True, "Slave_Pos", "0-1-50")
WANTED = Wanted("10.0.0.1", 20000, "replication_user", THERE, True, 0)
BEGUN = Bootstrap("live", "0-1-40", THERE, "replication_user", True, "10.11.19", "", "")
LOGS = Logs(BinaryLogs(1000, NOW - timedelta(days=1), 14), (("backup.logical.retention-days", 7),), 10 << 30)
ANEW = (
    "have the replica made anew (stop the service, move srv/mariadb away, start it; with replication.bootstrap-url it "
    "begins from a backup)"
)
CREATION = "takes effect at the database's creation alone"


def status(sources=(SOURCE,), facts=OURS, connected=frozenset(), **changes):
    values = {
        "socket": "/p/s",
        "exists": True,
        "wanted": WANTED,
        "bootstrap": State(stage=progress.COMPLETE),
        "begun": BEGUN,
        "own": Own(facts, tuple(sources), frozenset(connected)),
        "error": "",
        "upstream": Upstream(facts=THEIRS),
        "lag": Lag(0, times.text(NOW)),
        "replicas": (),
        "logs": LOGS,
        "replicas_use_tls": True,
        "semi_sync": SemiSync(False, 10),
    }
    values |= changes
    return ReplicationStatus(**{"asked": values["wanted"], **values})


def primary(**changes):
    values = {"sources": (), "facts": THEIRS, "wanted": None, "begun": None, "bootstrap": None, "upstream": None}
    return status(**values | changes)


def problem(*arguments, **changes):
    return the_problem(status(*arguments, **changes))


def the_problem(judged):
    judged = replication_verdict.replication(judged, NOW)
    assert not judged.good
    (sentence,) = judged.sentences
    return sentence


def summary(judged):
    judged = replication_verdict.replication(judged, NOW)
    assert judged.good, judged
    (sentence,) = judged.sentences
    return sentence


def source(**changes):
    return (dataclasses.replace(SOURCE, **changes),)


def facts(**changes):
    return dataclasses.replace(OURS, **changes)


# ---- all is well


def test_a_replica_that_follows():
    assert summary(status()) == f"Mariadb replicates from {THERE} over TLS, 0 s behind, at GTID 0-1-50"


def test_a_primary():
    assert summary(primary()) == "Mariadb is a primary, at GTID 0-1-50"
    assert summary(primary(facts=dataclasses.replace(THEIRS, binlog_pos=""), connected=(9, 8))) == (
        "Mariadb is a primary, at GTID empty; connected replicas: 8, 9"
    )


def test_a_primary_that_cannot_be_asked_while_the_threads_run():
    asked = Upstream(error="timed out")
    assert summary(status(upstream=asked)).endswith("; the primary could not be asked (timed out)")


def test_no_database_where_a_primary_is_asked_for():
    assert summary(primary(exists=False, own=None)) == "there is no database yet"


# ---- the role


def test_a_primary_from_before():
    assert problem((), THEIRS, begun=None, upstream=None) == (
        f"Mariadb is not in replica mode (it was made as a primary), expected a replica of {THERE}, as "
        f"replication.primary-url says, which {CREATION}: take the parameter replication away to leave it a primary, "
        f"or {ANEW}"
    )


def test_a_replica_that_is_none_any_more():
    assert f"(it was made as a replica of {THERE} and is none any more)" in problem((), THEIRS, upstream=None)


def test_a_replica_without_the_parameter():
    assert problem(wanted=None) == (
        f"Mariadb is in replica mode, with {THERE} as its primary, expected a primary, as there is no parameter "
        f"replication, which {CREATION}: give replication.primary-url again to leave it a replica, or make it a "
        "primary with bin/mariadb-takeover"
    )


def test_no_database_where_a_replica_is_asked_for():
    assert problem(exists=False, own=None, bootstrap=None) == (
        f"Mariadb is not in replica mode, as there is no database yet, expected a replica of {THERE}: process the "
        "instance (slapos node instance --all) to start the service, which makes it"
    )


def test_no_server():
    assert problem(own=None, error="refused") == (
        "replication cannot be judged, as no server answers on /p/s (refused), expected one: the promise "
        "mariadb-server says what to do"
    )


def test_another_source():
    assert problem(source(host="::2", port=1, user="x")) == (
        f"Mariadb replicates from [::2]:1 as x, expected {THERE} as replication_user, as replication.primary-url says, "
        f"which {CREATION}: give what it replicates from, or change that with bin/mariadb-follow"
    )


@pytest.mark.parametrize("changes", [{"host": "10.0.0.2"}, {"port": 20001}, {"user": "other"}])
def test_each_part_of_the_source_counts(changes):
    assert problem(source(**changes)).startswith("Mariadb replicates from ")


def test_two_sources():
    more = dataclasses.replace(SOURCE, name="second", host="10.0.0.9")
    assert problem((SOURCE, more)) == (
        "Mariadb replicates from 2 servers, expected one: look after the connections 'second' (10.0.0.9:20000) by "
        "other means, or remove them (RESET SLAVE 'name' ALL in bin/mariadb), as only the first one is watched"
    )


def test_tls_is_off_and_should_be_on():
    assert problem(source(tls=False, verified=False)) == (
        "Mariadb replicates without TLS, expected over TLS, as replication.replicate-with-tls says, which "
        f"{CREATION}: give false there, or {ANEW}"
    )


def test_tls_is_on_and_should_be_off():
    assert problem(wanted=dataclasses.replace(WANTED, tls=False)) == (
        "Mariadb replicates over TLS, expected without TLS, as replication.replicate-with-tls says, which "
        f"{CREATION}: give true there, or {ANEW}"
    )


def test_tls_that_proves_nothing():
    assert problem(source(verified=False)) == (
        "Mariadb replicates over TLS with whatever server answers, expected it to prove that it is the primary: CHANGE "
        "MASTER TO MASTER_SSL_VERIFY_SERVER_CERT = 1 in bin/mariadb, between STOP SLAVE and START SLAVE"
    )


# ---- threads and lag


def test_the_primary_is_gone_and_the_last_lag_stays_known():
    io = Thread("Connecting", 2003, "error connecting to master: refused")
    lag = Lag(3, "2026-11-22T11:00:00Z", "2026-11-22T11:02:00Z")
    assert problem(source(io=io, lag=None), lag=lag, upstream=Upstream(error="refused")) == (
        f"the thread that receives from {THERE} is trying to connect (error connecting to master: refused (2003)) "
        "since 2026-11-22T11:02:00Z, the last known lag is 3 s at 2026-11-22T11:00:00Z, expected it to run: start the "
        "primary, or mend the way to it"
    )


def test_a_connection_that_has_just_been_made():
    about = status(source(io=Thread("Preparing", 0, ""), lag=None))
    assert summary(about) == f"Mariadb replicates from {THERE} over TLS, its lag not known yet, at GTID 0-1-50"


def test_stopped_by_people():
    stopped = Thread("No", 0, "")
    judged = replication_verdict.replication(status(source(io=stopped, sql=stopped, lag=None), lag=Lag()), NOW)
    assert judged.sentences == (
        f"the thread that receives from {THERE} is stopped, expected it to run: START SLAVE in bin/mariadb, and read "
        "var/log/mariadb-error.log",
        f"the thread that applies what came from {THERE} is stopped, expected it to run: remove the cause, and START "
        "SLAVE in bin/mariadb",
    )


@pytest.mark.parametrize("number, remedy", [(1236, ANEW), (1045, "give the present password with"), (2026, "read the")])
def test_the_remedy_depends_on_the_error(number, remedy):
    io = Thread("No", number, "no such GTID")
    sentence = problem(source(io=io, lag=None))
    assert f" is stopped (no such GTID ({number}))" in sentence
    assert f"expected it to run: {remedy}" in sentence


def test_not_everything_that_a_primary_cannot_send_needs_a_new_replica():
    io = Thread("No", 1236, "log event entry exceeded max_allowed_packet")
    assert problem(source(io=io, lag=None)).endswith(
        "expected it to run: START SLAVE in bin/mariadb, and read var/log/mariadb-error.log"
    )


def test_applying_fails():
    applying = Thread("No", 1950, "out of order")
    assert problem(source(sql=applying, lag=None)) == (
        f"the thread that applies what came from {THERE} is stopped (out of order (1950)), expected it to run: {ANEW}"
    )


def test_a_primary_that_would_not_let_us_in_again():
    upstream = Upstream(error="Access denied (1045)", refused=True)
    assert problem(upstream=upstream) == (
        f"the primary at {THERE} would not let us in again (Access denied (1045)), expected it to, as the connection "
        "that there is may break: give the present password with bin/mariadb-replication-password --set, and see that "
        "the certificate in srv/tls/upstream is one of the primary's authority"
    )


def test_lag():
    assert problem(source(lag=1)) == (
        f"the replica is 1 s behind {THERE}, expected at most 0 s (replication.seconds-behind-master-threshold): wait "
        "if it is catching up, else look for long transactions on the primary and for a slow disk here, or raise the "
        "threshold"
    )


@pytest.mark.parametrize("threshold, lag", [(-1, 10**6), (60, 60), (0, None)])
def test_lag_that_does_not_matter(threshold, lag):
    assert summary(status(source(lag=lag), wanted=dataclasses.replace(WANTED, threshold=threshold)))


# ---- GTIDs and settings


def test_an_errant_transaction():
    assert problem(facts=facts(binlog_state="0-1-50,0-7-51")) == (
        f"the replica has transactions of its own (GTID 0-7-51), expected none but {THERE}'s: find out what was "
        f"written here, and {ANEW}"
    )


def test_an_errant_transaction_is_told_while_the_primary_is_gone():
    upstream = Upstream(error="refused")
    assert "(GTID 0-7-51)" in problem(facts=facts(binlog_state="0-1-50,0-7-51"), upstream=upstream)


@pytest.mark.parametrize("theirs, begun", [("0-1-50,0-7-30", "0-1-40"), ("0-1-50", "0-7-30")])
def test_what_the_primary_or_the_beginning_had_of_our_server_id_is_not_errant(theirs, begun):
    upstream = Upstream(facts=dataclasses.replace(THEIRS, binlog_state=theirs))
    begun = dataclasses.replace(BEGUN, gtid=begun)
    assert summary(status(facts=facts(binlog_state="0-1-50,0-7-30"), upstream=upstream, begun=begun))


def test_without_a_note_and_without_the_primary_nothing_is_called_errant():
    gone = status(facts=facts(binlog_state="0-1-50,0-7-30"), upstream=Upstream(error="refused"), begun=None)
    assert summary(gone)


@pytest.mark.parametrize("ours", ["0-1-51", "0-1-50,1-1-3", "0-1-50,0-9-12"])
def test_ahead_of_the_primary(ours):
    extra = ours.rpartition(",")[2]
    assert problem(facts=facts(binlog_state=ours)) == (
        f"the replica has transactions that {THERE} has not (GTID {extra}), expected it not to be ahead of its "
        f"primary: find out whether {THERE} is the right one, and {ANEW}"
    )


@pytest.mark.parametrize(
    "theirs, begun, ours",
    [
        ("0-1-50", "0-1-40,7-9-3", "0-1-50,7-9-3"),
        ("", "7-9-3", "7-9-3"),
        ("0-1-50,7-9-2", "0-1-40,7-9-3", "0-1-50,7-9-3"),
    ],
)
def test_what_came_with_the_beginning_and_the_primary_has_not(theirs, begun, ours):
    """MariaDB itself lets it follow."""
    judged = status(
        facts=facts(binlog_state=ours, slave_pos=ours),
        upstream=Upstream(facts=dataclasses.replace(THEIRS, binlog_state=theirs)),
        begun=dataclasses.replace(BEGUN, gtid=begun),
    )
    assert "(GTID 7-9-3), expected it not to be ahead of its primary" in the_problem(judged)


@pytest.mark.parametrize(
    "theirs, begun, ours",
    [
        ("0-1-90", "0-1-40", "0-1-50"),  # it moved on
        ("0-1-50", "0-9-40", "0-9-40,0-1-50"),  # what it was made of was another server's
        ("0-1-50", "", "0-1-50"),  # from the beginning
        ("", "", ""),  # nobody has written yet
    ],
)
def test_what_came_with_the_beginning_and_the_primary_has_passed(theirs, begun, ours):
    judged = status(
        facts=facts(binlog_state=ours, slave_pos=ours.rpartition(",")[2]),
        upstream=Upstream(facts=dataclasses.replace(THEIRS, binlog_state=theirs)),
        begun=dataclasses.replace(BEGUN, gtid=begun),
    )
    assert summary(judged)


def test_what_a_chained_primary_has_from_its_own_counts():
    upstream = Upstream(facts=dataclasses.replace(THEIRS, binlog_state="", slave_pos="0-1-50"))
    assert summary(status(upstream=upstream))
    begun = dataclasses.replace(BEGUN, gtid="0-3-40")
    assert summary(status(upstream=upstream, begun=begun, facts=facts(binlog_state="0-3-40,0-1-50")))


CHANGED = RoleState(last=Change("hand-over", "2026-11-20T00:00:00Z", THERE, "mysql://10.0.0.1:20000"))


@pytest.mark.parametrize(
    "changes, ours, extra",
    [
        # An old primary with all of its history follows one that was made from a backup of it.
        ({"role": CHANGED}, "0-1-50,0-7-100,0-3-101", ""),
        ({"role": CHANGED}, "0-7-100", ""),
        ({"role": CHANGED}, "0-1-50,0-7-103", "0-7-103"),
        ({"role": CHANGED}, "0-1-50,0-7-100,0-9-102", "0-9-102"),
        ({"role": CHANGED}, "0-1-50,0-7-100,5-7-1", "5-7-1"),
        # Where sequences may go back.
        ({"role": CHANGED, "strict": False}, "0-7-100,0-9-12", "0-9-12"),
        # What has been a replica of this one always has nothing else, wherever that stands.
        ({}, "0-7-100,0-9-12", "0-9-12"),
    ],
)
def test_history_that_a_primary_from_a_backup_does_not_name_is_not_extra(changes, ours, extra):
    changes = dict(changes)
    found = facts(binlog_state=ours, slave_pos="", strict=changes.pop("strict", True))
    upstream = Upstream(facts=dataclasses.replace(THEIRS, binlog_state="0-7-100,0-3-101"))
    judged = status(facts=found, upstream=upstream, begun=None, **changes)
    assert judged.own
    assert gtid.text(replication_verdict.extra_transactions(judged, judged.own)) == extra


def test_strict_mode_and_read_only():
    judged = replication_verdict.replication(status(facts=facts(strict=False, read_only=False)), NOW)
    assert judged.sentences == (
        "gtid_strict_mode is OFF on the replica, expected ON, as what is written here by mistake would be silent: SET "
        "GLOBAL gtid_strict_mode = ON in bin/mariadb, and look for a transaction of its own",
        "read_only is OFF on the replica, expected ON, as applications could write here what the primary has not: SET "
        "GLOBAL read_only = ON in bin/mariadb, or restart the service",
    )


def test_without_gtid():
    assert problem(source(using_gtid="No")) == (
        "the replica follows by the names of binary logs, expected by GTID: CHANGE MASTER TO MASTER_USE_GTID = "
        "slave_pos in bin/mariadb, between STOP SLAVE and START SLAVE"
    )


# ---- what is kept for replicas


@pytest.mark.parametrize("days, told", [(6, False), (8, True), (13.9, True), (14.1, False)])
def test_a_replica_that_is_away_for_more_than_half_of_the_time(days, told):
    seen = NOW - timedelta(days=days)
    away = primary(replicas=(Seen(9, times.text(seen)),))
    if not told:
        assert summary(away)
        return
    assert the_problem(away) == (
        f"the replica with server id 9 was last connected at {times.text(seen)}, {int(days)} days ago, and the binary "
        f"logs that it needs go at {times.text(seen + timedelta(days=14))}, expected it back before: start it, or "
        "raise binlog-expire-days; if it is gone for good, it is forgotten then"
    )
    assert summary(dataclasses.replace(away, own=Own(THEIRS, (), frozenset((9,)))))


def test_backups_that_are_kept_longer_than_binary_logs():
    logs = dataclasses.replace(LOGS, retention=(("backup.physical.retention-days", 30),))
    assert the_problem(primary(logs=logs)) == (
        "backups are kept for 30 days (backup.physical.retention-days) and binary logs for 14 (binlog-expire-days), "
        "expected binary logs for as long, as replicas made from older backups could not go on from there: raise "
        "binlog-expire-days, or lower backup.physical.retention-days"
    )


def test_no_room_for_the_binary_logs():
    assert the_problem(primary(logs=dataclasses.replace(LOGS, free=1 << 20))) == (
        "1.0 MiB are free, expected at least 1.0 GiB for the binary logs of 14 days, without which replicas could not "
        "follow: free some, give it a larger disk, or lower binlog-expire-days"
    )


# ---- while it is made


def making(**changes):
    state = State(stage="receive a live copy", method="live physical", since="2026-11-22T11:00:00Z", attempts=1)
    return status(exists=False, own=None, begun=None, bootstrap=dataclasses.replace(state, **changes))


def test_progress_is_no_failure():
    judged = making(done=1 << 30, total=3 << 30, rate=100 << 20)
    assert summary(judged) == (
        "the replica is being made by live physical since 2026-11-22T11:00:00Z: receive a live copy, 1.0 GiB of 3.0 "
        "GiB, 33 %, 100.0 MiB/s, done in 20 s"
    )
    assert summary(making()) == (
        "the replica is being made by live physical since 2026-11-22T11:00:00Z: receive a live copy"
    )


def test_attempts_that_fail():
    judged = replication_verdict.replication(making(error="no room", attempts=3, stage="wait"), NOW)
    assert (judged.good, judged.sentences) == (
        False,
        (
            "the replica is not made yet, and of 3 attempts the last one that ended failed (no room), expected one to "
            "succeed: remove that cause, as it is tried again by itself",
            "the replica is being made by live physical since 2026-11-22T11:00:00Z: wait",
        ),
    )
