# SPDX-License-Identifier: GPL-2.0-or-later
"""What the scheduler decides: what to start, how long to wait, what to note, without any process."""

import dataclasses
import os
import selectors
from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import main, scheduler, state
from slapos.recipe.erp5.control.scheduler import Plan, Scheduler
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.errors import ServerError
from tests.unit.control.fake import service as fake

NOW = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
TODAY = "2026-11-22T00:00:00Z"
YESTERDAY = "2026-11-21T00:00:00Z"
FUTURE = "2099-01-01T00:00:00Z"
DAILY = Plan("a", "daily", ("true",), at_once=True)
PATIENT = Plan("b", "daily", ("true",))


# ---- what to start


@pytest.mark.parametrize(
    ("plan", "job", "due"),
    [
        (DAILY, Job("a", since=TODAY), True),
        (DAILY, Job("a", last_success=TODAY), False),
        (DAILY, Job("a", last_success=YESTERDAY), True),
        (dataclasses.replace(DAILY, last_success=TODAY), Job("a", last_success=YESTERDAY), False),
        (dataclasses.replace(DAILY, last_success=FUTURE), Job("a"), True),  # a clock was wrong
        (DAILY, Job("a", last_success=FUTURE), True),
        (PATIENT, Job("b", last_success=FUTURE, since=YESTERDAY), True),
        (PATIENT, Job("b", since=FUTURE), True),
        (PATIENT, Job("b", since=TODAY), False),
        (PATIENT, Job("b", since=YESTERDAY), True),
        (DAILY, Job("a", outcome=state.FAILED, failures=3, retry="2026-11-22T22:30:01Z"), False),
        (DAILY, Job("a", outcome=state.FAILED, failures=3, retry="2026-11-22T22:30:00Z"), True),
        (DAILY, Job("a", outcome=state.FAILED, failures=9, retry="2026-11-22T23:30:00Z"), False),  # the longest pause
        (DAILY, Job("a", outcome=state.FAILED, failures=9, retry="2026-11-22T23:30:01Z"), True),
        (DAILY, Job("a", outcome=state.BUSY, retry=FUTURE), True),
        (DAILY, Job("a", last_success="yesterday", retry="soon", since="x"), True),  # nobody's words stop the jobs
    ],
)
def test_due(plan, job, due):
    assert scheduler.is_due(plan, job, NOW) is due
    assert scheduler.to_start((plan,), State(jobs=(job,)), {}, NOW) == ((plan,) if due else ())


def test_a_job_goes_after_another_one_only_when_both_are_due():
    first, second = DAILY, dataclasses.replace(DAILY, name="b", after="a")
    done = Job("a", last_success=TODAY)
    assert scheduler.to_start((first, second), State(), {}, NOW) == (first,)
    assert scheduler.to_start((first, second), State(), {"a"}, NOW) == ()
    assert scheduler.to_start((first, second), State(jobs=(done,)), {}, NOW) == (second,)
    failed = Job("a", outcome=state.FAILED, retry="2026-11-22T22:31:00Z")
    assert scheduler.to_start((first, second), State(jobs=(failed,)), {}, NOW) == (second,)


def test_a_job_never_runs_twice_at_once():
    assert scheduler.to_start((DAILY, PATIENT), State(), {"a"}, NOW) == (PATIENT,)


# ---- how long to wait

NEAR = NOW.replace(hour=23, minute=59, second=50)


@pytest.mark.parametrize(
    ("job", "running", "now", "seconds"),
    [
        (Job("a", last_success=TODAY), (), NOW, 30),
        (Job("a", last_success=TODAY), (), NEAR, 10),
        (Job("a", last_success=TODAY), ("a",), NEAR, 30),
        (Job("a", retry="2026-11-22T22:30:07Z"), (), NOW, 7),
        (Job("a", retry="2026-11-22T22:29:00Z", last_success=TODAY), (), NOW, 30),
        (Job("a", retry=FUTURE, last_success=TODAY), (), NEAR, 10),
    ],
)
def test_wait(job, running, now, seconds):
    assert scheduler.wait((DAILY,), State(jobs=(job,)), running, now) == seconds


# ---- what to note

BEGUN = scheduler.started(Job("a", last_success=YESTERDAY, failures=2, retry=YESTERDAY, message="no"), NOW)
LATER = NOW + timedelta(minutes=1)


def test_begun():
    assert Job("a", last_start="2026-11-22T22:30:00Z", last_success=YESTERDAY, failures=2, outcome="running") == BEGUN


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (0, "made", {"outcome": "done", "message": "made", "last_success": "2026-11-22T22:30:00Z", "failures": 0}),
        (75, "busy: x", {"outcome": "busy", "message": "busy: x", "retry": "2026-11-22T22:32:00Z"}),
        (1, "no disk", {"outcome": "failed", "message": "no disk", "failures": 3, "retry": "2026-11-22T22:31:40Z"}),
        (
            -9,
            "",
            {
                "outcome": "failed",
                "message": "ended with status -9, and said nothing",
                "failures": 3,
                "retry": "2026-11-22T22:31:40Z",
            },
        ),
    ],
)
def test_ended(code, message, expected):
    noted = scheduler.ended(DAILY, BEGUN, code, message, LATER)
    assert noted == dataclasses.replace(BEGUN, last_end="2026-11-22T22:31:00Z", **expected)


def test_no_pause_is_longer_than_the_plan_says():
    job = dataclasses.replace(BEGUN, failures=20)
    hasty = dataclasses.replace(DAILY, longest_pause=300)
    assert scheduler.ended(DAILY, job, 1, "", LATER).retry == times.text(LATER + timedelta(hours=1))
    noted = scheduler.ended(hasty, job, 1, "", LATER)
    assert noted.retry == times.text(LATER + timedelta(minutes=5))
    assert not scheduler.is_due(hasty, noted, LATER)
    # What an older release has noted is forgotten.
    assert scheduler.is_due(hasty, scheduler.ended(DAILY, job, 1, "", LATER), LATER)


def test_what_was_running_when_the_scheduler_died_is_tried_again_at_once(tmp_path):
    done = Job("b", outcome=state.DONE, since=TODAY)
    state.save(tmp_path / "s", State(TODAY, "old problem", (BEGUN, done)))
    with selectors.DefaultSelector() as selector:
        found = Scheduler(tmp_path / "s", selector).state
    assert found.problem == ""
    assert found.job("b") == done
    assert (found.job("a").outcome, found.job("a").message) == ("failed", "cut short, as the scheduler ended")
    assert scheduler.is_due(DAILY, found.job("a"), NOW)


def test_a_broken_state_file_stops_nothing(tmp_path, capsys):
    (tmp_path / "s").write_text("{")
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take((PATIENT,), "", NOW)
        new.tick(NOW)
    assert "remove it, a new one follows" in capsys.readouterr().err
    assert state.load(tmp_path / "s").heartbeat == times.text(NOW)


# ---- the state file


def test_plans_are_noted_with_their_next_moment(tmp_path):
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take((DAILY, dataclasses.replace(PATIENT, periodicity="hourly")), "", NOW)
        new.take((PATIENT,), "a problem", NOW + timedelta(minutes=1))
    found = state.load(tmp_path / "s")
    assert found.problem == "a problem"
    assert found.job("a") == Job("a", since="2026-11-22T22:30:00Z")
    assert found.job("b") == Job("b", since="2026-11-22T22:30:00Z", next_run="2026-11-23T00:00:00Z")


def test_a_heartbeat_is_written_when_the_one_on_disk_is_old(tmp_path):
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take((PATIENT,), "", NOW)
        seen = []
        for seconds in (0, 5, 19, 20, 39, 45, 3):  # the last one: a clock that was set back
            new.tick(NOW + timedelta(seconds=seconds))
            seen.append(state.load(tmp_path / "s").heartbeat[-3:-1])
    assert seen == ["00", "00", "00", "20", "20", "45", "03"]


@pytest.mark.parametrize("code", [0, 1, os.EX_TEMPFAIL])
def test_a_run_under_a_wrong_clock_is_made_up_for_once_the_clock_is_right(code):
    wrong = times.parse(FUTURE)
    left = scheduler.ended(DAILY, scheduler.started(Job("a", last_success=YESTERDAY), wrong), code, "", wrong)
    assert scheduler.is_due(DAILY, left, NOW)
    done = scheduler.ended(DAILY, scheduler.started(left, NOW), 0, "", LATER)
    assert not scheduler.is_due(DAILY, done, LATER)


def test_what_a_wrong_clock_noted_as_the_next_moment_does_not_stay(tmp_path):
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.state = State(jobs=(Job("b", last_success=TODAY),))
        new.take((PATIENT,), "", times.parse(FUTURE))
        assert state.load(tmp_path / "s").job("b").next_run == "2099-01-02T00:00:00Z"
        new.tick(NOW)
    assert state.load(tmp_path / "s").job("b").next_run == "2026-11-23T00:00:00Z"


def test_a_heartbeat_that_is_no_moment_is_replaced(tmp_path):
    state.save(tmp_path / "s", State("x", jobs=(Job("b", since=TODAY, next_run="2026-11-23T00:00:00Z"),)))
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take((PATIENT,), "", NOW)
        new.tick(NOW)
    assert state.load(tmp_path / "s").heartbeat == times.text(NOW)


def test_a_job_that_cannot_be_started_has_failed_and_the_others_go_on(tmp_path, capsys):
    plans = (dataclasses.replace(DAILY, command=("/none/such",)), dataclasses.replace(DAILY, name="b"))
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take(plans, "", NOW)
        new.tick(NOW)
        assert list(new.children) == ["b"]
        new.children["b"].popen.wait()
        new.tick(LATER)
    message = "/none/such cannot be started: [Errno 2] No such file or directory: '/none/such'"
    failed, done = (state.load(tmp_path / "s").job(name) for name in "ab")
    assert (failed.outcome, failed.message, failed.failures) == ("failed", message, 2)
    assert failed.retry == times.text(LATER + timedelta(seconds=20))
    assert done.outcome == "done"
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[:4] == ["a: begins", f"a: {message}", "a: failed", "b: begins"]


@pytest.mark.parametrize(
    ("script", "logged"),
    [
        ("true", []),
        ("echo a new certificate", ["a: a new certificate", "a: done"]),
        ("false", ["a: failed"]),
    ],
)
def test_a_quiet_job_is_in_the_log_only_when_there_is_something_to_say(tmp_path, capsys, script, logged):
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take((dataclasses.replace(DAILY, command=("/bin/sh", "-c", script), quiet=True),), "", NOW)
        new.tick(NOW)
        new.children["a"].popen.wait()
        new.tick(LATER)
    assert [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()][: len(logged) or None] == logged


def test_a_run_whose_end_cannot_be_read_does_not_stop_the_others(tmp_path, monkeypatch):
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "s", selector)
        new.take((DAILY,), "", NOW)
        new.tick(NOW)
        new.children["a"].popen.wait()
        monkeypatch.setattr(scheduler.Child, "read", lambda child: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            new.tick(LATER)
        new.tick(LATER)
        assert list(new.children) == ["a"]  # tried again
        new.stop(LATER)


def test_a_full_disk_stops_nothing(tmp_path, capsys):
    with selectors.DefaultSelector() as selector:
        new = Scheduler(tmp_path / "none" / "s", selector)
        new.take((PATIENT,), "", NOW)
        assert new.tick(NOW) == 30
    assert f"{tmp_path}/none/s cannot be written: [Errno 2] No such file or directory" in capsys.readouterr().err


# ---- what nobody expected


@pytest.fixture
def served(tmp_path):
    """A scheduler without jobs yet, and its configuration file, unread."""
    path = tmp_path / "c"
    path.write_text("{}")
    with selectors.DefaultSelector() as selector:
        yield Scheduler(tmp_path / "s", selector), main.Watched(path)


class Closed:
    """A door that nobody has to open."""

    def open(self) -> None:
        pass


class Idle:
    """A service that is as it should be."""

    def follow(self, config) -> None:
        pass

    def look(self) -> None:
        pass


def served_with(plans) -> fake.Lamp:
    """A service with these plans, whatever is in its configuration."""
    service = fake.Lamp()
    service.load = lambda path: None  # type: ignore[method-assign,assignment,return-value]
    service.plans = plans  # type: ignore[method-assign]
    return service


def test_an_unexpected_error_is_one_line_and_tried_again(served, capsys):
    new, watched = served
    results = iter((OSError(5, "Input/output error"), (PATIENT,)))

    def plans(config, path):
        if isinstance(result := next(results), Exception):
            raise result
        return result

    service = served_with(plans)
    assert main.turn(service, new, watched, Closed(), Idle()) == 30
    (line,) = capsys.readouterr().err.splitlines()
    assert line.split(" ", 2)[2] == ("error: unexpected OSError: [Errno 5] Input/output error; the jobs go on in 30 s")
    assert new.plans == ()
    main.turn(service, new, watched, Closed(), Idle())
    assert new.plans == (PATIENT,)
    assert state.load(new.state_file).heartbeat != ""


def test_a_restart_that_cannot_be_asked_for_stops_no_job(served, capsys):
    class Failing(Idle):
        def look(self) -> None:
            raise ServerError("no supervisor listens")

    service = served_with(lambda config, path: (PATIENT,))
    new, watched = served
    main.turn(service, new, watched, Closed(), Failing())
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.split(" ", 2)[2] == "error: no supervisor listens; this is tried again in 30 s"
    assert state.load(new.state_file).heartbeat != ""


def test_a_socket_that_cannot_be_had_stops_no_job(served, capsys):
    class Stuck:
        def open(self) -> None:
            raise OSError(98, "Address already in use", "control.sock")

    service = served_with(lambda config, path: (PATIENT,))
    new, watched = served
    main.turn(service, new, watched, Stuck(), Idle())
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.split(" ", 2)[2] == "error: control.sock: Address already in use; this is tried again in 30 s"
    assert new.plans == (PATIENT,)
    assert state.load(new.state_file).heartbeat != ""


# ---- the configuration file


def test_a_file_has_changed_when_it_was_replaced_or_rewritten(tmp_path):
    path = tmp_path / "c"
    watched = main.Watched(path)
    assert not watched.has_changed()
    path.write_text("1")
    assert watched.has_changed()
    assert not watched.has_changed()
    (tmp_path / "new").write_text("2")
    os.utime(tmp_path / "new", ns=(0, path.stat().st_mtime_ns))
    os.replace(tmp_path / "new", path)
    assert watched.has_changed()
    os.utime(path, ns=(0, 1))
    assert watched.has_changed()
    path.unlink()
    assert not watched.has_changed()
