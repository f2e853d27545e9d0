# SPDX-License-Identifier: GPL-2.0-or-later
"""A MariaDB partition's facts as Prometheus reads them."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from slapos.recipe.erp5.control import metrics
from slapos.recipe.erp5.control.metrics import one, seconds
from slapos.recipe.erp5.mariadb import gtid
from slapos.recipe.erp5.mariadb.config import PROGRAMS
from slapos.recipe.erp5.mariadb.facts import Facts


def of(facts: Facts) -> Iterator[Metric]:
    """All of them."""
    yield from _server(facts)
    yield from _replication(facts)
    yield from metrics.promises(PROGRAMS, facts)
    yield from _care(facts)
    yield from metrics.actions(PROGRAMS, facts)


def _server(facts: Facts) -> Iterator[Metric]:
    server = facts.server
    yield one("mariadb_up", "Whether the server answers on its socket.", server.writable is not None)
    if facts.at:
        yield one("mariadb_seen_timestamp_seconds", "When the server was last looked at.", seconds(facts.at))
    if server.writable is not None:
        yield one("mariadb_is_replica", "Whether the database really is a replica.", server.role == "replica")
        yield one("mariadb_writable", "Whether the server takes writes.", server.writable)
        yield one("mariadb_replicas_connected", "Replicas that are connected now.", len(server.replicas))
    asked = facts.requested.startswith("replica")
    yield one("mariadb_requested_replica", "Whether the parameters ask for a replica.", asked)
    if facts.service:
        ends = len(facts.service.ends)
        yield one("mariadb_service_ends", "Ends of mariadbd that its supervisor remembers (at most 20).", ends)


def _replication(facts: Facts) -> Iterator[Metric]:
    source = facts.source
    if source and source.lag is not None:
        yield one("mariadb_replication_lag_seconds", "Seconds behind the primary.", source.lag)
    if source and source.behind is not None:
        yield one(
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
    begun = GaugeMetricFamily("mariadb_backup_timestamp_seconds", "When the newest backup was begun.", labels=["kind"])
    size = GaugeMetricFamily("mariadb_backup_size_bytes", "The newest backup's size.", labels=["kind"])
    for backup in facts.backups:
        if backup.at:
            begun.add_metric([backup.kind], seconds(backup.at))
            size.add_metric([backup.kind], backup.size)
    yield begun
    yield size
    ends = GaugeMetricFamily("mariadb_certificate_end_timestamp_seconds", "When it expires.", labels=["file"])
    for certificate in facts.certificates:
        if certificate.until:
            ends.add_metric([certificate.name], seconds(certificate.until))
    yield ends
