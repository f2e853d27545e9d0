# SPDX-License-Identifier: GPL-2.0-or-later
"""Transaction ids of ZODB as integers: minutes since 1900, all months having 31 days, and 2**-32 parts of a minute."""

import calendar
import math
import time

from slapos.recipe.erp5.errors import ServerError

LOWEST, HIGHEST = 0, (1 << 63) - 1
"""What NEO's storages accept; 0 is no transaction at all."""
_PER_MINUTE = 1 << 32


def to_time(tid: int) -> float:
    """When `tid` was given out, in seconds since 1970 (before that, and for 0, below zero).

    A float has 52 bits: that is exact to the microsecond, not to the tid.
    """
    minutes, part = divmod(tid, _PER_MINUTE)
    days, minute = divmod(minutes, 24 * 60)
    months, day = divmod(days, 31)
    year, month = divmod(months, 12)
    midnight = calendar.timegm((year + 1900, month + 1, day + 1, 0, 0, 0))
    return midnight + minute * 60 + part * 60 / _PER_MINUTE


def from_time(moment: float) -> int:
    """The first tid of `moment`, in seconds since 1970. Raises ValueError before 1900."""
    whole = math.floor(moment)
    year, month, day, hour, minute, second = time.gmtime(whole)[:6]
    if year < 1900:
        raise ValueError(f"{moment} is before 1900, where tids begin")
    minutes = ((((year - 1900) * 12 + month - 1) * 31 + day - 1) * 24 + hour) * 60 + minute
    part = int((second + moment - whole) * _PER_MINUTE / 60)
    return minutes * _PER_MINUTE + min(part, _PER_MINUTE - 1)


def text(tid: int) -> str:
    """As NEO's programs print and take it, such as 0x0403ba0e8ae83e77."""
    return f"0x{tid:016x}"


def parse(value: str) -> int:
    """The tid that text() wrote, or that neoctl printed. Raises ServerError for anything else."""
    try:
        tid = int(value, 16) if value.startswith("0x") else -1
    except ValueError:
        tid = -1
    if not LOWEST <= tid <= HIGHEST:
        raise ServerError(f"{value[:40]!r} is no transaction id, expected one such as 0x0403ba0e8ae83e77")
    return tid
