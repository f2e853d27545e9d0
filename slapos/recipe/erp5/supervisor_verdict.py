# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what there is to say of a supervised service: pure functions, in sentences for a promise."""

from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.supervisor import STOPPED, WAITING, Service, Supervised

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
    recent = [end for end in supervised.ends if now - times.parse(end.at) < RECENT]
    if supervised.state == WAITING and supervised.ends:
        return (
            f"the service {service.name} {_last(supervised)}, expected it to run: read its logs and remove the cause;"
            f" it starts again by itself at {supervised.next_start} ({_times(len(recent))} in the last 15 min)"
        )
    if recent:
        return (
            f"the service {service.name} {_last(supervised)}, and was started again ({_times(len(recent))} in the last"
            " 15 min), expected no end that nobody asked for: read its logs for the cause; this is said for 15 min"
        )
    return ""


def note(supervised: Supervised | None) -> str:
    """What is added to the sentence of a service that is well: that it was not always."""
    if supervised is None or not supervised.ends:
        return ""
    count = len(supervised.ends)
    return f"; it {_last(supervised)}, and was started again ({_times(count)} since {supervised.ends[0].at})"


def _last(supervised: Supervised) -> str:
    last = supervised.ends[-1]
    return f"{last.how} at {last.at}, which nobody had asked for, after {last.ran:g} s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
