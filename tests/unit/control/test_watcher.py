# SPDX-License-Identifier: GPL-2.0-or-later
"""The watcher looks at little, and at more only when something was left open; failures make it wait longer."""

import functools

import pytest

from slapos.recipe.erp5.control.watcher import Watcher
from slapos.recipe.erp5.errors import Busy, ServerError
from tests.unit.control.fake import service as fake

STEP, STEADY = "a step", "steady"
SILENT = "192.0.2.1:26000 does not answer"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Watch(fake.Lamp):
    """A service with something left open: its steps, and what they raise."""

    def __init__(self) -> None:
        super().__init__()
        self.open = True
        self.errors: dict[str, Exception | None] = {STEP: None}
        self.done: list[tuple[str, float]] = []
        self.clock = Clock()

    def watch(self, config, now, attempt):
        for name in self.errors:
            attempt(name, functools.partial(self.step, name))

    def step(self, name):
        self.done.append((name, self.clock.now))
        if error := self.errors[name]:
            raise error

    def moments(self, name, made, seconds):
        """When a step is tried within so many seconds."""
        begin = self.clock.now
        self.done.clear()
        for second in range(0, seconds, 2):
            self.clock.now = begin + second
            made.look()
        self.clock.now = begin + seconds
        return [moment - begin for step, moment in self.done if step == name]


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def made(tmp_path, watch):
    return Watcher(watch, fake.json_of(fake.partition(tmp_path / "p")), watch.clock)


def test_with_nothing_open_nothing_more_is_looked_at(made, watch):
    watch.open = False
    made.look()
    assert watch.done == []


def test_failures_make_it_wait_longer_and_are_told_once(made, watch, capsys):
    name = STEP
    watch.errors[name] = ServerError(SILENT)
    assert watch.moments(name, made, 240) == [0, 10, 30, 70, 130, 190]
    assert capsys.readouterr().err.count(f"error: {SILENT}; it is tried again, every 60 s at last\n") == 1
    watch.errors[name] = None
    watch.clock.now += 60
    assert watch.moments(name, made, 6) == [0, 2, 4]
    watch.errors[name] = ServerError(SILENT)
    assert watch.moments(name, made, 14) == [0, 10]
    assert capsys.readouterr().err.count(SILENT) == 1


def test_no_failure_keeps_another_step_from_its_turn_and_a_steady_one_is_tried_steadily(made, watch, capsys):
    watch.errors = {STEP: ServerError("no server"), STEADY: OSError(SILENT)}
    assert watch.moments(STEP, made, 60) == [0, 10, 30]
    watch.clock.now += 1000
    assert watch.moments(STEADY, made, 60) == [0, 10, 20, 30, 40, 50]
    logged = capsys.readouterr().err
    assert logged.count("error: no server; it is tried again, every 60 s at last\n") == 1
    assert logged.count("error: ") == 2
    assert logged.count(f"{SILENT}; it is tried again, every 10 s at last\n") == 1
    watch.errors[STEP] = None
    watch.clock.now += 60
    assert watch.moments(STEP, made, 6) == [0, 2, 4]


def test_who_is_busy_is_asked_again_soon(made, watch, capsys):
    watch.errors[STEP] = Busy("switchover runs")
    assert watch.moments(STEP, made, 6) == [0, 2, 4]
    assert capsys.readouterr().err == ""


def test_what_is_open_no_longer_is_forgotten(made, watch, capsys):
    watch.errors[STEP] = ServerError(SILENT)
    made.look()
    watch.open = False
    made.look()
    watch.open = True
    made.look()
    assert len(watch.done) == 2
    assert capsys.readouterr().err.count(SILENT) == 2


def test_a_configuration_that_cannot_be_read_ends_nothing(tmp_path, capsys):
    made = Watcher(Watch(), tmp_path / "none")
    made.look()
    made.look()
    assert capsys.readouterr().err.count("none cannot be read as JSON") == 1


def test_it_ends_when_it_is_told_to(made):
    made.start()
    made.stop()
    made._thread.join(30)
    assert not made._thread.is_alive()
