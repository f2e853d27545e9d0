# SPDX-License-Identifier: GPL-2.0-or-later
"""The watcher looks at one small file, and at more only when something was left open; failures make it wait longer."""

import importlib

import pytest

from slapos.recipe.erp5.control import watcher
from slapos.recipe.erp5.control.watcher import Watcher
from slapos.recipe.erp5.errors import Busy, ServerError
from slapos.recipe.erp5.mariadb import role_state
from slapos.recipe.erp5.mariadb.role_state import HandOver
from tests.unit.mariadb import partition

OPEN = HandOver("1" * 32, "https://192.0.2.1:26000", "mysql://192.0.2.1:20000", "", "2026-11-25T00:00:00Z")


class Watch:
    """Stands in for mariadb/watch.py."""

    def __init__(self) -> None:
        self.looks, self.error = 0, None

    def look(self, config, now):
        self.looks += 1
        if self.error:
            raise self.error


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


def test_with_nothing_open_nothing_more_is_looked_at(config, watch):
    assert Watcher(config.path("etc", "mariadb.json")).look() == watcher.PERIOD
    assert watch.looks == 0


def test_failures_make_it_wait_longer_and_are_told_once(config, watch, capsys):
    role_state.change(config, hand_over=OPEN)
    made = Watcher(config.path("etc", "mariadb.json"))
    watch.error = ServerError("192.0.2.1:26000 does not answer")
    assert [made.look() for _ in range(5)] == [10, 20, 40, 60, 60]
    assert capsys.readouterr().err.count("error: 192.0.2.1:26000 does not answer; it is tried again") == 1
    watch.error = None
    assert made.look() == watcher.PERIOD
    watch.error = ServerError("192.0.2.1:26000 does not answer")
    assert made.look() == watcher.PAUSE


def test_who_is_busy_is_asked_again_soon(config, watch, capsys):
    role_state.change(config, hand_over=OPEN)
    watch.error = Busy("switchover runs")
    assert Watcher(config.path("etc", "mariadb.json")).look() == watcher.PERIOD
    assert capsys.readouterr().err == ""


def test_a_configuration_that_cannot_be_read_ends_nothing(tmp_path, capsys):
    assert Watcher(tmp_path / "none").look() == watcher.PAUSE
    assert "none cannot be read as JSON" in capsys.readouterr().err


def test_it_ends_when_it_is_told_to(config, watch):
    made = Watcher(config.path("etc", "mariadb.json"))
    made.start()
    made.stop()
    made._thread.join(30)
    assert not made._thread.is_alive()
