# SPDX-License-Identifier: GPL-2.0-or-later
"""What role changes leave on the disk: state, journal, and the action that runs."""

import os
import stat
import subprocess
import sys

import pytest

from slapos.recipe.erp5.control import action, journal
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.errors import Busy, ConfigurationError, Refused, ServerError
from slapos.recipe.erp5.mariadb import role_state
from slapos.recipe.erp5.mariadb.config import Config, Replication
from slapos.recipe.erp5.mariadb.role_state import Fence, PendingFence, Promotion, RoleState, Upstream
from tests.unit.mariadb.partition import config as make_config

FENCE = Fence("page", "why", "2026-11-22T12:00:00Z")
REPLICATION = Replication("mysql://u:p@127.0.0.1:1", "", "", 0, True, True, "https://[::1]:2/#parameter")


@pytest.fixture
def config(tmp_path) -> Config:
    return make_config(tmp_path)


def test_nothing_ever_changed(config):
    assert role_state.load(config) == RoleState()
    assert not config.path("srv", "role").exists()


def test_a_change_keeps_the_rest_and_is_nobody_elses(config):
    role_state.change(config, fenced=FENCE)
    promotion = Promotion("takeover", "a:1", "0-1-5", FENCE.at, pending=PendingFence("a:1", "https://x/#t", FENCE.at))
    role_state.change(config, promotion=promotion)
    assert role_state.load(config) == RoleState(fenced=FENCE, promotion=promotion)
    path = config.path("srv", "role", "state.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_cannot_be_read_is_not_taken_for_nothing(config):
    role_state.change(config, fenced=FENCE)
    config.path("srv", "role", "state.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"state\.json cannot be read as JSON"):
        role_state.load(config)


def test_secrets_are_not_in_what_is_printed():
    upstream = Upstream("mysql://u:secret@127.0.0.1:1", control_url="https://x/#secret")
    assert "secret" not in repr(upstream)


@pytest.mark.parametrize(
    ("state", "given", "expected"),
    [
        (RoleState(), "given", "given"),
        (RoleState(), "", "https://[::1]:2/#parameter"),
        (RoleState(upstream=Upstream("mysql://u:p@127.0.0.1:1", control_url="noted")), "", "noted"),
        (RoleState(upstream=Upstream("mysql://u:p@127.0.0.1:9")), "", ""),  # the parameter is about another primary
        (RoleState(upstream=Upstream(REPLICATION.primary_url)), "", "https://[::1]:2/#parameter"),
        (RoleState(authority_dropped=True), "", ""),
        (RoleState(authority_dropped=True), "given", "given"),
    ],
)
def test_whose_token_is_known(config, state, given, expected):
    import dataclasses

    config = dataclasses.replace(config, replication=REPLICATION)
    assert role_state.control_url(config, state, given) == expected


def test_a_primary_knows_no_token(config):
    assert role_state.control_url(config, RoleState()) == ""


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
        "import os, signal, sys, time; from slapos.recipe.erp5.control import action;"
        "from tests.unit.mariadb.partition import config; from pathlib import Path;"
        "act = action.running(config(Path(sys.argv[1])), 'takeover', 'page'); act.__enter__();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = config.path("other")
    folder.mkdir()
    killed = subprocess.run([sys.executable, "-c", program, folder], check=False)
    assert killed.returncode == -9
    import dataclasses

    other = dataclasses.replace(config, partition=str(folder))
    assert other.path("var", "run", "action.json").exists()
    assert action.current(other) is None
