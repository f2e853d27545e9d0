# SPDX-License-Identifier: GPL-2.0-or-later
"""Moments as text: ISO 8601 in UTC with whole seconds, such as 2026-11-22T22:30:00Z, the one form in our files."""

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def now() -> datetime:
    """The current moment, in UTC."""
    return datetime.now(UTC)


def text(moment: datetime) -> str:
    """An aware moment as text, its fraction of a second cut off."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def parse(value: str) -> datetime:
    """The aware moment that `text()` wrote. Raises ValueError for any other form."""
    return datetime.strptime(value, _FORMAT).replace(tzinfo=UTC)
