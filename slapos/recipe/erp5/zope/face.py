# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control page shows of a partition's Zopes, in words; pure functions of its facts."""

from collections.abc import Iterator

from slapos.recipe.erp5.control.face import Face, Row, moment
from slapos.recipe.erp5.zope.facts import Facts, Zope
from slapos.recipe.erp5.zope.standby_decide import ALL, HELD, SERVING


def of(facts: Facts) -> Face:
    """All of it."""
    return Face(
        role=_role(facts),
        aside=_aside(facts),
        usual=_usual(facts),
        details=tuple(_details(facts)),
        care_title="Promises, Zopes",
        care=tuple(Row(zope.name, _zope(zope)) for zope in facts.zopes),
    )


def _role(facts: Facts) -> str:
    """The state that all are in, or how many serve."""
    if not facts.supervised:
        return "Not known yet" if not facts.at else "No standby supervisor"
    states = {zope.state for zope in facts.zopes}
    if len(states) == 1:
        return states.pop().capitalize()
    serving = sum(zope.state == SERVING for zope in facts.zopes)
    return f"{serving} of {len(facts.zopes)} serving"


def _aside(facts: Facts) -> str:
    if facts.database is None:
        return ""
    return f"{facts.database.name} is {facts.database.state}" if facts.database.state else "its database is silent"


def _usual(facts: Facts) -> tuple[str, ...]:
    """What the states call for: the others are further down."""
    if not facts.supervised:
        return ()
    return ("release",) if any(zope.state == HELD for zope in facts.zopes) else ("hold", "restart")


def _details(facts: Facts) -> Iterator[Row]:
    if facts.database:
        yield Row("Database", facts.database.name)
        yield Row("Its state", f"{facts.database.state or 'not known'} since {moment(facts.database.since)}")
        if facts.database.detail and not facts.database.state:
            yield Row("Why", facts.database.detail)
    if facts.held:
        yield Row("Held back", "all" if ALL in facts.held else ", ".join(facts.held))
    for zope in facts.zopes:
        yield Row(f"Address of {zope.name}", zope.address, code=True)


def _zope(zope: Zope) -> str:
    if not zope.state:
        return "not known"
    ended = f"; it last {zope.ends[-1].how} at {moment(zope.ends[-1].at)}" if zope.ends else ""
    return f"{zope.state} since {moment(zope.since)}: {zope.reason}{ended}"
