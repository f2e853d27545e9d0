# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler's state file."""

import json

import pytest

from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.errors import Error

STATE = State("2026-11-22T22:30:00Z", "a problem", (Job("a"), Job("b", "2026-11-22T22:00:00Z", outcome=state.RUNNING)))


def test_no_file_is_a_scheduler_that_never_ran(tmp_path):
    assert state.load(tmp_path / "s") == State("", "", ())


def test_what_is_saved_is_loaded(tmp_path):
    state.save(tmp_path / "s", STATE)
    assert state.load(tmp_path / "s") == STATE
    assert json.loads((tmp_path / "s").read_text())["jobs"][1]["last-start"] == "2026-11-22T22:00:00Z"


def test_an_older_file_lacks_newer_fields(tmp_path):
    (tmp_path / "s").write_text('{"heartbeat": "2026-11-22T22:30:00Z", "jobs": [{"name": "a"}]}')
    assert state.load(tmp_path / "s").job("a") == Job("a")


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "Expecting value: line 1 column 1 (char 0)"), ('{"more": 1}', "{path} has unknown keys: more")],
)
def test_a_broken_file(tmp_path, content, reason):
    path = tmp_path / "s"
    path.write_text(content)
    with pytest.raises(Error) as caught:
        state.load(path)
    assert str(caught.value) == (
        f"{path} cannot be read as the scheduler's state: {reason.format(path=path)}: remove it, a new one follows"
    )


def test_jobs_by_name():
    assert STATE.job("b").outcome == "running"
    assert STATE.job("c") == Job("c")
    changed = STATE.with_job(Job("a", outcome=state.DONE)).with_job(Job("aa"))
    assert [job.name for job in changed.jobs] == ["a", "aa", "b"]
    assert changed.job("a").outcome == "done"
    assert changed.heartbeat == STATE.heartbeat
