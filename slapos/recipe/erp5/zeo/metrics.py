# SPDX-License-Identifier: GPL-2.0-or-later
"""A ZEO server's facts as Prometheus reads them."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from slapos.recipe.erp5.control import metrics
from slapos.recipe.erp5.control.metrics import one, seconds
from slapos.recipe.erp5.zeo.config import PROGRAMS
from slapos.recipe.erp5.zeo.facts import Facts


def of(facts: Facts) -> Iterator[Metric]:
    """All of them."""
    if facts.answers is not None:
        yield one("zeo_up", "Whether the server answers.", facts.answers)
    if facts.at:
        yield one("zeo_seen_timestamp_seconds", "When the server was last looked at.", seconds(facts.at))
    sizes = GaugeMetricFamily("zeo_database_bytes", "Bytes of each database.", labels=["storage"])
    for storage in facts.storages:
        sizes.add_metric([storage.name], storage.size)
    yield sizes
    last = GaugeMetricFamily("zeo_backup_timestamp_seconds", "When the last good backup began.", labels=["storage"])
    taken = GaugeMetricFamily("zeo_backup_bytes", "Bytes that all backups take.", labels=["storage"])
    for backup in facts.backups:
        if backup.last:
            last.add_metric([backup.storage], seconds(backup.last))
        taken.add_metric([backup.storage], backup.size)
    yield last
    yield taken
    yield from metrics.promises(PROGRAMS, facts)
    yield from metrics.actions(PROGRAMS, facts)
