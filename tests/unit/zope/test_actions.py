# SPDX-License-Identifier: GPL-2.0-or-later
"""Hold, release and restart of Zopes: what speaks for and against them, and what they ask of the standby supervisor."""

import dataclasses

import pytest

from slapos.recipe.erp5.control import actions, journal
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.zope import hold, peer_actions, release, restart, standby_state
from slapos.recipe.erp5.zope.actions import ACTIONS
from slapos.recipe.erp5.zope.standby_decide import HELD
from tests.unit.zope.standings import HOLDS, standing, zope
from tests.unit.zope.test_instance import CONFIG

SERVING = standing(zope(), zope("jobs-0"))
HELD_BACK = standing(zope(), zope("jobs-0", HELD, HOLDS), held=["jobs"])


@pytest.fixture
def config(tmp_path, monkeypatch):
    for name in ("srv", "var/run"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(standby_state, "status", lambda run: SERVING)
    return dataclasses.replace(CONFIG, partition=str(tmp_path))


@pytest.fixture
def asked(monkeypatch):
    """What the supervisor is asked for."""
    found: list[tuple[str, str]] = []
    for name in ACTIONS:
        monkeypatch.setattr(standby_state, name, lambda run, family, name=name: found.append((name, family)))
    return found


@pytest.mark.parametrize(
    ("module", "found", "family", "line"),
    [
        (hold, SERVING, "*", "warn: web-0, jobs-0 would answer 503 until released"),
        (hold, SERVING, "web", "warn: web-0 would answer 503 until released"),
        (hold, HELD_BACK, "jobs", "info: none of jobs serves now"),
        (release, SERVING, "*", "info: none of all is held back"),
        (release, HELD_BACK, "*", "info: jobs-0 would start now"),
        (
            release,
            dataclasses.replace(HELD_BACK, database=dataclasses.replace(HELD_BACK.database, state="BACKINGUP")),
            "jobs",
            "info: jobs-0 would wait: the NEO cluster main is BACKINGUP, and they serve once it is RUNNING",
        ),
        (restart, SERVING, "web", "warn: web-0 would answer 503 until their new processes serve"),
        (restart, HELD_BACK, "jobs", "info: none of jobs has a process now"),
    ],
)
def test_what_an_action_would_meet_with(module, found, family, line):
    assert [f"{one.level}: {one.sentence}" for one in module.decide(found, family)] == [line]


def test_a_dry_run_refuses_what_cannot_be_done(config, monkeypatch):
    for name in ACTIONS:
        assert not ACTIONS[name].check(config, {}).refused
        found = ACTIONS[name].check(config, {"family": "x"})
        assert found.sentences("refuse") == ("there is no family x in this partition, expected one of web",)
    monkeypatch.setattr(standby_state, "status", lambda run: None)
    assert ACTIONS["hold"].check(config, {}).sentences("refuse")[0].startswith("no standby supervisor listens on ")


@pytest.mark.parametrize(
    ("name", "family", "sentence"),
    [
        ("hold", "", "all: held back"),
        ("hold", "web", "web: held back"),
        ("release", "web", "web: released"),
        ("restart", "", "all: ended, to start again"),
    ],
)
def test_what_is_done_is_asked_of_the_supervisor_and_noted(config, asked, name, family, sentence):
    assert actions.perform(config, ACTIONS[name], "program", {"family": family}) == sentence
    assert asked == [(name, family or "*")]
    (entry,) = journal.last(config, 10)
    assert (entry.action, entry.outcome, entry.sentence) == (name, "done", sentence)


def test_other_instances_may_ask_for_the_same(config, asked):
    assert peer_actions.do(config, "hold", {"family": "web"}) == {"sentence": "web: held back"}
    assert asked == [("hold", "web")]
    assert peer_actions.do(config, "status", {}) == {
        "database": "RUNNING",
        "zopes": {"web-0": "serving", "jobs-0": "serving"},
    }
    with pytest.raises(Refused, match="there is no family x in this partition"):
        peer_actions.do(config, "hold", {"family": "x"})
