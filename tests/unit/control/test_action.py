# SPDX-License-Identifier: GPL-2.0-or-later
"""One action at a time, what it tells of itself, and the journal that keeps how it ended."""

import os
import subprocess
import sys

import pytest

from slapos.recipe.erp5.control import action, journal
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.errors import Busy, Refused, ServerError
from tests.unit.control.fake import service as fake


@pytest.fixture
def config(tmp_path) -> fake.Config:
    return fake.partition(tmp_path / "p")


# ---- journal


def entry(number: int) -> Entry:
    return Entry("2026-11-22T12:00:00Z", "takeover", "page", "done", f"sentence {number}", {"gtid": "0-1-5"})


def test_the_newest_entries_come_first(config):
    assert journal.last(config) == ()
    for number in range(5):
        journal.append(config, entry(number))
    assert journal.last(config, 2) == (entry(4), entry(3))


def test_a_cut_line_costs_that_line_alone(config):
    journal.append(config, entry(1))
    with config.path("srv", "role", "journal.jsonl").open("a") as file:
        file.write('{"at": "2026')
    journal.append(config, entry(2))
    assert journal.last(config) == (entry(2), entry(1))


# ---- the action that runs


def test_what_an_action_tells_while_it_runs_and_at_its_end(config, capsys):
    assert action.current(config) is None
    with action.running(config, "takeover", "page") as act:
        act.step("apply what was received", 3, 10)
        running = action.current(config)
        assert running
        assert (running.action, running.by, running.pid) == ("takeover", "page", os.getpid())
        assert (running.step, running.done, running.total) == ("apply what was received", 3, 10)
        act.step("apply what was received", 4, 10)
        act.sentence, act.details = "this is the primary", {"gtid": "0-1-5"}
    assert action.current(config) is None
    (last,) = journal.last(config)
    assert (last.action, last.by, last.outcome, last.sentence) == ("takeover", "page", "done", "this is the primary")
    assert last.details == {"gtid": "0-1-5"}
    assert capsys.readouterr().err.count("step: apply what was received") == 1


@pytest.mark.parametrize(
    ("error", "outcome", "sentence"),
    [
        (Refused("no"), "refused", "no"),
        (ServerError("it stopped"), "failed", "it stopped"),
        (SystemExit(143), "cancelled", "takeover was interrupted while it tried to drain: run it again"),
        (KeyError("secret"), "failed", "takeover was interrupted while it tried to drain: run it again"),
    ],
)
def test_how_it_ended_is_in_the_journal(config, error, outcome, sentence):
    with pytest.raises(type(error)), action.running(config, "takeover", "page") as act:
        act.step("drain")
        raise error
    (last,) = journal.last(config)
    assert (last.outcome, last.sentence) == (outcome, sentence)


def test_one_at_a_time(config):
    with (
        action.running(config, "takeover", "page"),
        pytest.raises(Busy, match=r"^takeover runs here since .*Z, expected none for detach: wait for its end$"),
        action.running(config, "detach", "program"),
    ):
        pass
    assert len(journal.last(config)) == 1


def test_a_killed_action_is_not_running(config):
    program = (
        "import os, signal, sys; sys.path[:] = sys.argv[2:]; from slapos.recipe.erp5.control import action;"
        "from tests.unit.control.fake.service import LAMP;"
        "act = action.running(LAMP.load(sys.argv[1]), 'takeover', 'page'); act.__enter__();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-P", "-c", program, fake.json_of(config), *sys.path], check=False)
    assert killed.returncode == -9
    assert config.path("var", "run", "action.json").exists()
    assert action.current(config) is None
