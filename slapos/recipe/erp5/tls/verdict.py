# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether the partition's certificates are good, long before somebody is refused; pure functions."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.tls.certificates import ALARM_UNDER, RENEW_UNDER
from slapos.recipe.erp5.tls.status import Item, Shown, Status
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.words import duration

FIRST = timedelta(minutes=15)
"""How long a placeholder may stay: the authority starts with the partition, and is asked every few minutes."""
FAILING = timedelta(hours=1)
"""How long the renewal may fail before it is reported: authorities are restarted now and then."""
LOADING = timedelta(minutes=2)
"""How long after a file's change the servers may show the old one."""


def certificates(status: Status, now: datetime) -> Verdict:
    """Whether every certificate and revocation list is good for a while, and what servers show is what lies on disk."""
    return judge(_problems(status, now), _summary(status))


def _problems(status: Status, now: datetime) -> Iterator[str]:
    for item in status.certificates:
        yield from _certificate_problems(status, item, now)
    for item in status.lists:
        yield from _list_problems(status, item)
    yield from _renewal_problems(status, now)
    for shown in status.shown:
        yield from _shown_problems(status, shown, now)
    yield from _request_problems(status)


def _certificate_problems(status: Status, item: Item, now: datetime) -> Iterator[str]:
    if item.waiting:
        yield _waiting(status, item)
    elif item.error:
        yield (
            f"{item.name} cannot be used ({item.error}), expected a key with its certificate, which the renewal puts "
            f"there{_said(status)}: {_log(status)}"
        )
    elif item.placeholder and item.written and now - item.written > FIRST:
        yield (
            f"{item.name} is still a placeholder after {duration(now - item.written)}, expected a certificate of "
            f"{item.authority}{_said(status)}: read the logs of the services {status.terms.authority} and "
            f"{status.terms.control}"
        )
    elif not item.placeholder and item.left < ALARM_UNDER:
        yield (
            f"{item.name} {_ends(item)}, expected it to be renewed under {RENEW_UNDER:.0%}{_said(status)}: "
            f"{_log(status)}"
        )


def _waiting(status: Status, item: Item) -> str:
    if item.name.startswith("upstream/"):
        remedy = f"{status.terms.by_hand}, or have it signed there"
    else:
        remedy = f"have it signed there (its number is in the log of the service {status.terms.control}{_said(status)})"
    return (
        f"the request for {item.name} waits at {item.authority} for somebody's approval, expected a certificate: "
        f"{remedy}; then it goes on by itself"
    )


def _list_problems(status: Status, item: Item) -> Iterator[str]:
    if item.error:
        yield f"{item.name} cannot be used ({item.error}), expected a revocation list{_said(status)}: {_log(status)}"
    elif item.left < ALARM_UNDER:
        yield (
            f"the revocation list {item.name} {_ends(item)}, expected a newer one of its authority, as nobody is let "
            f"in by one that expired{_said(status)}: see that the authority runs and can be reached, and {_log(status)}"
        )


def _ends(item: Item) -> str:
    """When it ends, in words."""
    until = times.text(item.until) if item.until else "an unknown moment"
    return f"expired at {until}" if item.left <= 0 else f"expires at {until} ({item.left:.0%} of its life is left)"


def _renewal_problems(status: Status, now: datetime) -> Iterator[str]:
    job = status.job
    since = job.last_success or job.since
    if job.outcome == state.FAILED and since and now - times.parse(since) > FAILING:
        yield (
            f"the renewal of certificates has not succeeded for {duration(now - times.parse(since))}, expected a "
            f"success every few minutes: {job.message}"
        )


def _shown_problems(status: Status, shown: Shown, now: datetime) -> Iterator[str]:
    written = next((item.written for item in status.certificates if item.name == status.file), None)
    if shown.down or (written and now - written < LOADING):
        return
    if shown.error:
        yield f"{shown.who} shows no certificate ({shown.error}), expected the one in {status.file}: restart it"
    elif status.fingerprint and shown.fingerprint != status.fingerprint:
        yield (
            f"{shown.who} shows another certificate than the one in {status.file}, expected it to have read the new one"
            f"{_said(status)}: {_log(status)}, and restart it"
        )


def _request_problems(status: Status) -> Iterator[str]:
    if status.external_differs:
        yield (
            f"the certificate authority is {status.external or 'our own'}, expected another one, as "
            "caucased.external-caucased-url says, which takes effect at the database's creation alone, or all "
            f"{status.terms.asker}s would be shut out: give {status.external or 'none'} there"
        )
    for number in status.bad_requests:
        yield (
            f"caucased.csr-to-sign: entry {number} is no certificate request in PEM, expected what a "
            f"{status.terms.asker} publishes as caucased-csr-to-sign: correct it"
        )
    if status.requests and status.external:
        yield (
            f"caucased.csr-to-sign is given, and the authority {status.external} is used, where we cannot sign, "
            "expected one of both: have the requests signed there"
        )


def _log(status: Status) -> str:
    return f"read the log of the service {status.terms.control}"


def _said(status: Status) -> str:
    """The renewal's own words, when its last run failed."""
    return f" (the renewal says: {status.job.message})" if status.job.outcome == state.FAILED else ""


def _summary(status: Status) -> str:
    items = [*status.certificates, *status.lists]
    ends = ", ".join(f"{item.name} until {times.text(item.until)}" for item in items if item.until)
    if any(item.placeholder for item in status.certificates):
        return "the certificates are placeholders until the authority has answered, which takes some minutes at most"
    seen = " and ".join(shown.who for shown in status.shown if not shown.down)
    return f"certificates and revocation lists are valid: {ends}" + (f"; shown by {seen}" if seen else "")
