# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with a live copy: one sentence at the receiver, nothing left at either end, the next works."""

import errno
import io
import json
import os
import re
import signal
import socket
import threading
from pathlib import Path

import psutil
import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, Busy
from slapos.recipe.erp5.mariadb import live, live_receive, new_database, physical, sql, store
from slapos.recipe.erp5.mariadb.live import LENGTH
from tests.service import servers
from tests.service.backup_fixtures import (
    DEADLINE,
    TOKEN,
    Partition,
    empty_data,
    new_partition,
    partition,
    server,
    wait_until,
)
from tests.service.live_fixtures import (
    ask,
    assert_nothing_came,
    assert_over,
    copier,
    is_busy,
    reader,
    receive,
    sender,
    slow,
)
from tests.service.physical_fixtures import filled
from tests.service.test_physical_backup import import_table

__all__ = ["empty_data", "filled", "new_partition", "partition", "sender", "server"]

BUSY = "another backup of test is running: wait for its end, and run this again if you still need to"


class Receiving(threading.Thread):
    """Receives in the background; `error` is what came of it."""

    def __init__(self, source: Partition, target: Partition) -> None:
        super().__init__()
        self.source, self.target, self.error = source, target, None
        self.start()

    def run(self) -> None:
        try:
            receive(self.source, self.target)
        except Exception as error:
            self.error = error

    def failure(self) -> str:
        self.join(DEADLINE)
        assert isinstance(self.error, BackupError), self.error
        assert_nothing_came(self.target)
        return str(self.error)


@pytest.fixture
def target(new_partition) -> Partition:
    return new_partition()


@pytest.fixture
def copying(sender, target) -> Receiving:
    """A copy that takes long, of which some has come."""
    slow(sender, 2_000_000)
    receiving = Receiving(sender, target)
    wait_until(lambda: list(target.config.data_directory.rglob("catalog.ibd")), "some of the copy")
    return receiving


# ---- the sender's end


def test_mariadb_backup_is_killed(copying):
    copier(copying.source).kill()
    assert re.fullmatch(
        "test could not make the copy: cannot copy the data directory: mariadb-backup was killed by SIGKILL: .*",
        copying.failure(),
    )
    assert_over(copying.source)
    slow(copying.source, 0)
    receive(copying.source, copying.target)


def test_the_server_is_killed(copying):
    copying.source.server.kill()
    assert copying.failure().startswith("test could not make the copy: ")
    assert_over(copying.source)


def test_nginx_is_killed(copying):
    for one in (*psutil.Process(copying.source.nginx.pid).children(), copying.source.nginx):
        one.kill()
    assert re.fullmatch(r"the live copy ends after \S+ \S+, before its end: try again", copying.failure())
    assert_over(copying.source)


def test_the_web_server_is_stopped(copying):
    copying.source.web.stop()
    assert re.fullmatch(r"the live copy ends after \S+ \S+, before its end: try again", copying.failure())
    assert_over(copying.source)


def test_a_table_that_mariadb_backup_leaves_out(sender, target, monkeypatch):
    import_table(sender)
    monkeypatch.setattr(sql, "checkpoint", lambda connection: None)  # so that its log still tells of the table's end
    with pytest.raises(BackupError) as caught:
        receive(sender, target)
    assert str(caught.value) == (
        "test could not make the copy: mariadb-backup left out erp5/imported, which the server has: run this again "
        f"when no table is being imported, and see {sender.config.physical_backup_log}"
    )
    assert_over(sender)
    assert_nothing_came(target)


def test_a_server_that_does_not_answer(sender, target):
    sender.stop_server()
    with pytest.raises(Busy) as caught:
        receive(sender, target)
    assert str(caught.value).startswith(f"127.0.0.1:{sender.backup_port} gives no live copy now: cannot connect")
    assert_over(sender)


def test_no_database_yet(sender, target):
    sender.config.data_directory.rename(sender.folder / "srv" / "elsewhere")
    with pytest.raises(Busy) as caught:
        receive(sender, target)
    assert str(caught.value) == (
        f"127.0.0.1:{sender.backup_port} gives no live copy now: there is no database yet: its creation comes first, "
        "see the log of the service mariadb"
    )


def test_nobody_behind_nginx(sender, target):
    sender.web.stop()
    with pytest.raises(BackupError) as caught:
        receive(sender, target)
    assert str(caught.value) == f"127.0.0.1:{sender.backup_port} gives no live copy: it answers with status 502"


# ---- one at a time


def test_two_at_once(copying, new_partition):
    with pytest.raises(Busy) as caught:
        receive(copying.source, new_partition())
    assert str(caught.value) == f"127.0.0.1:{copying.source.backup_port} gives no live copy now: {BUSY}"
    assert copying.is_alive()
    slow(copying.source, 0)
    copier(copying.source).kill()
    copying.failure()


def test_while_a_stored_backup_is_made(sender, target):
    with store.lock(sender.config), pytest.raises(Busy):
        receive(sender, target)
    receive(sender, target)


def test_busy_says_when_to_come_again(sender):
    with store.lock(sender.config), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(sender.config.control_socket))
        connection.sendall(b"POST /live HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 503 ") and b"\r\nRetry-After: 60\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": BUSY}


# ---- the receiver's end


def test_the_receiver_is_killed(sender, target):
    slow(sender, 2_000_000)
    folder = target.config.data_directory
    child = reader(
        sender,
        f"live_receive.receive(config.load({str(target.json)!r}), response, Path({str(folder)!r}), print)",
    )
    wait_until(lambda: list(folder.rglob("catalog.ibd")), "some of the copy")
    child.kill()
    child.wait(DEADLINE)
    assert_over(sender)


def test_the_receiver_does_not_read_on(sender):
    child = reader(
        sender, "response.read(1); print('reading', flush=True); sys.stdin.close(); import signal\nsignal.pause()"
    )
    assert child.stdout.readline() == b"reading\n"
    assert copier(sender) and is_busy(sender)
    child.kill()
    child.wait(DEADLINE)
    assert_over(sender)


def test_the_receiver_goes_away_while_the_sender_waits(sender, monkeypatch):
    """For a checkpoint that takes long: no byte of the copy has come yet."""
    go_on, looked = threading.Event(), physical.look
    monkeypatch.setattr(live, "HEARTBEAT", 0.1)
    monkeypatch.setattr(physical, "look", lambda config: (go_on.wait(DEADLINE), looked(config))[1])
    with ask(sender) as response:
        head = response.read(LENGTH.unpack(response.read(4))[0])
        assert json.loads(head)["instance"] == "test"
        assert response.read(8) == LENGTH.pack(live.STILL_HERE) * 2
        assert is_busy(sender)
    assert_over(sender)
    go_on.set()


def test_a_disk_that_fills_up(sender, target, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError) as caught:
        receive(sender, target)
    assert re.fullmatch(
        rf"cannot unpack the live copy of test: {target.config.data_directory}/\S+: No space left on device: free disk "
        "space",
        process.describe(caught.value),
    )
    assert_nothing_came(target)
    assert_over(sender)


def test_a_disk_that_is_too_small(sender, target, monkeypatch):
    monkeypatch.setattr(live_receive.space, "free", lambda folder: 1 << 20)
    with pytest.raises(BackupError) as caught:
        receive(sender, target)
    assert re.fullmatch(
        rf"1.0 MiB are free in {target.folder}/srv, the tables of test take [\d.]+ MiB, and a database takes 168.0 MiB "
        "besides: free disk space",
        str(caught.value),
    )
    assert_nothing_came(target)
    assert_over(sender)


def test_what_is_there_already_stays(sender, target):
    target.config.data_directory.mkdir()
    (target.config.data_directory / "precious").touch()
    with pytest.raises(FileExistsError):
        receive(sender, target)
    assert (target.config.data_directory / "precious").exists()
    assert_over(sender)


# ---- on the way


@pytest.fixture(scope="module")
def recorded(empty_data, tmp_path_factory) -> bytes:
    """All bytes of a good copy."""
    partition = Partition(tmp_path_factory.mktemp("r"))
    partition.start_server(empty_data)
    try:
        partition.sql("CREATE DATABASE erp5")
        return b"".join(live.frames(partition.config))
    finally:
        partition.stop()


def take(target: Partition, stream: bytes | io.RawIOBase) -> str:
    """The sentence with which this stream is refused; nothing of it stays."""
    source = io.BytesIO(stream) if isinstance(stream, bytes) else stream
    with pytest.raises(BackupError) as caught:
        live_receive.receive(target.config, source, target.config.data_directory, lambda done, total: None)
    assert_nothing_came(target)
    return str(caught.value)


def test_the_recorded_one_is_good(recorded, target):
    source = io.BytesIO(recorded)
    live_receive.receive(target.config, source, target.config.data_directory, lambda done, total: None)


def test_more_than_there_is_room_for(recorded, target, monkeypatch):
    """Whatever the sender spoke of: what came is thrown away, the disk is not filled."""
    end = 4 + LENGTH.unpack(recorded[:4])[0]
    head = json.dumps(json.loads(recorded[4:end]) | {"tables-size": 2048}).encode()
    room = 1 << 20
    monkeypatch.setattr(live_receive.space, "free", lambda folder: new_database.reserve(target.config) + room)
    source = io.BytesIO(LENGTH.pack(len(head)) + head + recorded[end:])
    assert len(recorded) > 4 * room
    assert take(target, source) == (
        "the live copy of test has more than the 1.0 MiB that its database may take here, its sender spoke of 2.0 KiB: "
        "free disk space"
    )
    assert source.tell() < 4 * room


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9])
def test_cut_short(recorded, target, share):
    sentence = r"the live copy ends after \S+ \S+, before its end: try again"
    assert re.fullmatch(sentence, take(target, recorded[: int(len(recorded) * share)]))


def trailer_of(recorded: bytes) -> int:
    """Where the frame of length 0 begins."""
    return recorded.rindex(LENGTH.pack(0) + LENGTH.pack(len(recorded) - recorded.rindex(b'{"ok"')))


def test_no_trailer(recorded, target):
    end = trailer_of(recorded)
    for size in (end, end + 2, end + 4, end + 8, len(recorded) - 1):
        assert "before its end: try again" in take(target, recorded[:size])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ok": False, "error": "the disk is full"}, "test could not make the copy: the disk is full"),
        ({"ok": "yes"}, "test could not make the copy: None"),
        ({"bytes": 7}, r"bytes of the live copy is \d+, its sender says 7: try again"),
        ({"gtid": "0-1-1"}, "gtid of the live copy is .*, its sender says 0-1-1: try again"),
        ({"tablespaces": 1}, r"tablespaces of the live copy is \d+, its sender says 1: try again"),
    ],
)
def test_a_trailer_that_says_something_else(recorded, target, change, sentence):
    end = trailer_of(recorded)
    text = json.dumps(json.loads(recorded[end + 8 :]) | change).encode()
    assert re.fullmatch(sentence, take(target, recorded[: end + 4] + LENGTH.pack(len(text)) + text))


def test_an_end_in_the_middle_of_a_file(recorded, target):
    """As if mariadb-backup had ended there, and its sender had not noticed."""
    end, start = trailer_of(recorded), 4 + LENGTH.unpack(recorded[:4])[0]
    # A byte less than the first frame has: how much that is, and so what ends there, is the pipe's choice.
    size = LENGTH.unpack(recorded[start : start + 4])[0] - 1
    cut = LENGTH.pack(size) + recorded[start + 4 :][:size]
    assert re.search("cut short$", take(target, recorded[:start] + cut + recorded[end:]))


def test_a_byte_that_changed(recorded, target):
    middle = len(recorded) // 2
    changed = recorded[:middle] + bytes([recorded[middle] ^ 1]) + recorded[middle + 1 :]
    sentence = r"the stream's checksum of a part of \S+ does not hold: it is damaged"
    assert re.fullmatch(sentence, take(target, changed))


def test_a_name_that_leaves_the_folder(recorded, target):
    start = 4 + LENGTH.unpack(recorded[:4])[0]
    evil = b"XBSTCK01\0P" + LENGTH.pack(9)[::-1] + b"../../bad"
    stream = recorded[:start] + LENGTH.pack(len(evil)) + evil + recorded[trailer_of(recorded) :]
    sentence = "the stream has a name that leaves its folder: '../../bad': do not use this backup"
    assert take(target, stream) == sentence
    assert not (target.folder.parent / "bad").exists() and not list(target.folder.rglob("bad"))


# ---- mariadb-control


def test_control_is_terminated_while_it_sends(filled, target):
    from tests.service.authority import Authority

    filled.backup["enable"] = False
    slow(filled, 2_000_000)
    Authority().install(filled.config.tls, "127.0.0.1")
    filled.start_nginx()
    control = filled.python("mariadb.control", stderr=None)
    wait_until(lambda: servers.listens(filled.config.control_socket), "the socket of mariadb-control")
    receiving = Receiving(filled, target)
    wait_until(lambda: list(target.config.data_directory.rglob("catalog.ibd")), "some of the copy")
    copying = copier(filled)
    assert copying.ppid() == control.pid
    control.send_signal(signal.SIGTERM)
    assert control.wait(DEADLINE) == 0
    wait_until(lambda: not copying.is_running(), "the end of mariadb-backup")
    assert "before its end: try again" in receiving.failure()
    assert TOKEN not in "".join(path.read_text() for path in Path(filled.directory["log"]).glob("*"))
