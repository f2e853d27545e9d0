# SPDX-License-Identifier: GPL-2.0-or-later
"""Tids and moments, compared with what persistent's TimeStamp gives for them."""

import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.neo import tid

KNOWN = [
    (0x0000000000000000, -2208988800.0),
    (0x0331620000000000, 946684800.0),
    (0x03D638C000000000, 1583020800.0),
    (0x0403BA0E8AE83E77, 1758843752.5563755),
    (0x040E137F00000000, 1798761540.0),
]
"""1900; 2000; a 1 March; a moment; the last minute of 2026."""


@pytest.mark.parametrize(("number", "moment"), KNOWN)
def test_the_moment_of_a_tid(number: int, moment: float):
    assert tid.to_time(number) == pytest.approx(moment, abs=1e-6)


@pytest.mark.parametrize(("number", "moment"), KNOWN)
def test_the_tid_of_a_moment(number: int, moment: float):
    # A float of today's seconds has a fifth of a microsecond; a minute has 2**32 tids.
    assert tid.from_time(moment) == pytest.approx(number, abs=50)


def test_moments_go_there_and_back_in_order():
    moments = [1_600_000_000 + number * 86_399.7 for number in range(2000)]
    found = [tid.from_time(moment) for moment in moments]
    assert found == sorted(found)
    for number, moment in zip(found, moments, strict=True):
        assert tid.to_time(number) == pytest.approx(moment, abs=1e-6)


def test_before_tids_begin():
    with pytest.raises(ValueError, match="is before 1900"):
        tid.from_time(-2208988801)


def test_text_goes_there_and_back():
    assert tid.text(0x0403BA0E8AE83E77) == "0x0403ba0e8ae83e77"
    assert tid.text(0) == "0x0000000000000000"
    assert tid.parse("0x0403ba0e8ae83e77") == tid.parse("0x403ba0e8ae83e77") == 0x0403BA0E8AE83E77


@pytest.mark.parametrize("value", ["", "0x", "12", "0xg", "-0x1", "0x-1", "0x8000000000000000", "x" * 100])
def test_what_is_no_tid_is_refused(value: str):
    with pytest.raises(ServerError, match="is no transaction id, expected one such as 0x"):
        tid.parse(value)
