# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of long work: lines now and then, and a state file that is always whole."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5.mariadb import progress
from slapos.recipe.erp5.mariadb.progress import COMPLETE, Meter, Progress, State

MIB = 1 << 20


class Clock:
    """Seconds, and the moment that goes with them."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self.seconds - 1000)


@pytest.fixture
def clock():
    return Clock()


def lines(capsys) -> list[str]:
    return [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


def passing(clock, call, *pairs):
    for seconds, megabytes in pairs:
        clock.seconds = 1000 + seconds
        call(megabytes * MIB)


def test_a_line_now_and_then(clock, capsys):
    passing(clock, Meter("loaded", 400 * MIB, clock), (5, 50), (10, 100), (15, 150), (20.5, 400))
    assert lines(capsys) == [
        "loaded 100.0 MiB of 400.0 MiB, 25 %, 10.0 MiB/s",
        "loaded 400.0 MiB of 400.0 MiB, 100 %, 19.5 MiB/s",
    ]


def test_a_line_without_a_total_and_with_what_is_written(clock, capsys):
    meter = Meter("dumped", clock=clock)
    for megabytes in (1, 20, 21, 60):
        clock.seconds += megabytes / 2
        meter(megabytes * MIB, megabytes << 18)
    assert lines(capsys) == [
        "dumped 20.0 MiB, 1.9 MiB/s, compressed to 5.0 MiB",
        "dumped 21.0 MiB, 1.0 MiB/s, compressed to 5.2 MiB",
        "dumped 60.0 MiB, 1.3 MiB/s, compressed to 15.0 MiB",
    ]


def test_a_rate_is_that_of_the_last_half_minute(clock):
    meter = Meter("loaded", clock=clock)
    passing(clock, meter, *((second, 100 * second) for second in range(1, 101)))
    assert meter.rate == 100 * MIB
    passing(clock, meter, *((second, 10000) for second in range(101, 141)))
    assert meter.rate == 0


def test_nothing_at_once_has_no_rate(clock):
    meter = Meter("loaded", clock=clock)
    meter(5)
    assert meter.rate == 0


# ---- the state file


def test_the_file_says_where_a_replica_is(clock, tmp_path):
    path = tmp_path / "bootstrap.json"
    report = Progress(path, clock, clock.now)
    report.attempt()
    report.method("stored physical")
    report.begin("unpack x", 1000 * MIB)
    passing(clock, report, (1, 100), (1.5, 150), (2, 200))
    expected = State("unpack x", "stored physical", 200 * MIB, 1000 * MIB, 100 * MIB, attempts=1)
    assert progress.load(path) == report.state
    assert report.state.since == "2026-11-01T00:00:00Z" and report.state.updated == "2026-11-01T00:00:02Z"
    assert (report.state.stage, report.state.method, report.state.done, report.state.total, report.state.rate) == (
        expected.stage, expected.method, expected.done, expected.total, expected.rate,
    )  # fmt: skip
    assert sorted(json.loads(path.read_text())) == [
        "attempts", "done", "error", "method", "rate", "since", "stage", "total", "updated",
    ]  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["bootstrap.json"]


def test_bytes_are_written_once_a_second(clock, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(progress, "save", lambda path, state: written.append(state.done // MIB))
    report = Progress(tmp_path / "x", clock, clock.now)
    report.begin("unpack")
    passing(clock, report, (0.1, 1), (0.5, 2), (1.1, 3), (1.2, 4), (2.5, 5))
    assert written == [0, 1, 3, 5]


def test_an_error_stays_until_an_attempt_succeeds(clock, tmp_path):
    report = Progress(tmp_path / "x", clock, clock.now)
    report.attempt()
    report.failed("the primary does not answer")
    report.attempt()
    report.begin("unpack", 5)
    state = progress.load(tmp_path / "x")
    assert state is not None
    assert (state.error, state.attempts, state.stage) == ("the primary does not answer", 2, "unpack")
    report.complete()
    state = progress.load(tmp_path / "x")
    assert state is not None
    assert (state.error, state.attempts, state.stage) == ("", 2, COMPLETE)


def test_a_killed_run_is_continued_and_a_complete_one_is_not(clock, tmp_path):
    first = Progress(tmp_path / "x", clock, clock.now)
    first.attempt()
    first.failed("no")
    clock.seconds += 60
    second = Progress(tmp_path / "x", clock, clock.now)
    assert (second.state.attempts, second.state.since, second.state.error) == (1, "2026-11-01T00:00:00Z", "no")
    second.complete()
    third = Progress(tmp_path / "x", clock, clock.now)
    assert (third.state.attempts, third.state.since, third.state.error) == (0, "2026-11-01T00:01:00Z", "")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": 1}', '{"unknown": 1}', "\0"])
def test_a_file_that_says_nothing_is_no_file(tmp_path, content):
    (tmp_path / "x").write_text(content)
    assert progress.load(tmp_path / "x") is None
    assert progress.load(tmp_path / "none") is None
    assert Progress(tmp_path / "x").state.attempts == 0


def test_a_state_that_cannot_be_written_ends_nothing(clock, tmp_path):
    report = Progress(tmp_path / "no folder" / "x", clock, clock.now)
    report.attempt()
    passing(clock, report, (1, 1), (3, 2))
    assert report.state.done == 2 * MIB
