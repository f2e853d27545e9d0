# SPDX-License-Identifier: GPL-2.0-or-later
"""A NEO cluster's facts as Prometheus reads them."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from slapos.recipe.erp5.control import metrics
from slapos.recipe.erp5.control.metrics import one, seconds
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.config import PROGRAMS
from slapos.recipe.erp5.neo.facts import Facts

STATES = ("RECOVERING", "VERIFYING", "RUNNING", "STARTING_BACKUP", "BACKINGUP", "STOPPING_BACKUP", "STOPPING")


def of(facts: Facts) -> Iterator[Metric]:
    """All of them."""
    yield from _cluster(facts)
    yield from _tids(facts)
    yield from metrics.promises(PROGRAMS, facts)
    yield from metrics.actions(PROGRAMS, facts)


def _cluster(facts: Facts) -> Iterator[Metric]:
    yield one("neo_up", "Whether a primary master answers.", bool(facts.state))
    if facts.at:
        yield one("neo_seen_timestamp_seconds", "When the cluster was last looked at.", seconds(facts.at))
    yield one("neo_fenced", "Whether its masters are to stay stopped.", facts.role == "fenced")
    asked = facts.requested.startswith("backup")
    yield one("neo_requested_backup", "Whether the parameters ask for a backup.", asked)
    if not facts.state:
        return
    states = GaugeMetricFamily("neo_state", "The cluster's state: 1 for the one that it is in.", labels=["state"])
    for state in STATES:
        states.add_metric([state], state == facts.state)
    yield states
    yield one("neo_is_backup", "Whether the cluster really is a backup.", facts.role == "backup")
    yield one("neo_cells_out_of_date", "Cells whose data is complete on other storages alone.", facts.cells_out_of_date)
    nodes = GaugeMetricFamily("neo_nodes", "Nodes by type and state.", labels=["type", "state"])
    for (kind, state), count in sorted(Counter((node.type, node.state) for node in facts.nodes).items()):
        nodes.add_metric([kind.lower(), state], count)
    yield nodes


def _tids(facts: Facts) -> Iterator[Metric]:
    if facts.lag is not None:
        yield one("neo_replication_lag_seconds", "Seconds behind the upstream.", facts.lag)
    if facts.role == "backup" and facts.state:
        yield one("neo_first_copy", "Whether the first copy of the upstream is under way.", facts.first_copy)
    moments = GaugeMetricFamily(
        "neo_transaction_timestamp_seconds", "When the last transaction was made, by what it is.", labels=["tid"]
    )
    for name, text in (("last", facts.last_tid), ("backup", facts.backup_tid)):
        if text and (number := tids.parse(text)):
            moments.add_metric([name], tids.to_time(number))
    yield moments
