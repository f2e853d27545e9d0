# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what there is to say of a supervised service: pure functions, in sentences for a promise."""

from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.supervisor import STOPPED, WAITING, Ended, Service, Supervised

RECENT = timedelta(minutes=15)
"""How long an end that nobody asked for stays a problem after the service runs again."""


def problem(service: Service, supervised: Supervised | None, now: datetime) -> str:
    """What is wrong, or was a moment ago; empty when nothing is, or nothing is known as no supervisor runs."""
    if supervised is None:
        return ""
    if supervised.state == STOPPED:
        return (
            f"the service {service.name} was stopped at {supervised.since} by a request to its supervisor, expected it"
            f" to run: wait for the program that asked, or write start into {service.fifo}"
        )
    if supervised.state == WAITING and supervised.ends:
        return waits_after(f"the service {service.name}", supervised.ends, supervised.next_start, now)
    return ended_lately(f"the service {service.name}", supervised.ends, now)


def waits_after(name: str, ends: tuple[Ended, ...], next_start: str, now: datetime) -> str:
    """Of what has ended, and waits for its next start."""
    return (
        f"{name} {_last(ends)}, expected it to run: read its logs and remove the cause; it starts again by itself at"
        f" {next_start} ({_lately(ends, now)})"
    )


def ended_lately(name: str, ends: tuple[Ended, ...], now: datetime) -> str:
    """Of what runs again after an end that nobody asked for; empty when that was long ago."""
    if not ends or now - times.parse(ends[-1].at) >= RECENT:
        return ""
    return (
        f"{name} {_last(ends)}, and was started again ({_lately(ends, now)}), expected no end that nobody asked for:"
        " read its logs for the cause; this is said for 15 min"
    )


def note(supervised: Supervised | None) -> str:
    """What is added to the sentence of a service that is well: that it was not always."""
    if supervised is None or not supervised.ends:
        return ""
    count = len(supervised.ends)
    return f"; it {_last(supervised.ends)}, and was started again ({_times(count)} since {supervised.ends[0].at})"


def _lately(ends: tuple[Ended, ...], now: datetime) -> str:
    count = sum(now - times.parse(end.at) < RECENT for end in ends)
    return f"{_times(count)} in the last 15 min"


def _last(ends: tuple[Ended, ...]) -> str:
    last = ends[-1]
    return f"{last.how} at {last.at}, which nobody had asked for, after {last.ran:g} s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
