# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture of the lag: where its points are, where it has gaps, and what it says."""

from datetime import timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import plot
from slapos.recipe.erp5.control.sampler import Sample

NOW = times.parse("2026-11-25T03:00:00Z")


def samples(*lags: int | None, every: int = 5) -> list[Sample]:
    """Looks that end now."""
    ages = range((len(lags) - 1) * every, -1, -every)
    return [Sample(times.text(NOW - timedelta(seconds=age)), lag) for age, lag in zip(ages, lags, strict=True)]


def test_there_is_none_without_a_lag():
    assert plot.plot([], NOW) is None
    assert plot.plot(samples(None, None), NOW) is None


def test_a_line_ends_now_and_zero_is_at_the_bottom():
    found = plot.plot(samples(0, 60, every=30), NOW)
    assert found
    assert found.lines == ("714,118 720,2",)
    assert found.top == "60 s"
    assert found.sentence == "Lag over the last hour: at most 60 s, 60 s when last known."


def test_what_is_unknown_is_a_gap():
    found = plot.plot(samples(1, 1, None, 1), NOW)
    assert found and len(found.lines) == 2
    assert found.sentence == "Lag over the last hour: at most 1 s, 1 s when last known, and unknown in 1 of 4 looks."


def test_a_pause_is_a_gap_too():
    found = plot.plot(samples(1, 1, 1, every=31), NOW)
    assert found and len(found.lines) == 3
    assert all(len(line.split()) == 2 for line in found.lines), "a single point is to be seen"


@pytest.mark.parametrize(("highest", "top"), [(0, 1), (1, 1), (3, 5), (61, 120), (90000, 90000)])
def test_the_scale(highest, top):
    assert plot.scale(highest) == top
