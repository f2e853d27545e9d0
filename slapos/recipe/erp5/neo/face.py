# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control page shows of a NEO cluster, in words; pure functions of its facts."""

from collections.abc import Iterator

from slapos.recipe.erp5.control import plot
from slapos.recipe.erp5.control.face import Face, Figures, Row
from slapos.recipe.erp5.neo import preflight
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.facts import Facts

USUAL = {
    "backup": ("takeover", "detach"),
    "primary": ("fence", "rejoin"),
    "fenced": ("resume", "rejoin"),
}
"""The actions that a role calls for; the others are further down."""
ROLES = {"primary": "Primary", "fenced": "Fenced primary", "unknown": "No answer from the cluster"}


def of(facts: Facts) -> Face:
    """All of it."""
    return Face(
        role=f"Backup of {facts.upstream}" if facts.role == "backup" else ROLES[facts.role],
        aside=_aside(facts),
        figures=_figures(facts) if facts.role == "backup" else None,
        usual=USUAL.get(facts.role, ()),
        details=tuple(_details(facts)),
        care_title="Promises, nodes",
        care=tuple(_nodes(facts)),
    )


def _aside(facts: Facts) -> str:
    if facts.role == "fenced":
        return "its masters are stopped" if not facts.state else f"and yet {facts.state}"
    takes = {"RUNNING": "takes writes", "BACKINGUP": "follows", "STARTING_BACKUP": "its upstream does not answer"}
    return takes.get(facts.state, "serves nobody" if facts.state else "")


def _figures(facts: Facts) -> Figures:
    lag = "not known" if facts.lag is None else plot.duration(facts.lag)
    first = "under way" if facts.first_copy else "complete"
    return Figures("Replication", (Row("Lag", lag), Row("First copy", first)), plot.plot(facts.samples, facts.now))


def _details(facts: Facts) -> Iterator[Row]:
    yield Row("Role asked for", facts.requested)
    yield Row("State", facts.state or f"not known: {facts.reason}")
    yield Row("Cluster", facts.cluster, code=True)
    if facts.upstream:
        yield Row("Follows", f"{facts.upstream} at {facts.upstream_masters}", code=True)
    if facts.backup_tid:
        yield Row("Has all up to", _tid(facts.backup_tid), code=True)
    if facts.last_tid:
        name = "Last transaction of the upstream" if facts.role == "backup" else "Last transaction"
        yield Row(name, _tid(facts.last_tid), code=True)
    if facts.partitions:
        yield Row("Partitions", f"{facts.partitions}, with {facts.replicas} replicas")
        yield Row("Cells out of date", str(facts.cells_out_of_date))


def _tid(text: str) -> str:
    number = tids.parse(text)
    return preflight.moment(number) if number else "nothing yet"


def _nodes(facts: Facts) -> Iterator[Row]:
    for node in facts.nodes:
        yield Row(f"{node.type.capitalize()} {node.uuid}".strip(), f"{node.state} at {node.address}")
