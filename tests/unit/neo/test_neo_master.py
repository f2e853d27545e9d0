# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of neo_master.py that need no NEO: the flag file, and what is refused."""

import json
import time
from pathlib import Path

import pytest

from slapos.recipe.erp5.py2 import neo_master
from slapos.recipe.erp5.py2.neo_master import Closed, NewFlag, refusal


@pytest.fixture
def flag(tmp_path: Path) -> NewFlag:
    (tmp_path / "new").write_text("{}")
    return NewFlag(str(tmp_path / "new"))


def goal_on_disk(flag: NewFlag) -> dict:
    return json.loads(Path(flag.path).read_text())


def test_a_fresh_flag_has_no_goal(flag: NewFlag):
    assert flag.exists() and flag.goal() is None


def test_the_first_tid_of_the_upstream_is_the_goal_and_is_remembered(flag: NewFlag):
    assert flag.lower(0x0403BA0E8AE83E77)
    assert flag.goal() == NewFlag(flag.path).goal() == 0x0403BA0E8AE83E77
    assert goal_on_disk(flag) == {"goal": "0x403ba0e8ae83e77"}


def test_a_later_tid_changes_nothing_and_an_earlier_one_lowers_the_goal(flag: NewFlag):
    flag.lower(100)
    assert not flag.lower(101) and flag.goal() == 100
    assert flag.lower(99) and NewFlag(flag.path).goal() == 99


def test_an_empty_upstream_gives_no_goal(flag: NewFlag):
    assert not flag.lower(0)
    assert flag.goal() is None and goal_on_disk(flag) == {}


def test_without_a_flag_none_is_made_by_the_upstream(tmp_path: Path):
    flag = NewFlag(str(tmp_path / "new"))
    assert not flag.lower(100)
    assert flag.goal() is None and not flag.exists()


def test_an_upstream_with_another_number_of_partitions_is_noted_as_long_as_it_has(tmp_path: Path):
    noted = neo_master.UpstreamPartitions(str(tmp_path))
    assert noted.note(24, 12) == (
        "partitions: it is 12, but the upstream has 24, expected the same, which no parameter changes: request another"
        " instance"
    )
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("upstream-partitions", "24\n")]
    for _ in range(2):
        assert noted.note(12, 12) is None
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_once(flag: NewFlag):
    flag.lower(100)
    assert flag.remove()
    assert not flag.exists() and flag.goal() is None
    assert not flag.remove()


def test_one_that_somebody_else_removed_has_no_say(flag: NewFlag):
    flag.lower(100)
    Path(flag.path).unlink()
    assert not flag.exists() and not flag.lower(5) and not flag.exists()


def test_on_a_full_disk_the_goal_is_remembered_in_memory(flag: NewFlag, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(neo_master.os, "fsync", full)
    assert flag.lower(100)
    assert flag.exists() and flag.goal() == 100
    assert goal_on_disk(flag) == {} and NewFlag(flag.path).goal() is None


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "{}", '{"goal": null}', '{"goal": "x"}'])
def test_one_that_cannot_be_read_is_one_without_a_goal(flag: NewFlag, content: str):
    Path(flag.path).write_text(content)
    assert flag.exists() and flag.goal() is None


def asked(
    state: str, of: str = "BACKINGUP", upstream: bool = True, flag: str | None = None, backup_tid: int = 5
) -> str | None:
    return refusal(state, of, upstream, flag, backup_tid)


def test_what_is_allowed():
    assert asked("STOPPING_BACKUP") is None
    assert asked("STOPPING_BACKUP", of="STARTING_BACKUP") is None
    assert asked("STARTING_BACKUP", of="RUNNING") is None
    assert asked("VERIFYING", of="RECOVERING", flag="/srv/new", backup_tid=0) is None


def test_what_neo_refuses_itself_is_left_to_it():
    assert asked("STOPPING_BACKUP", of="RUNNING", backup_tid=0) is None


@pytest.mark.parametrize("state", ["BACKINGUP", "STARTING_BACKUP"])
def test_a_takeover_of_nothing_is_refused(state: str):
    reason = "nothing of the upstream was copied yet, and a takeover would leave a database that cannot start"
    assert asked("STOPPING_BACKUP", of=state, backup_tid=0) == reason


def test_a_takeover_during_the_first_copy_is_refused():
    assert asked("STOPPING_BACKUP", flag="/srv/new") == (
        "the first copy of the upstream is not complete, and a takeover would leave an old or empty database:"
        " wait for it; if an old one is better than none, remove /srv/new and ask again"
    )


def test_becoming_a_backup_of_nobody_is_refused():
    assert asked("STARTING_BACKUP", of="RUNNING", upstream=False) == (
        "this cluster has no upstream, and its masters would die at this and every later start:"
        " start them with --upstream-cluster and --upstream-masters first"
    )


@pytest.mark.parametrize(
    "arguments", [[], ["--new-flag"], ["--new-flag", "f"], ["--new-flag", "f", "-c"], ["-c", "x", "--"]]
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture):
    assert neo_master.main(arguments) == 2
    assert capsys.readouterr().err == "usage: neo_master.py --new-flag FILE -- ARGUMENTS OF NEOMASTER\n"


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (None, False),
        ("", True),
        ("\n", True),
        ("0", False),
        ("1e300", True),
        pytest.param(f"{time.time() - 1}", False, id="a second ago"),
        ("?", True),
    ],
)
def test_how_long_clients_are_kept_out(tmp_path: Path, content: str | None, holds: bool):
    if content is not None:
        (tmp_path / "closed").write_text(content)
    assert Closed(str(tmp_path / "closed")).holds() is holds


def test_the_file_is_looked_for_now_and_then_also_when_the_clock_is_set_back(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(neo_master.time, "time", lambda: now[0])
    closed = Closed("closed")
    due = []
    for moment in (1000.0, 1000.05, 1000.2, 500.0, 500.05):
        now[0] = moment
        due.append(closed.is_due())
    assert due == [True, False, True, True, False]
