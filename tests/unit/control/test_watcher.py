# SPDX-License-Identifier: GPL-2.0-or-later
"""The watcher looks at one small file, and at more only when something was left open; failures make it wait longer."""

import functools
import importlib

import pytest

from slapos.recipe.erp5.control import action, watcher
from slapos.recipe.erp5.control.watcher import Watcher
from slapos.recipe.erp5.errors import Busy, ServerError
from slapos.recipe.erp5.mariadb import own_url, role_state
from slapos.recipe.erp5.mariadb import watch as real
from slapos.recipe.erp5.mariadb.role_state import Fence, HandOver, PendingFence
from tests.unit.mariadb import partition

OPEN = HandOver("1" * 32, "https://192.0.2.1:26000", "mysql://192.0.2.1:20000", "", "2026-11-25T00:00:00Z")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Watch:
    """Stands in for mariadb/watch.py: its steps, and what they raise."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception | None] = {"ask-new-primary": None}
        self.done: list[tuple[str, float]] = []
        self.clock = Clock()

    def look(self, config, now, attempt):
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
def watch(monkeypatch):
    made = Watch()
    monkeypatch.setattr(importlib, "import_module", lambda name: made)
    return made


@pytest.fixture
def config(tmp_path, monkeypatch):
    config = partition.config(tmp_path / "p")
    monkeypatch.setattr(watcher.configuration, "load", lambda path: config)
    return config


@pytest.fixture
def made(config, watch):
    role_state.change(config, hand_over=OPEN)
    return Watcher(config.path("etc", "mariadb.json"), watch.clock)


SILENT = "192.0.2.1:26000 does not answer"


def test_with_nothing_open_nothing_more_is_looked_at(made, config, watch):
    role_state.change(config, hand_over=None)
    made.look()
    assert watch.done == []


def test_failures_make_it_wait_longer_and_are_told_once(made, watch, capsys):
    name = "ask-new-primary"
    watch.errors[name] = ServerError(SILENT)
    assert watch.moments(name, made, 240) == [0, 10, 30, 70, 130, 190]
    assert capsys.readouterr().err.count(f"error: {SILENT}; it is tried again, every 60 s at last\n") == 1
    watch.errors[name] = None
    watch.clock.now += 60
    assert watch.moments(name, made, 6) == [0, 2, 4]
    watch.errors[name] = ServerError(SILENT)
    assert watch.moments(name, made, 14) == [0, 10]
    assert capsys.readouterr().err.count(SILENT) == 1


def test_no_failure_keeps_another_step_from_its_turn_and_a_pending_fence_is_tried_steadily(made, watch, capsys):
    watch.errors = {"complete-promotion": ServerError("no server"), real.FENCE_OLD_PRIMARY: OSError(SILENT)}
    assert watch.moments("complete-promotion", made, 60) == [0, 10, 30]
    watch.clock.now += 1000
    assert watch.moments(real.FENCE_OLD_PRIMARY, made, 60) == [0, 10, 20, 30, 40, 50]
    logged = capsys.readouterr().err
    assert logged.count("error: no server; it is tried again, every 60 s at last\n") == 1
    assert logged.count("error: ") == 2
    assert logged.count(f"{SILENT}; it is tried again, every 10 s at last\n") == 1
    watch.errors["complete-promotion"] = None
    watch.clock.now += 60
    assert watch.moments("complete-promotion", made, 6) == [0, 2, 4]


def test_who_is_busy_is_asked_again_soon(made, watch, capsys):
    watch.errors["ask-new-primary"] = Busy("switchover runs")
    assert watch.moments("ask-new-primary", made, 6) == [0, 2, 4]
    assert capsys.readouterr().err == ""


def test_what_is_open_no_longer_is_forgotten(made, config, watch, capsys):
    watch.errors["ask-new-primary"] = ServerError(SILENT)
    made.look()
    role_state.change(config, hand_over=None)
    made.look()
    role_state.change(config, hand_over=OPEN)
    made.look()
    assert len(watch.done) == 2
    assert capsys.readouterr().err.count(SILENT) == 2


def test_a_configuration_that_cannot_be_read_ends_nothing(tmp_path, capsys):
    made = Watcher(tmp_path / "none")
    made.look()
    made.look()
    assert capsys.readouterr().err.count("none cannot be read as JSON") == 1


def test_it_ends_when_it_is_told_to(config, watch):
    made = Watcher(config.path("etc", "mariadb.json"))
    made.start()
    made.stop()
    made._thread.join(30)
    assert not made._thread.is_alive()


# ---- the steps


class Primary:
    """Stands in for the old primary's Peer."""

    def __init__(self, monkeypatch) -> None:
        self.calls: list[tuple] = []
        monkeypatch.setattr(real, "Peer", lambda url: self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def call(self, *arguments):
        self.calls.append(arguments)


PENDING = PendingFence("192.0.2.2:20000", "https://192.0.2.2:26000/#token", "2026-11-25T00:00:00Z")
FENCED = Fence("somebody", "it is to be so", "2026-11-25T00:00:00Z")


@pytest.fixture
def primary(config, monkeypatch):
    role_state.change(config, fence_pending=PENDING)
    return Primary(monkeypatch)


def test_a_new_primary_fences_the_old_one_once(config, primary):
    for _ in range(2):
        real.fence_old_primary(config)
    reason = f"its replica {config.instance} took over at 2026-11-25T00:00:00Z"
    asked = {"address": "192.0.2.2:20000", "by": "its replica", "reason": reason}
    asked["new-primary"] = own_url.primary(config)
    assert primary.calls == [("fence", asked, real.TIMEOUT)]
    assert role_state.load(config).fence_pending is None


def test_who_is_fenced_itself_fences_nobody_until_it_is_resumed(config, primary):
    role_state.change(config, fenced=FENCED)
    real.fence_old_primary(config)
    assert (primary.calls, role_state.load(config).fence_pending) == ([], PENDING)
    role_state.change(config, fenced=None)
    real.fence_old_primary(config)
    assert len(primary.calls) == 1


def test_a_replica_has_nobody_to_fence(config, primary):
    (config.data_directory / "master.info").touch()
    with action.place(config, "rejoin"), pytest.raises(Busy):
        real.fence_old_primary(config)
    assert role_state.load(config).fence_pending == PENDING
    real.fence_old_primary(config)
    assert (primary.calls, role_state.load(config).fence_pending) == ([], None)


def test_each_step_has_its_turn_whatever_the_others_do(config, primary, monkeypatch):
    def fails(config):
        raise ServerError("no server")

    monkeypatch.setattr(real, "complete_promotion", fails)
    monkeypatch.setattr(real, "enforce_fence", fails)
    Watcher(config.path("etc", "mariadb.json")).look()
    assert len(primary.calls) == 1
    assert {real.FENCE_OLD_PRIMARY} == watcher.STEADY
