# SPDX-License-Identifier: GPL-2.0-or-later
"""When a job is to run: cron expressions of five fields in UTC, and the words daily and hourly; pure functions."""

import re
from datetime import datetime

from croniter import croniter

from slapos.recipe.erp5.errors import ConfigurationError

WORDS = {"daily": "0 0 * * *", "hourly": "0 * * * *"}

# croniter's R is a new random number at each call, and its H wants a key: neither is a time that anybody can expect.
_RANDOM = re.compile(r"(?<![a-z])[rh](?![a-z])", re.IGNORECASE)
# Any will do: it only makes croniter look for a moment that exists, which 30 February is not.
_PROBE = datetime(2026, 1, 1)
FIRST_RETRY = 10.0
LAST_RETRY = 3600.0


def check(text: str, parameter: str) -> None:
    """Raise ConfigurationError, naming `parameter`.periodicity and the remedy, when `text` means no moment."""
    try:
        expression = _expression(text)
        if len(expression.split()) != 5 or _RANDOM.search(expression):
            raise ValueError(text)
        croniter(expression, _PROBE).get_next(datetime)
    except (ValueError, KeyError, TypeError) as error:  # croniter's own errors are ValueErrors
        raise ConfigurationError(
            f"{parameter}.periodicity is {text!r}, which is neither daily nor hourly nor a cron expression of five "
            "fields with a date that exists: give one such as '30 2 * * *' (at 02:30 UTC every day)"
        ) from error


def following(text: str, moment: datetime) -> datetime:
    """The first regular moment after `moment` (aware)."""
    return croniter(_expression(text), moment).get_next(datetime)


def previous(text: str, moment: datetime) -> datetime:
    """The last regular moment before `moment` (aware)."""
    return croniter(_expression(text), moment).get_prev(datetime)


def is_due(text: str, last: datetime | None, now: datetime) -> bool:
    """Whether a regular moment has passed since the run that began at `last`; None (never) is due at once."""
    return last is None or previous(text, now) > last


def retry_delay(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 10, 20, 40, and so on up to an hour."""
    return min(FIRST_RETRY * 2 ** min(max(failures, 1) - 1, 20), LAST_RETRY)


def _expression(text: str) -> str:
    return WORDS.get(text, text)
