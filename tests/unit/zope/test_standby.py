# SPDX-License-Identifier: GPL-2.0-or-later
"""The standby supervisor's parts that need no process: requests, answers of NEO, and the answers on a port."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import Refused, ServerError
from slapos.recipe.erp5.zope import door, follow, hold, standby, standby_state, standby_zope
from slapos.recipe.erp5.zope.standby_zope import Zope
from tests.unit.zope.test_instance import CONFIG


@pytest.mark.parametrize(
    "line, request_",
    [
        ("hold * 01", ("hold", "*", "01")),
        ("release web 01", ("release", "web", "01")),
        ("restart web 01", ("restart", "web", "01")),
        ("stop web 01", None),
        ("hold web", None),
        ("", None),
    ],
)
def test_requests(line: str, request_: tuple | None):
    assert standby.parse(line) == request_


@pytest.mark.parametrize(
    "line, found",
    [
        ('{"answer": {"cluster_state": "RUNNING", "reason": "", "last_tid": 7}}', ("RUNNING", "", 7)),
        ('{"answer": {"reason": "admin x: not connected", "nodes": []}}', ("", "admin x: not connected", 0)),
        ('{"kind": "unreachable", "error": "late"}', ("", "late", 0)),
        ("{}", ("", "the program that asks gave no answer that is one", 0)),
        ("no JSON", ("", "the program that asks gave no answer that is one", 0)),
    ],
)
def test_what_neo_answers(line: str, found: tuple):
    assert follow.understand(line.encode()) == found


def test_neo_is_not_asked_before_there_are_the_files_for_it(tmp_path: Path):
    missing = tmp_path / "trusted.pem"
    follower = follow.NeoFollower(["/bin/cat"], "main", ["127.0.0.1:1"], [str(missing)])
    try:
        follower.turn(1.0)
        assert (follower.state, follower.lacks, follower.descriptors()) == (
            "",
            "it has no certificate of the NEO cluster main yet",
            [],
        )
        assert follower.detail == f"nobody asks it without {missing}, which the service zope-control gets"
        missing.touch()
        follower.turn(1.0 + follow.INTERVAL)
        assert (follower.lacks, len(follower.descriptors())) == ("", 1)
    finally:
        follower.close()


@pytest.mark.parametrize("address", ["nobody.invalid:1", "[:::::]:1", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_is_nobody_who_answers_and_ends_nothing(address: str):
    probe = follow.Probe([address])
    probe.turn(1.0)
    assert not probe.answers and probe.detail not in ("", "it was not asked yet")


@pytest.mark.parametrize("family, host, name", [("AF_INET", "127.0.0.1", "127.0.0.1"), ("AF_INET6", "::1", "[::1]")])
def test_an_address_of_either_kind_is_tried(family: str, host: str, name: str):
    with socket.socket(getattr(socket, family)) as listening:
        listening.bind((host, 0))
        listening.listen()
        probe = follow.Probe([f"{name}:{listening.getsockname()[1]}"])
        while not probe.answers:
            probe.turn(probe.next_turn + 0.01)
        probe.close()


def test_a_family_to_hold():
    assert hold.family_of(CONFIG, "web") == "web" and hold.family_of(CONFIG, "") == "*"
    with pytest.raises(Refused, match="there is no family x in this partition, expected one of web"):
        hold.family_of(CONFIG, "x")


def test_without_a_supervisor(tmp_path: Path):
    assert standby_state.status(tmp_path) is None
    with pytest.raises(ServerError, match="no standby supervisor listens on .*zope.standby, expected it to run"):
        standby_state.hold(tmp_path)


# Answers on a port


@pytest.fixture
def opened() -> Iterator[tuple[door.Door, tuple[str, int]]]:
    listening = door.listen("127.0.0.1", 0)
    made = door.Door(listening)
    yield made, listening.getsockname()
    made.close()


def talk(opened: tuple[door.Door, tuple[str, int]], request: bytes) -> bytes:
    made, address = opened
    with socket.create_connection(address, 10) as client:
        client.sendall(request)
        received = b""
        client.setblocking(False)
        while True:
            made.turn(True, "waiting", "because of <that>")
            try:
                data = client.recv(1 << 16)
            except BlockingIOError:
                continue
            if not data:
                return received
            received += data


def test_a_get_is_answered_with_a_page_that_says_why(opened):
    head, _, body = talk(opened, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 503 Service Unavailable"
    assert {"Retry-After: 5", "Cache-Control: no-store", "Connection: close", f"Content-Length: {len(body)}"} <= set(
        lines
    )
    assert b"This Zope is <b>waiting</b>: because of &lt;that&gt;." in body


def test_a_head_gets_no_page(opened):
    answer = talk(opened, b"HEAD / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"\r\n\r\n")


def test_a_large_request_is_answered_before_its_end(opened):
    assert talk(opened, b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100000).startswith(
        b"HTTP/1.1 503 "
    )
    assert talk(opened, b"x" * door.LONGEST).startswith(b"HTTP/1.1 503 ")


def test_who_says_nothing_is_not_kept_for_ever(opened, monkeypatch):
    made, address = opened
    monkeypatch.setattr(door, "PATIENCE", 0.0)
    with socket.create_connection(address, 10) as client:
        client.settimeout(0.01)
        while not made.visitors and client.fileno() >= 0:
            made.turn(True, "waiting", "")
            try:
                assert client.recv(1) == b""
                break
            except TimeoutError:
                continue
    assert made.visitors == {}


def test_who_has_gone_is_forgotten(opened):
    made, address = opened
    client = socket.create_connection(address, 10)
    while not made.visitors:
        made.turn(True, "waiting", "")
    client.close()
    while made.visitors:
        made.turn(False, "waiting", "")


def test_a_closed_door_lets_nobody_in_but_says_good_bye(opened):
    made, address = opened
    with socket.create_connection(address, 10):
        made.turn(False, "serving", "")
        assert made.visitors == {} and made.waiting(False) == ([], [])


def test_who_sends_without_end_keeps_nobody_waiting(monkeypatch):
    class Endless:
        def setblocking(self, _): ...
        def shutdown(self, _): ...
        def close(self): ...
        def send(self, data):
            return len(data)

        def recv(self, _):
            received.append(1)
            assert len(received) < 1000, "it never lets go"
            return b"POST / HTTP/1.1\r\n\r\n"

    received: list[int] = []
    visitor = door.Visitor(Endless(), "waiting", "")  # type: ignore[arg-type]
    assert visitor.turn() and visitor.answered
    monkeypatch.setattr(door.time, "monotonic", lambda: visitor.deadline)
    assert not visitor.turn()


def test_all_doors_together_have_descriptors_enough(tmp_path: Path):
    given = config(tmp_path)
    many = [{**given["zopes"][0], "name": f"zope-{number}"} for number in range(100)]
    made = standby.Standby("etc/zope.json", {**given, "zopes": many}, ["/start"])
    assert {zope.visitors for zope in made.zopes} == {8}
    assert standby.Standby("etc/zope.json", given, ["/start"]).zopes[0].visitors == door.MOST


def test_no_more_than_some_are_let_in(opened):
    made, address = opened
    made.most = 2
    clients = [socket.create_connection(address, 10) for _ in range(4)]
    while len(made.visitors) < 2:
        made.turn(True, "waiting", "")
    made.turn(True, "waiting", "")
    assert len(made.visitors) == 2 and made.listening not in made.waiting(True)[0]
    for client in clients:
        client.close()


# What is kept


def config(folder: Path, **changes: object) -> dict:
    for name in ("srv", "var/run"):
        (folder / name).mkdir(parents=True)
    zope = {"name": "zope-0", "family": "web", "host": "127.0.0.1", "port": 1, "threads": 1}
    software = {"neo": "/neo", "neo-ask": "/ask"}
    neo = {"cluster": "main", "masters": ["127.0.0.1:3"], "admins": ["127.0.0.1:1", "127.0.0.1:2"]}
    return {"partition": str(folder), "zopes": [zope], "software": software, "neo": neo, "hold": [], **changes}


def test_what_is_held_from_the_beginning_is_kept(tmp_path: Path):
    given = config(tmp_path, hold=["web"])
    assert standby.Standby("etc/zope.json", given, ["/start"]).held == {"web"}
    assert standby.Standby("etc/zope.json", {**given, "hold": []}, ["/start"]).held == {"web"}


def test_a_hold_is_not_done_before_it_is_kept(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(standby, "KEEP_AGAIN_AFTER", 0.0)
    given = config(tmp_path)
    made = standby.Standby("etc/zope.json", given, ["/start"])
    made.follower.close()
    made.follower = follow.ZeoFollower("127.0.0.1:1")
    (tmp_path / "srv").rename(tmp_path / "elsewhere")  # as on a disk that is full
    made._request("hold web 01")
    made._request("restart web 02")
    made._turn()
    assert (made.held, made.answered) == ({"web"}, ["02"])
    (tmp_path / "elsewhere").rename(tmp_path / "srv")
    made._turn()
    assert made.answered == ["02", "01"]
    assert standby.Standby("etc/zope.json", given, ["/start"]).held == {"web"}


def test_a_family_that_comes_later_may_be_held_from_its_beginning(tmp_path: Path):
    given = config(tmp_path)
    web = given["zopes"][0]
    standby.Standby("etc/zope.json", given, ["/start"])._save()
    both = {**given, "zopes": [web, {**web, "name": "jobs-0", "family": "jobs"}], "hold": ["jobs", "web"]}
    found = standby.Standby("etc/zope.json", both, ["/start"])
    assert found.held == {"jobs"}
    found._save()
    # Once somebody has released it, it stays so; and one that is gone is forgotten.
    (tmp_path / "srv/zope-held.json").write_text("[]")
    assert standby.Standby("etc/zope.json", both, ["/start"]).held == set()
    (tmp_path / "srv/zope-held.json").write_text('["jobs"]')
    assert standby.Standby("etc/zope.json", given, ["/start"]).held == set()
    assert json.loads((tmp_path / "srv/zope-held.json").read_text()) == []


def test_ends_are_remembered_and_zopes_of_before_are_known(tmp_path: Path):
    given = config(tmp_path)
    end = {"at": "2026-01-01T00:00:00Z", "how": "was killed by SIGKILL", "ran": 1.0}
    noted = {"name": "zope-0", "family": "web", "child-pid": 7, "child-began": "123", "ends": [end]}
    (tmp_path / "var/run/zope.standby.json").write_text(json.dumps({"served": True, "zopes": [noted]}))
    found = standby.Standby("etc/zope.json", given, ["/start"])
    assert (found.served, found.orphans, found.zopes[0].ends) == (True, [(7, b"123")], [end])


def test_a_state_file_that_is_none_is_ignored(tmp_path: Path):
    given = config(tmp_path)
    (tmp_path / "var/run/zope.standby.json").write_text("[]")
    assert standby.Standby("etc/zope.json", given, ["/start"]).orphans == []


def test_the_commands(tmp_path: Path):
    given = config(tmp_path)
    found = standby.Standby("etc/zope.json", given, ["/start"])
    assert found.zopes[0].command == ["/start", "--config", "etc/zope.json", "--name", "zope-0"]
    assert isinstance(found.follower, follow.NeoFollower)
    words = "/neo /ask --cluster main --admins 127.0.0.1:1 127.0.0.1:2"
    assert found.follower.command == words.split()


def test_a_zope_that_finds_backups_again_and_again_is_failing():
    """The admins that are asked may be another cluster's: that would go on for ever, and nobody be told."""
    made = Zope("web-0", "web", ("127.0.0.1", 0), ["/bin/sh", "-c", "exit 75"])
    made.open_door(1.0)
    assert made.door
    ends = []
    for _ in range(standby_zope.BACKUPS):
        made.start(1.0)
        while not made.look_at_child(1.0):
            pass
        ends.append(made.end)
    made.door.close()
    said = "found its NEO cluster to be a backup, though the admins tell that it serves (are they another's?),"
    assert ends == ["", "", said]
    assert [end["how"] for end in made.ends] == [said]


def test_what_an_earlier_supervisor_wrote_is_not_how_they_stand(tmp_path: Path):
    made = standby.Standby("etc/zope.json", config(tmp_path), ["/start"])
    made._save()
    run, gone = tmp_path / "var/run", subprocess.Popen(["true"])
    gone.wait()
    assert standby_state.status(run) is None  # nobody has the FIFO
    os.mkfifo(made.fifo_path, 0o600)
    fifo = os.open(made.fifo_path, os.O_RDWR | os.O_NONBLOCK)
    try:
        found = standby_state.status(run)
        assert found and found.zope("zope-0").state == "waiting"
        assert (found.database.name, found.database.state) == ("the NEO cluster main", "")
        state = json.loads((run / "zope.standby.json").read_text())
        (run / "zope.standby.json").write_text(json.dumps(state | {"pid": gone.pid}))
        assert standby_state.status(run) is None
    finally:
        os.close(fifo)


def test_no_connection_to_masters_is_left_once_the_state_is_known(tmp_path: Path):
    found = standby.Standby("etc/zope.json", config(tmp_path), ["/start"]).follower
    assert isinstance(found, follow.NeoFollower)
    found._asked = found._next = 1e12  # nobody is asked now
    with socket.create_server(("127.0.0.1", 0)) as master:
        found._masters = follow.Probe([f"127.0.0.1:{master.getsockname()[1]}"])
        found._masters._socket = socket.create_connection(master.getsockname())
        found.state = "BACKINGUP"
        found.turn(1.0)
        assert found._masters._socket is None
