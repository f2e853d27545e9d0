# SPDX-License-Identifier: GPL-2.0-or-later
"""Asker with programs that pretend to be neo_ask.py."""

import json
import sys
import threading
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import CommandError, Refused, ServerError, Unreachable
from slapos.recipe.erp5.neo import ask
from slapos.recipe.erp5.neo.ask import Asker, Node, Status


def make(folder: Path, body: str, **options) -> Asker:
    """An Asker of a program that does `body` for each question, called `question`."""
    script = folder / "script.py"
    lines = "\n    ".join(body.splitlines())
    script.write_text(
        f"import json, os, sys, time\nfor line in sys.stdin:\n    question = json.loads(line)\n    {lines}\n"
    )
    return Asker(Path(sys.executable), script, "main", ["a:1", "b:2"], **options)


def answering(folder: Path, answer: object, **options) -> Asker:
    return make(folder, f"print({json.dumps(answer)!r}, flush=True)", **options)


def test_a_status(tmp_path: Path):
    answer = {
        "cluster_state": "BACKINGUP",
        "primary": "M1",
        "partitions": 12,
        "replicas": 1,
        "backup_tid": 5,
        "last_tid": 6,
        "last_ptid": 7,
        "first_copy_goal": None,
        "cells_out_of_date": 2,
        "nodes": [{"type": "MASTER", "uuid": "M1", "address": "h:1", "state": "RUNNING"}],
        "reason": "",
    }
    with answering(tmp_path, {"answer": answer}) as asker:
        node = Node("MASTER", "M1", "h:1", "RUNNING")
        assert asker.status() == Status("BACKINGUP", "M1", 12, 1, 5, 6, 7, None, 2, (node,))


def test_what_is_asked_and_with_which_arguments(tmp_path: Path):
    body = """print(json.dumps({"kind": "failed", "error": json.dumps([sys.argv[1:], question])}), flush=True)"""
    with make(tmp_path, body, tls=("/ca", "/cert", "/key"), timeout=7) as asker, pytest.raises(ServerError) as error:
        asker.truncate(9)
    sentence, _, said = str(error.value).partition(": ")
    assert sentence == "the NEO cluster main was asked for truncate 9"
    tls = ["--ca", "/ca", "--cert", "/cert", "--key", "/key"]
    assert json.loads(said) == [
        ["--cluster", "main", *tls, "--admins", "a:1", "b:2"],
        {"ask": "truncate", "seconds": 7, "tid": 9},
    ]


@pytest.mark.parametrize(
    ("kind", "kind_of_error"), [("denied", Refused), ("unreachable", Unreachable), ("x", ServerError)]
)
def test_errors(tmp_path: Path, kind: str, kind_of_error: type[Exception]):
    with answering(tmp_path, {"kind": kind, "error": "the reason"}) as asker, pytest.raises(kind_of_error) as error:
        asker.start()
    assert str(error.value) == "the NEO cluster main was asked for set-state VERIFYING: the reason"


def test_a_status_that_nobody_tells_is_one_with_a_reason(tmp_path: Path):
    with answering(tmp_path, {"kind": "unreachable", "error": "gone"}) as asker:
        assert asker.status() == Status(reason="the NEO cluster main was asked for status: gone")


def test_the_process_stays(tmp_path: Path):
    with make(tmp_path, 'print(json.dumps({"kind": "x", "error": str(os.getpid())}), flush=True)') as asker:
        said = set()
        for _ in range(3):
            with pytest.raises(ServerError) as error:
                asker.start()
            said.add(str(error.value))
    assert len(said) == 1


def test_one_that_hangs_is_replaced_and_its_late_answer_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ask, "GRACE", 0.2)
    body = """
if not os.path.exists("FLAG"):
    open("FLAG", "w").close()
    time.sleep(100)
print(json.dumps({"answer": {"reason": "second"}}), flush=True)""".replace("FLAG", str(tmp_path / "flag"))
    with make(tmp_path, body, timeout=0.2) as asker:
        assert asker.status().reason == "the program that asks the NEO cluster main did not answer: it was ended"
        asker.timeout = 60
        assert asker.status().reason == "second"


def test_one_that_ends_is_told_and_replaced(tmp_path: Path):
    with make(tmp_path, 'print(json.dumps({"answer": {"reason": "last"}}), flush=True); sys.exit()') as asker:
        assert asker.status().reason == "last"
        assert asker._process
        asker._process.wait()
        assert asker.status().reason == "last"
    with make(tmp_path, "sys.exit()") as asker, pytest.raises(ServerError, match="the program that asks .* main ended"):
        asker.status()


def test_threads_wait_for_each_other(tmp_path: Path):
    body = 'time.sleep(0.01)\nprint(json.dumps({"answer": {"last_tid": question["tid"]}}), flush=True)'
    with make(tmp_path, body) as asker:
        found = {}
        for number in range(10):
            thread = threading.Thread(
                target=lambda n: found.update({n: asker._ask("x", tid=n)["last_tid"]}), args=[number]
            )
            thread.start()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(60)
    assert found == {number: number for number in range(10)}


def test_it_ends_with_its_owner(tmp_path: Path):
    asker = answering(tmp_path, {"answer": {}})
    asker.status()
    process = asker._process
    asker.close()
    assert process and process.returncode is not None
    asker.close()


def test_tids_of_a_program_that_fails(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.exit('no such luck')")
    asker = Asker(Path(sys.executable), script, "main", [])
    with pytest.raises(CommandError, match="cannot list transactions of NEO: .* ended with status 1: no such luck"):
        asker.tids_from(["m:1"], 5, 10)
