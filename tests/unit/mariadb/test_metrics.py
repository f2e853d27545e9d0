# SPDX-License-Identifier: GPL-2.0-or-later
"""What Prometheus reads: each fact once, and nothing of what is not known."""

import dataclasses

from prometheus_client.parser import text_string_to_metric_families

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import metrics
from slapos.recipe.erp5.control.facts import Promise
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.mariadb.facts import Backup, Certificate, Facts, Server, Service, Source
from slapos.recipe.erp5.mariadb.service import SERVICE

NOW = times.parse("2026-11-25T03:00:00Z")
NOTHING = Facts(
    instance="shop",
    at="",
    requested="primary",
    server=Server(error="no"),
    source=None,
    problems=(),
    summary="",
    notes=(),
    running=None,
    actions=(),
    promises=(),
    backups=(),
    certificates=(),
    service=None,
    samples=(),
    now=NOW,
)
SOURCE = Source("10.0.0.1:1", "u", True, "Yes", "No broken (1)", 7, "0-1-41", "0-1-42,1-1-1", 3, "")
EVERYTHING = dataclasses.replace(
    NOTHING,
    at="2026-11-25T02:59:58Z",
    requested="replica of 10.0.0.1:1",
    server=Server("replica", False, "", "10.11", 7, "0-1-40", "0-1-40", (3, 4)),
    source=SOURCE,
    actions=(
        Entry("2026-11-25T02:00:00Z", "fence", "page", "done", "s"),
        Entry("2026-11-25T01:00:00Z", "fence", "page", "done", "s"),
    ),
    promises=(Promise("mariadb-disk", True, "full", ""), Promise("mariadb-server", False, "good", "")),
    backups=(Backup("backup.logical", "2026-11-25T00:00:00Z", 10, "daily", "", ""), Backup("b", "", 0, "", "", "")),
    certificates=(Certificate("server.pem", "2027-01-01T00:00:00Z", ""), Certificate("crl.pem", "", "missing")),
    service=Service("running", "", ("a", "b"), ""),
)


def read(facts: Facts) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text(SERVICE.metrics(facts)).decode())
    return {
        " ".join((one.name, *(f"{key}={value}" for key, value in sorted(one.labels.items())))): one.value
        for family in families
        for one in family.samples
    }


def test_what_is_not_known_is_not_there():
    assert read(NOTHING) == {"mariadb_up": 0, "mariadb_requested_replica": 0, "mariadb_action_running": 0}


def test_everything():
    assert read(EVERYTHING) == {
        "mariadb_up": 1,
        "mariadb_seen_timestamp_seconds": times.parse("2026-11-25T02:59:58Z").timestamp(),
        "mariadb_is_replica": 1,
        "mariadb_writable": 0,
        "mariadb_replicas_connected": 2,
        "mariadb_requested_replica": 1,
        "mariadb_service_ends": 2,
        "mariadb_replication_lag_seconds": 7,
        "mariadb_replication_missing_transactions": 3,
        "mariadb_replication_thread_running thread=receive": 1,
        "mariadb_replication_thread_running thread=apply": 0,
        "mariadb_gtid_sequence domain=0 position=written": 40,
        "mariadb_gtid_sequence domain=0 position=applied": 40,
        "mariadb_gtid_sequence domain=0 position=received": 41,
        "mariadb_gtid_sequence domain=0 position=primary": 42,
        "mariadb_gtid_sequence domain=1 position=primary": 1,
        "mariadb_promise_failing promise=mariadb-disk": 1,
        "mariadb_promise_failing promise=mariadb-server": 0,
        "mariadb_backup_timestamp_seconds kind=backup.logical": times.parse("2026-11-25T00:00:00Z").timestamp(),
        "mariadb_backup_size_bytes kind=backup.logical": 10,
        "mariadb_certificate_end_timestamp_seconds file=server.pem": times.parse("2027-01-01T00:00:00Z").timestamp(),
        "mariadb_action_running": 0,
        "mariadb_action_timestamp_seconds action=fence outcome=done": times.parse("2026-11-25T02:00:00Z").timestamp(),
    }
