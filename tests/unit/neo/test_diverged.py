# SPDX-License-Identifier: GPL-2.0-or-later
"""Which transactions only one of two clusters has."""

import pytest

from slapos.recipe.erp5.neo import diverged


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(diverged, "HERE", 3)
    monkeypatch.setattr(diverged, "THERE", 4)
    monkeypatch.setattr(diverged, "SHOWN", 2)


def cluster(*tids):
    return lambda after, limit: sorted(tid for tid in tids if tid > after)[:limit]


@pytest.mark.parametrize(
    ("here", "there", "only_here", "count"),
    [
        ((), (), (), 0),
        (range(1, 20), range(1, 20), (), 0),
        (range(1, 20), range(1, 30), (), 0),
        (range(1, 20), range(1, 19), (19,), 1),
        ((1, 2, 3, 5, 9), (1, 2, 3, 4, 9), (5,), 1),  # equal last ones
        (range(1, 20, 2), range(2, 20, 2), (1, 3), 10),
        ((1, 2, 3), (), (1, 2), 3),
        ((), (1, 2, 3), (), 0),
    ],
)
def test_what_only_this_one_has(here, there, only_here, count):
    found = diverged.compare(cluster(*here), cluster(*there), 0)
    assert (found.only_here, found.count, found.compared) == (only_here, count, len(here))


def test_nothing_is_looked_at_before_the_last_common_one():
    assert diverged.compare(cluster(1, 2, 3, 7), cluster(2, 3, 7), 1).count == 0


def test_progress_is_told_once_a_page():
    told = []
    diverged.compare(cluster(*range(1, 8)), cluster(*range(1, 8)), 0, told.append)
    assert told == [3, 6]
