# SPDX-License-Identifier: GPL-2.0-or-later
"""The rate limit: a bucket without a clock, and what it makes of a stream."""

import pytest

from slapos.recipe.erp5.mariadb import rate
from slapos.recipe.erp5.mariadb.rate import Bucket


def test_the_first_bytes_wait_for_their_own_time():
    assert Bucket(100, 0.0).take(50, 0.0) == 0.5


def test_bytes_on_time_do_not_wait():
    bucket = Bucket(100, 0.0)
    assert [bucket.take(50, now) for now in (0.5, 1.0, 1.5)] == [0, 0, 0]


def test_a_pause_saves_up_one_second_at_most():
    bucket = Bucket(100, 0.0)
    assert bucket.take(100, 3600.0) == 0
    assert bucket.take(100, 3600.0) == 1.0


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_over_time_it_is_the_rate(size):
    bucket, now, passed = Bucket(100, 0.0), 0.0, 0
    while now < 1000:
        now += bucket.take(size, now)
        passed += size
    assert passed / now == pytest.approx(100, rel=0.01)


def test_a_limiter_waits(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(rate.time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(rate.time, "sleep", slept.append)
    hold = rate.limiter(1000)
    for _ in range(10):
        hold(500)
    assert sum(slept) == pytest.approx(5)


def test_no_limit_never_waits(monkeypatch):
    monkeypatch.setattr(rate.time, "sleep", None)
    rate.limiter(0)(1 << 40)
