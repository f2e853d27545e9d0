# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about backups and disk space: each state of the world, and the whole line."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.mariadb import manifest, verdict
from slapos.recipe.erp5.mariadb.status import BackupStatus, BinaryLogs, DiskStatus, NextBackup
from slapos.recipe.erp5.verdict import Verdict

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)
REMEDY = (
    "read the log of the service mariadb-control, and process the instance (slapos node instance --all) to start it"
)


def moment(value: datetime) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}"


def entry(start: datetime) -> manifest.Entry:
    name = f"{start:%Y%m%dT%H%M%SZ}.sql.zst"
    return manifest.Entry(name, "logical", 3 << 20, "0" * 64, "0-7-1", moment(start), moment(start), "10.11.19")


def status(newest=None, periodicity="daily", created=LONG_AGO, heartbeat=NOW, enabled=True, missing=False, **record):
    return BackupStatus(
        parameter="backup.logical",
        program="bin/mariadb-dump-script",
        job="logical-backup",
        enabled=enabled,
        periodicity=periodicity,
        folder="/p/dumps",
        created=created,
        newest=entry(newest) if newest else None,
        missing=missing,
        future=record.pop("future", ()),
        scheduler=State(
            heartbeat=moment(heartbeat) if heartbeat else "",
            problem=record.pop("problem", ""),
            jobs=(Job("logical-backup", next_run="2026-11-23T00:00:00Z", **record),),
        ),
    )


def sentences(good, *arguments, **values):
    judged = verdict.backup(status(*arguments, **values), NOW)
    assert judged.good is good, judged
    return judged.sentences


# ---- clocks


def test_a_heartbeat_that_is_yet_to_come():
    assert sentences(False, NOW, heartbeat=NOW + timedelta(days=1500)) == (
        "the scheduler's last sign of life is of 2030-12-31T12:30:00Z, which is yet to come, expected one every 30 s: "
        f"check the machine's clock, {REMEDY}",
    )


def test_a_backup_from_the_future_does_not_count_and_is_named():
    (sentence,) = sentences(True, NOW, future=("20300101T000000Z.sql.zst",))
    assert sentence.endswith("; the clock was wrong once, and does not count: 20300101T000000Z.sql.zst")


# ---- freshness


def test_fresh():
    assert sentences(True, NOW.replace(hour=0, minute=0), outcome="done", last_start="2026-11-22T00:00:00Z") == (
        "the newest backup is 20261122T000000Z.sql.zst of 2026-11-22T00:00:00Z, 3.0 MiB; "
        "the next one is due at 2026-11-23T00:00:00Z",
    )


def test_one_failed_run_is_forgiven_and_told():
    start = datetime(2026, 11, 21, tzinfo=UTC)
    assert sentences(True, start, outcome="failed", message="no space", last_start="X") == (
        "the newest backup is 20261121T000000Z.sql.zst of 2026-11-21T00:00:00Z, 3.0 MiB; "
        "the next one is due at 2026-11-23T00:00:00Z; the last scheduled run, of X, is failed: no space",
    )


def test_two_missed_runs_are_not_forgiven():
    start = datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)
    assert sentences(False, start, outcome="failed", message="no space", last_start="2026-11-22T00:00:00Z") == (
        "the newest backup, 20261120T235959Z.sql.zst, was begun 36 h ago in /p/dumps, expected one begun at "
        "2026-11-21T00:00:00Z or later (backup.logical.periodicity is daily); the last scheduled run, of "
        "2026-11-22T00:00:00Z, is failed: no space: run bin/mariadb-dump-script",
    )


@pytest.mark.parametrize(
    ("periodicity", "limit"),
    [
        ("hourly", datetime(2026, 11, 22, 10, tzinfo=UTC)),  # 12:00 is still within its margin
        ("*/10 * * * *", datetime(2026, 11, 22, 11, 10, tzinfo=UTC)),
        ("0 3 * * 1-5", datetime(2026, 11, 19, 3, tzinfo=UTC)),  # the 22nd is a Sunday
        ("0 0 1 * *", datetime(2026, 10, 1, tzinfo=UTC)),
    ],
)
def test_the_limit_follows_the_calendar(periodicity, limit):
    assert sentences(True, limit, periodicity)
    (sentence,) = sentences(False, limit - timedelta(seconds=1), periodicity)
    assert f"expected one begun at {moment(limit)} or later (backup.logical.periodicity is {periodicity})" in sentence


def test_the_margin_after_midnight():
    status_ = status(datetime(2026, 11, 20, 0, 0, tzinfo=UTC), heartbeat=datetime(2026, 11, 22, 1, tzinfo=UTC))
    assert verdict.backup(status_, datetime(2026, 11, 22, 1, tzinfo=UTC)).good
    assert not verdict.backup(status_, datetime(2026, 11, 22, 1, 0, 1, tzinfo=UTC)).good


def test_a_new_database_has_until_its_first_period_and_a_margin():
    created = datetime(2026, 11, 22, 10, 10, tzinfo=UTC)
    status_ = status(created=created, periodicity="hourly", heartbeat=datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    assert verdict.backup(status_, datetime(2026, 11, 22, 12, 0, tzinfo=UTC)).sentences == (
        "there is no backup yet; the next one is due at 2026-11-23T00:00:00Z",
    )
    late = verdict.backup(status_, datetime(2026, 11, 22, 12, 0, 1, tzinfo=UTC))
    assert not late.good


def test_none_at_all():
    assert sentences(False) == (
        "there is no backup in /p/dumps, expected one begun at 2026-11-21T00:00:00Z or later "
        "(backup.logical.periodicity is daily): run bin/mariadb-dump-script",
    )


def test_a_backup_of_an_earlier_database_does_not_end_the_patience():
    assert sentences(True, LONG_AGO, created=NOW - timedelta(hours=1))


def test_the_file_is_gone():
    assert sentences(False, NOW, missing=True) == (
        "the newest backup, 20261122T123000Z.sql.zst, is no longer a file of 3145728 bytes in /p/dumps, expected one "
        "begun at 2026-11-21T00:00:00Z or later (backup.logical.periodicity is daily): run bin/mariadb-dump-script",
    )


# ---- the scheduler


def test_a_dead_scheduler():
    assert sentences(False, NOW, heartbeat=NOW - timedelta(hours=3)) == (
        f"the scheduler's last sign of life is 3 h old (2026-11-22T09:30:00Z), expected one every 30 s: {REMEDY}",
    )
    assert sentences(True, NOW, heartbeat=NOW - timedelta(minutes=5))


def test_a_scheduler_that_never_ran():
    assert sentences(False, NOW, heartbeat=None) == (
        f"the scheduler never ran, expected a sign of life every 30 s: {REMEDY}",
    )


def test_the_schedulers_own_problem_is_passed_on():
    assert sentences(False, NOW, problem="etc/mariadb.json cannot be read") == ("etc/mariadb.json cannot be read",)


def test_a_periodicity_without_a_moment_is_told_once():
    said = (
        "backup.logical.periodicity is '0 0 30 2 *', which is neither daily nor hourly nor a cron expression of five "
        "fields with a date that exists: give one such as '30 2 * * *' (at 02:30 UTC every day)"
    )
    assert sentences(False, NOW, "0 0 30 2 *", problem=said) == (said,)


def test_disabled():
    assert sentences(True, heartbeat=None, enabled=False) == (
        "scheduled backups are off (backup.logical.enable is false); there is no backup yet",
    )


def test_no_database_yet():
    assert sentences(True, created=None) == ("there is no database to back up yet",)
    assert sentences(False, created=None, heartbeat=None)


# ---- several kinds


def physical(newest, **values):
    parameter, program = "backup.physical", "bin/mariadb-physical-backup-script"
    own = {"parameter": parameter, "program": program, "job": "physical-backup", "folder": "/p/physical"}
    return dataclasses.replace(status(newest, **values), **own)


def test_each_kind_is_told_when_all_are_good():
    today = NOW.replace(hour=0, minute=0)
    both = verdict.backups((status(today, outcome="done"), physical(today)), NOW)
    newest = "the newest backup is 20261122T000000Z.sql.zst of 2026-11-22T00:00:00Z, 3.0 MiB"
    assert both == Verdict(True, (f"{newest}; the next one is due at 2026-11-23T00:00:00Z", newest))


def test_one_kind_that_is_too_old_is_the_only_one_told():
    both = verdict.backups((status(NOW.replace(hour=0)), physical(None, periodicity="hourly")), NOW)
    assert both == Verdict(
        False,
        (
            "there is no backup in /p/physical, expected one begun at 2026-11-22T10:00:00Z or later "
            "(backup.physical.periodicity is hourly): run bin/mariadb-physical-backup-script",
        ),
    )


def test_a_dead_scheduler_is_told_once():
    dead = NOW - timedelta(hours=3)
    assert len(verdict.backups((status(NOW, heartbeat=dead), physical(NOW, heartbeat=dead)), NOW).sentences) == 1


# ---- disk


GB = 1 << 30


def disk(free, logs=None, newest=4 * GB, next_backup=5 * GB, more=()):
    logs = logs or BinaryLogs(10 * GB, NOW - timedelta(days=5), 10)
    backups = (NextBackup("backup.logical", "backup", next_backup, newest),) if next_backup else ()
    return verdict.disk(DiskStatus("/p/srv", free, 12 * GB, backups + more, logs), NOW)


def test_enough():
    assert disk(15 * GB).sentences == (
        "15.0 GiB are free for /p/srv, and 15.0 GiB are needed: 5.0 GiB for the next backup (the newest has 4.0 GiB) "
        "and 10.0 GiB for binary logs (10 days at 2.0 GiB a day, 10.0 GiB there)",
    )
    assert disk(15 * GB).good


def test_too_little():
    assert disk(15 * GB - 1).sentences == (
        "15.0 GiB are free for /p/srv, expected at least 15.0 GiB, 5.0 GiB for the next backup (the newest has 4.0 "
        "GiB) and 10.0 GiB for binary logs (10 days at 2.0 GiB a day, 10.0 GiB there): free some, give it a larger "
        "disk, or lower backup.logical.retention-days or binlog-expire-days",
    )
    assert not disk(15 * GB - 1).good


def test_a_first_backup_is_estimated_from_the_tables():
    assert "4.0 GiB for the next backup (the tables have 12.0 GiB)" in disk(99 * GB, None, None, 4 * GB).sentences[0]


def test_without_backups_only_binary_logs_count():
    assert disk(10 * GB, next_backup=0).sentences == (
        "10.0 GiB are free for /p/srv, and 10.0 GiB are needed: "
        "10.0 GiB for binary logs (10 days at 2.0 GiB a day, 10.0 GiB there)",
    )


def test_physical_backups_count_as_well():
    assert disk(17 * GB, more=(NextBackup("backup.physical", "full physical backup", 2 * GB, None),)).sentences == (
        "17.0 GiB are free for /p/srv, and 17.0 GiB are needed: 5.0 GiB for the next backup (the newest has 4.0 GiB) "
        "and 2.0 GiB for the next full physical backup (the tables have 12.0 GiB) and 10.0 GiB for binary logs "
        "(10 days at 2.0 GiB a day, 10.0 GiB there)",
    )
    short = disk(17 * GB - 1, more=(NextBackup("backup.physical", "full physical backup", 2 * GB, None),))
    assert not short.good
    assert short.sentences[0].endswith(
        "or lower backup.logical.retention-days or backup.physical.retention-days or binlog-expire-days"
    )


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        (BinaryLogs(0, None, 10), 1 * GB),
        (BinaryLogs(20 * GB, NOW - timedelta(days=10), 10), 1 * GB),  # as many come as go
        (BinaryLogs(2 * GB, NOW - timedelta(minutes=1), 10), 18 * GB),  # an hour's load is not a day's rate
        (BinaryLogs(2 * GB, NOW + timedelta(days=1), 10), 18 * GB),  # a clock that was wrong
    ],
)
def test_binary_logs_to_come(logs, expected):
    assert verdict.binary_logs_to_come(logs, NOW) == expected
