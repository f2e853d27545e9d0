# SPDX-License-Identifier: GPL-2.0-or-later
"""An hour of looks is kept, over restarts too, and whatever goes wrong with one ends nothing."""

import time
from datetime import timedelta

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import sampler
from slapos.recipe.erp5.control.sampler import Hour, Sample, Sampler
from slapos.recipe.erp5.errors import ServerError
from tests.unit.control.fake import service as fake
from tests.unit.control.fake.service import LAMP

NOW = times.parse("2026-11-25T03:00:00Z")
AT = times.text(NOW)


def test_an_hour_is_an_hour():
    ages = [timedelta(hours=1, seconds=1), timedelta(hours=1), timedelta(0), timedelta(seconds=-1)]
    kept = sampler.within_the_hour([Sample(times.text(NOW - age)) for age in ages], NOW)
    assert [one.at for one in kept] == ["2026-11-25T02:00:00Z", AT]


@pytest.fixture
def config(tmp_path):
    return fake.partition(tmp_path / "p")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_hour_outlives_the_process(config):
    path = fake.json_of(config)
    one = Sampler(LAMP, path, period=0.01, clock=lambda: NOW)
    one.start()
    wait_for(one.hour)
    one.stop()
    assert len(shapes.load(config.path("var", "run", "samples.json"), Hour).samples) == len(one.hour())
    two = Sampler(LAMP, path, period=60, clock=lambda: NOW)
    two.start()
    wait_for(lambda: len(two.hour()) > len(one.hour()))
    two.stop()


class Blind(fake.Lamp):
    """A service that cannot be looked at, and says each time the same."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def sight(self):
        service = self

        class Nothing(fake.Eye):
            def look(self, config, now):
                service.looks += 1
                raise ServerError("it is dark")

        return Nothing()


def test_a_failure_is_told_once_and_ends_nothing(config, capsys):
    service = Blind()
    one = Sampler(service, fake.json_of(config), period=0.001)
    one.start()
    wait_for(lambda: service.looks > 2)
    one.stop()
    assert one.look is None
    assert capsys.readouterr().err.count("error: nobody looks at the lamp now: it is dark") == 1


def test_a_look_is_had_at_once_when_it_is_asked_for(config):
    one = Sampler(LAMP, fake.json_of(config), period=60, clock=lambda: NOW)
    one.start()
    wait_for(one.hour)
    config.path("srv", "on").touch()
    one.wake()
    wait_for(lambda: one.hour()[-1] == Sample(AT, 3))
    one.stop()
