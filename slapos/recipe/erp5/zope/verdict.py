# SPDX-License-Identifier: GPL-2.0-or-later
"""Says how the Zopes of a partition stand: pure functions, in sentences for promises and the page."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from slapos.recipe.erp5 import supervisor_verdict, times
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.listening import Answer
from slapos.recipe.erp5.zope.standby_decide import FAILING, HELD, RUNNING, SERVING, explain_state
from slapos.recipe.erp5.zope.standby_state import Database, Standing, Zope

TO_START = timedelta(minutes=3)
"""How long a Zope may take until it serves: an application's products are many."""
SILENCE = timedelta(minutes=1)
"""How long the database may be away before that is a problem here, too."""
WAITED_FOR = (RUNNING, "STARTING_BACKUP", "BACKINGUP", "STOPPING_BACKUP")
"""States in which the database is as it should be: it serves, or is a replica that can be taken over."""


def standby(
    config: Config, standing: Standing | None, now: datetime, answers: Iterable[Answer] = (), zeo: str = ""
) -> Verdict:
    """Whether all Zopes serve that could; else, what they wait for.

    `answers` are of those which their supervisor believes to serve, `zeo` is why a ZEO server does not answer: it knows
    of neither, as it does not look once a Zope has said that it serves.
    """
    if standing is None:
        return Verdict(False, (standby_state.nobody(config.run),))
    return judge(_problems(standing, now, answers, zeo), sentence(standing.zopes))


def _problems(standing: Standing, now: datetime, answers: Iterable[Answer], zeo: str) -> Iterator[str]:
    yield from away(standing, now)
    serving = ", ".join(zope.name for zope in standing.zopes if zope.state == SERVING)
    if zeo and serving:
        yield (
            f"{standing.database.name} does not answer ({zeo}), and {serving} can show what is in memory alone,"
            " expected it to serve: see the promise zeo of its partition, or look at the network between"
        )
    for answer in answers:
        if answer.error:
            yield (
                f"{answer.name} is serving, but does not answer at {answer.address}: {answer.error}, expected a page:"
                " look whether all its threads are busy; bin/zope-restart starts it anew"
            )
    for zope in standing.zopes:
        said = problem(zope, standing.database, now)
        if said:
            yield said


def away(standing: Standing, now: datetime) -> Iterator[str]:
    """The problem of a database that nobody knows to be there, when somebody waits for it."""
    database = standing.database
    waits = any(zope.state not in (HELD, SERVING) for zope in standing.zopes)
    if waits and database.state not in WAITED_FOR and now - times.parse(database.since) > SILENCE:
        why = f" ({database.detail})" if database.detail else ""
        now_is = explain_state(database.name, database.state)
        yield (
            f"{now_is} since {database.since}{why}, expected it to serve, or to be a replica: start it, or look at the"
            " network between"
        )


def problem(zope: Zope, database: Database, now: datetime) -> str:
    """What is wrong with a Zope; empty when nothing is."""
    if zope.state == FAILING and zope.ends:
        return supervisor_verdict.waits_after(zope.name, zope.ends, zope.next_start, now)
    since = max(zope.since, database.since)
    if database.state == RUNNING and zope.state not in (SERVING, HELD) and now - times.parse(since) > TO_START:
        return (
            f"{zope.name} is {zope.state} since {since} ({zope.reason}), expected it to serve as {database.name} is"
            f" {RUNNING}: read var/log/{zope.name}-event.log and the log of zope-standby"
        )
    return supervisor_verdict.ended_lately(zope.name, zope.ends, now)


def sentence(zopes: Iterable[Zope]) -> str:
    """How all stand: who is in the same state for the same reason is named together."""
    together: dict[tuple[str, str], list[str]] = {}
    for zope in zopes:
        together.setdefault((zope.state, zope.reason), []).append(zope.name)
    said = [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {state}: {reason}"
        for (state, reason), names in together.items()
    ]
    return "; ".join(said)


def listening(answers: Iterable[Answer]) -> Verdict:
    """Whether a Zope answers at each address."""
    known = tuple(answers)
    held = [answer.name for answer in known if answer.state == HELD]
    served = [answer.name for answer in known if not answer.state and not answer.error]
    said = [f"{', '.join(served)} answer{'s' if len(served) == 1 else ''}"] if served else []
    said += [f"{', '.join(held)} {'is' if len(held) == 1 else 'are'} held back"] if held else []
    return judge(_silent(known), "; ".join(said))


def _silent(answers: Iterable[Answer]) -> Iterator[str]:
    for answer in answers:
        if answer.error:
            yield (
                f"{answer.name} does not answer at {answer.address}: {answer.error}, expected a page: look whether all"
                " its threads are busy, and at the promise zope-standby"
            )
        elif answer.state not in ("", HELD):
            yield (
                f"{answer.name} answers 503 at {answer.address} as it is {answer.state}, expected a page: the promise"
                " zope-standby says why"
            )
