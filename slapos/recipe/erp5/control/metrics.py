# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts as Prometheus reads them; what is not known has no sample, so that an alarm on its absence can tell."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.facts import Facts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(metrics: Iterable[Metric]) -> bytes:
    """What GET /metrics answers."""
    registry = CollectorRegistry()
    registry.register(_Metrics(tuple(metrics)))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def promises(prefix: str, facts: Facts) -> Iterator[Metric]:
    """Whether each promise fails."""
    failing = GaugeMetricFamily(f"{prefix}_promise_failing", "Whether a promise fails.", labels=["promise"])
    for promise in facts.promises:
        failing.add_metric([promise.name], promise.failed)
    yield failing


def actions(prefix: str, facts: Facts) -> Iterator[Metric]:
    """Whether an action runs, and when each last ended how."""
    yield one(f"{prefix}_action_running", "Whether a role is being changed.", facts.running is not None)
    labels = ["action", "outcome"]
    last = GaugeMetricFamily(f"{prefix}_action_timestamp_seconds", "When it last ended so.", labels=labels)
    moments = {(entry.action, entry.outcome): seconds(entry.at) for entry in reversed(facts.actions)}
    for (name, outcome), moment in moments.items():
        last.add_metric([name, outcome], moment)
    yield last


def one(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    """A metric without labels."""
    return GaugeMetricFamily(name, help_text, value=float(value))


def seconds(moment: str) -> float:
    """A moment of our files as Prometheus has it."""
    return times.parse(moment).timestamp()
