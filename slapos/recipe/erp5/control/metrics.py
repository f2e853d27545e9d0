# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts as Prometheus reads them; what is not known has no sample, so that an alarm on its absence can tell."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.facts import Facts
from slapos.recipe.erp5.mariadb import gtid

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(facts: Facts) -> bytes:
    """What GET /metrics answers."""
    registry = CollectorRegistry()
    registry.register(_Facts(facts))
    return generate_latest(registry)


class _Facts(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        yield from _server(self._facts)
        yield from _replication(self._facts)
        yield from _care(self._facts)
        yield from _actions(self._facts)


def _server(facts: Facts) -> Iterator[Metric]:
    server = facts.server
    yield _one("mariadb_up", "Whether the server answers on its socket.", server.writable is not None)
    if facts.at:
        yield _one("mariadb_seen_timestamp_seconds", "When the server was last looked at.", _seconds(facts.at))
    if server.writable is not None:
        yield _one("mariadb_is_replica", "Whether the database really is a replica.", server.role == "replica")
        yield _one("mariadb_writable", "Whether the server takes writes.", server.writable)
        yield _one("mariadb_replicas_connected", "Replicas that are connected now.", len(server.replicas))
    asked = facts.requested.startswith("replica")
    yield _one("mariadb_requested_replica", "Whether the parameters ask for a replica.", asked)
    if facts.service:
        ends = len(facts.service.ends)
        yield _one("mariadb_service_ends", "Ends of mariadbd that its supervisor remembers (at most 20).", ends)


def _replication(facts: Facts) -> Iterator[Metric]:
    source = facts.source
    if source and source.lag is not None:
        yield _one("mariadb_replication_lag_seconds", "Seconds behind the primary.", source.lag)
    if source and source.behind is not None:
        yield _one(
            "mariadb_replication_missing_transactions", "Transactions of the primary not yet here.", source.behind
        )
    if source:
        threads = GaugeMetricFamily("mariadb_replication_thread_running", "Whether it runs.", labels=["thread"])
        for name, state in (("receive", source.receiving), ("apply", source.applying)):
            threads.add_metric([name], state == "Yes")
        yield threads
    positions = GaugeMetricFamily(
        "mariadb_gtid_sequence", "The last transaction of each replication domain.", labels=["position", "domain"]
    )
    known = {"written": facts.server.written, "applied": facts.server.applied}
    if source:
        known |= {"received": source.received, "primary": source.primary}
    for name, position in known.items():
        for domain, sequence in gtid.position(gtid.parse(position)).items():
            positions.add_metric([name, str(domain)], sequence)
    yield positions


def _care(facts: Facts) -> Iterator[Metric]:
    failing = GaugeMetricFamily("mariadb_promise_failing", "Whether a promise fails.", labels=["promise"])
    for promise in facts.promises:
        failing.add_metric([promise.name], promise.failed)
    yield failing
    begun = GaugeMetricFamily("mariadb_backup_timestamp_seconds", "When the newest backup was begun.", labels=["kind"])
    size = GaugeMetricFamily("mariadb_backup_size_bytes", "The newest backup's size.", labels=["kind"])
    for backup in facts.backups:
        if backup.at:
            begun.add_metric([backup.kind], _seconds(backup.at))
            size.add_metric([backup.kind], backup.size)
    yield begun
    yield size
    ends = GaugeMetricFamily("mariadb_certificate_end_timestamp_seconds", "When it expires.", labels=["file"])
    for certificate in facts.certificates:
        if certificate.until:
            ends.add_metric([certificate.name], _seconds(certificate.until))
    yield ends


def _actions(facts: Facts) -> Iterator[Metric]:
    yield _one("mariadb_action_running", "Whether a role is being changed.", facts.running is not None)
    last = GaugeMetricFamily("mariadb_action_timestamp_seconds", "When it last ended so.", labels=["action", "outcome"])
    moments = {(entry.action, entry.outcome): _seconds(entry.at) for entry in reversed(facts.actions)}
    for (name, outcome), moment in moments.items():
        last.add_metric([name, outcome], moment)
    yield last


def _one(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=float(value))


def _seconds(moment: str) -> float:
    return times.parse(moment).timestamp()
