# SPDX-License-Identifier: GPL-2.0-or-later
"""Challenges: once, five minutes, our own, and none pushes out another."""

from datetime import timedelta

import pytest

from slapos.recipe.erp5.tls.challenges import LIFETIME, Challenges
from tests.unit.tls.made import NOW


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def challenges(clock):
    return Challenges(clock)


def test_once(challenges):
    made = challenges.make()
    assert len(made) == 64
    assert challenges.is_open(made)
    assert challenges.use(made)
    assert not challenges.is_open(made)
    assert not challenges.use(made)
    assert not challenges.use(made.upper())


def test_five_minutes(challenges, clock):
    made = challenges.make()
    clock.advance(LIFETIME - 1)
    assert challenges.is_open(made)
    clock.advance(1)
    assert not challenges.use(made)


def test_a_clock_that_goes_back(challenges, clock):
    made = challenges.make()
    clock.advance(-3600)
    assert not challenges.is_open(made)


@pytest.mark.parametrize("position", [0, 15, 16, 31])
def test_ours_alone(challenges, clock, position):
    made = challenges.make()
    changed = bytearray(bytes.fromhex(made))
    changed[position] ^= 1
    assert not challenges.use(changed.hex())
    assert not Challenges(clock).use(made)
    assert challenges.use(made)


@pytest.mark.parametrize("text", ["", "00", "0" * 64, "x" * 64, "é" * 64])
def test_what_is_none(challenges, text):
    assert not challenges.use(text)


def test_asking_for_many_pushes_out_none_and_keeps_nothing(challenges, clock):
    made = challenges.make()
    assert len({challenges.make() for _ in range(3000)}) == 3000
    assert challenges._used == {}
    assert challenges.use(made)
    clock.advance(LIFETIME + 1)
    assert challenges.use(challenges.make())
    assert len(challenges._used) == 1
