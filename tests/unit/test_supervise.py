# SPDX-License-Identifier: GPL-2.0-or-later
"""What the supervisor decides, without any process; tests/service/test_supervisor.py has the rest."""

import json
import os
import subprocess

import pytest

from slapos.recipe.erp5 import supervise, supervisor
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.supervise import Supervisor


def test_each_pause_is_twice_the_one_before_up_to_five_minutes():
    assert [supervise.pause(failures) for failures in range(1, 12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert supervise.pause(10**9) == 300


def test_what_ran_ten_minutes_begins_with_the_first_pause_again():
    assert supervise.failures_after(0, 0.1) == 1
    assert supervise.failures_after(5, 599.9) == 6
    assert supervise.failures_after(5, 600) == 1


@pytest.mark.parametrize(
    "line, request_",
    [
        ("restart", ("restart", "", 0)),
        ("stop 0123abcd", ("stop", "0123abcd", 0)),
        (" start 0123abcd 77 ", ("start", "0123abcd", 77)),
        ("", None),
        ("reload", None),
        ("stop id pid", None),
        ("stop id 7 8", None),
        ("restartrestart", None),
    ],
)
def test_requests(line, request_):
    assert supervise.parse(line) == request_


def test_an_end_in_words():
    assert supervise.describe(9) == "was killed by SIGKILL"
    assert supervise.describe(139) == "was killed by SIGSEGV"  # with a core dump
    assert supervise.describe(3 << 8) == "ended with status 3"
    assert supervise.describe(0) == "ended with status 0"


def made(folder) -> Supervisor:
    return Supervisor(str(folder), "x", ["/bin/true"])


def test_failures_are_counted_and_the_last_ones_kept(tmp_path):
    new = made(tmp_path)
    for number in range(25):
        new._failed(100.0, f"ended with status {number}", 1.25)
    assert new.start_at == 400.0
    kept = made(tmp_path)
    assert [end["how"] for end in kept.ends] == [f"ended with status {number}" for number in range(5, 25)]
    assert kept.failures == 0  # a new supervisor begins with the first pause
    state = json.loads((tmp_path / "x.supervisor.json").read_text())
    assert (state["state"], state["child-pid"], state["ends"][-1]["ran"]) == ("waiting", 0, 1.2)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"ends": 3}', "\xff"])
def test_a_broken_state_is_no_reason_not_to_start(tmp_path, content):
    (tmp_path / "x.supervisor.json").write_text(content, encoding="latin-1")
    assert made(tmp_path).ends == []


def test_a_restart_leaves_stopped_what_was_stopped(tmp_path):
    new = made(tmp_path)
    new._request("stop a")
    new._request("restart b")
    assert (new.goal, new.pending) == ("stop", ["a", "b"])
    new._request("start c")
    assert (new.goal, new.pending) == ("run", ["a", "b", "c"])


def ended() -> int:
    with subprocess.Popen(["/bin/true"]) as process:
        return process.pid


def test_who_has_ended_already_stops_nothing(tmp_path, capfd):
    new, pid = made(tmp_path), ended()
    new._request(f"stop a {pid}")
    assert (new.goal, new.holder, new.pending) == ("run", None, [])
    assert f"supervisor of x: stop by process {pid}, which has ended already, was ignored" in capfd.readouterr().err
    new._request(f"stop b {os.getpid()}")
    assert (new.goal, new.holder, new.pending) == ("stop", (os.getpid(), supervise.began(os.getpid())), ["b"])
    new._request("stop c")
    assert (new.goal, new.holder) == ("stop", None)


@pytest.fixture
def orphan():
    with subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


def left_behind(folder, pid: int, when: str) -> Supervisor:
    """A supervisor that begins after one that was killed while its command ran."""
    content = {"ends": [], "child-pid": pid, "child-began": when}
    (folder / "x.supervisor.json").write_text(json.dumps(content))
    return made(folder)


def test_what_a_killed_supervisor_left_is_killed_once_patience_ends(tmp_path, orphan, capfd):
    old = made(tmp_path)
    old.child = orphan.pid
    old._change("running")
    new = made(tmp_path)
    new._look_at_orphan(new.orphan_until - 1)
    assert orphan.poll() is None
    new.child = 1  # nothing to wait for but that
    assert 0 < new._timeout() <= supervise.PATIENCE
    new._look_at_orphan(new.orphan_until)
    assert orphan.wait(30) == -supervise.signal.SIGKILL
    assert f"process {orphan.pid} of an earlier supervisor still runs after 50 s: SIGKILL" in capfd.readouterr().err
    assert new._timeout() is None


@pytest.mark.parametrize("when", ["", "1"])
def test_another_process_of_the_same_number_is_left_alone(tmp_path, orphan, when):
    new = left_behind(tmp_path, orphan.pid, when)
    new._look_at_orphan(new.orphan_until)
    assert (orphan.poll(), new.orphan) == (None, None)


def test_after_a_signal_no_request_counts(tmp_path):
    new = made(tmp_path)
    new.received.append(supervise.signal.SIGTERM)
    new._take_signals()
    new._request("start a")
    assert new.goal == "end"


def test_without_a_supervisor_there_is_no_status_and_a_request_is_refused_in_a_sentence(tmp_path):
    service = supervisor.Service(tmp_path, "x")
    sentence = (
        f"no supervisor of the service x listens on {tmp_path}/x.supervise, expected the service to run: start the"
        f" services of its partition (slapos node start '{tmp_path.parent.parent.name}:*')"
    )
    for _ in range(2):
        assert supervisor.status(service) is None
        with pytest.raises(ServerError) as raised:
            supervisor.restart(service)
        assert str(raised.value) == sentence
        supervise.os.mkfifo(service.fifo) if not service.fifo.exists() else None
