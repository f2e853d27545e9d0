# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts of a partition's Zopes as Prometheus reads them."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from slapos.recipe.erp5.control import metrics
from slapos.recipe.erp5.control.metrics import one, seconds
from slapos.recipe.erp5.zope.config import PROGRAMS
from slapos.recipe.erp5.zope.facts import Facts
from slapos.recipe.erp5.zope.standby_decide import FAILING, HELD, RUNNING, SERVING, STARTING, WAITING

STATES = (WAITING, STARTING, SERVING, HELD, FAILING)


def of(facts: Facts) -> Iterator[Metric]:
    """All of them."""
    yield one("zope_supervised", "Whether the standby supervisor runs.", facts.supervised)
    if facts.at:
        yield one("zope_seen_timestamp_seconds", "When the Zopes were last looked at.", seconds(facts.at))
    if facts.database:
        yield one("zope_database_running", "Whether the database serves.", facts.database.state == RUNNING)
        yield from _zopes(facts)
    yield from metrics.promises(PROGRAMS, facts)
    yield from metrics.actions(PROGRAMS, facts)


def _zopes(facts: Facts) -> Iterator[Metric]:
    states = GaugeMetricFamily("zope_state", "1 for the state that it is in.", labels=["zope", "family", "state"])
    ends = GaugeMetricFamily(
        "zope_ends", "Ends that nobody asked for, as far as they are kept (20).", labels=["zope", "family"]
    )
    for zope in facts.zopes:
        for state in STATES:
            states.add_metric([zope.name, zope.family, state], state == zope.state)
        ends.add_metric([zope.name, zope.family], len(zope.ends))
    yield states
    yield ends
