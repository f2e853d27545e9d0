# SPDX-License-Identifier: GPL-2.0-or-later
"""Which transactions relay logs hold, whole, and which of them are kept over a restart."""

import io
import struct
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import gtid, relay, relay_log
from slapos.recipe.erp5.mariadb.relay import Kept
from tests.unit.mariadb.partition import config as make_config

CHECKSUM = b"\1\2\3\4"


def event(kind: int, body: bytes = b"", server: int = 1) -> bytes:
    content = body + CHECKSUM
    return struct.pack("<IBIIIH", 0, kind, server, 19 + len(content), 0, 0) + content


def gtid_event(sequence: int, flags: int = 0, server: int = 1, domain: int = 0) -> bytes:
    return event(162, struct.pack("<QIB", sequence, domain, flags) + bytes(6), server)


def rows(sequence: int, **where: int) -> bytes:
    return gtid_event(sequence, **where) + event(19, b"table") + event(30, b"COMMIT in a row") + event(16, bytes(8))


def ddl(sequence: int) -> bytes:
    return gtid_event(sequence, flags=1) + event(2, b"CREATE TABLE t (a INT)")


def myisam(sequence: int) -> bytes:
    return gtid_event(sequence) + event(2, b"INSERT INTO t VALUES ('COMMIT')x") + event(2, b"\0erp5\0COMMIT")


FORMAT = event(15, b"10.11.19")


def write(path: Path, *events: bytes) -> Path:
    path.write_bytes(relay_log.MAGIC + b"".join((FORMAT, *events)))
    return path


def found(*paths: Path) -> str:
    return " ".join(str(group.gtid) for group in relay_log.groups(paths))


def test_each_kind_of_transaction(tmp_path):
    path = write(tmp_path / "r", rows(1), ddl(2), myisam(3), rows(4, server=9, domain=5))
    assert found(path) == "0-1-1 0-1-2 0-1-3 5-9-4"


@pytest.mark.parametrize("cut", [1, 5, 30, 60])
def test_what_breaks_off_was_not_received(tmp_path, cut):
    whole = write(tmp_path / "r", rows(1), rows(2)).read_bytes()
    (tmp_path / "r").write_bytes(whole[:-cut])
    assert found(tmp_path / "r") == "0-1-1"


def test_a_transaction_does_not_go_on_in_the_next_file(tmp_path):
    first = write(tmp_path / "1", rows(1), gtid_event(2))
    second = write(tmp_path / "2", event(16, bytes(8)), rows(2))
    assert found(first, second) == "0-1-1 0-1-2"


def test_something_else_is_no_relay_log(tmp_path):
    (tmp_path / "r").write_bytes(b"something else")
    with pytest.raises(ServerError, match=r"/r is no relay log"):
        found(tmp_path / "r")


def test_a_copy_has_exactly_what_is_wanted(tmp_path):
    path = write(tmp_path / "r", rows(1), ddl(2), rows(3))
    wanted = [group for group in relay_log.groups([path]) if group.gtid.sequence != 2]
    target = io.BytesIO()
    relay_log.copy(wanted, target)
    assert target.getvalue() == relay_log.MAGIC + FORMAT + rows(1) + rows(3)


# ---- what is kept


@pytest.fixture
def config(tmp_path):
    made = make_config(tmp_path)
    (made.data_directory / "master.info").touch()
    return made


def received(config, *events: bytes, number: int = 1, position: int = 4) -> None:
    """One relay log, of which all before `position` was applied."""
    name = f"relaylog.{number:06}"
    write(config.data_directory / name, *events)
    (config.data_directory / "relaylog.index").write_text(f"./{name}\n")
    (config.data_directory / "relay-log.info").write_text(f"5\n./{name}\n{position}\nbinlog.000001\n4\n0\n")


def kept(config) -> str:
    files = [config.data_directory / name for name in relay.load(config).files]
    assert sorted(files) == sorted(config.data_directory.glob("slapos.relay.2*"))
    return found(*files)


def test_what_was_not_applied_is_kept(config):
    received(config, rows(1), rows(2))
    relay.keep(config)
    assert kept(config) == "0-1-1 0-1-2"
    (config.data_directory / "relaylog.000001").unlink()
    assert [str(group.gtid) for group in relay.missing(config, "0-1-1")] == ["0-1-2"]
    assert relay.reached(config) == gtid.parse("0-1-2")


def test_what_was_applied_is_not(config):
    received(config, rows(1), position=4 + len(FORMAT) + len(rows(1)))
    relay.keep(config)
    assert relay.load(config) == Kept()


def test_a_restart_without_anything_new_forgets_nothing(config):
    received(config, rows(1), rows(2))
    relay.keep(config)
    received(config, number=2)
    relay.keep(config)
    assert kept(config) == "0-1-1 0-1-2"


def test_what_reaches_further_takes_its_place(config):
    received(config, rows(1), rows(2))
    relay.keep(config)
    received(config, rows(2), rows(3), number=2)
    relay.keep(config)
    assert kept(config) == "0-1-2 0-1-3"


def test_what_does_not_reach_as_far_is_kept_beside(config):
    received(config, rows(1), rows(2), rows(3))
    relay.keep(config)
    received(config, rows(1), number=2)
    relay.keep(config)
    assert kept(config) == "0-1-1 0-1-2 0-1-3 0-1-1"
    assert [group.gtid.sequence for group in relay.missing(config, "")] == [1, 2, 3]


def test_a_primary_keeps_nothing(config):
    received(config, rows(1))
    (config.data_directory / "master.info").unlink()
    relay.keep(config)
    assert relay.load(config) == Kept()


def test_it_goes_once_the_database_has_it(config):
    received(config, rows(1), rows(2))
    relay.keep(config)
    relay.forget_applied(config, "0-1-1")
    assert kept(config) == "0-1-1 0-1-2"
    relay.forget_applied(config, "0-1-2")
    assert not list(config.data_directory.glob("slapos.relay.*"))


# ---- at a takeover


class Server:
    """Stands in for the server: it executes up to `reaches`, and then `fails`."""

    def __init__(self, monkeypatch, reaches: str, fails: BaseException | None = None) -> None:
        self.position, self.slave_position, self.reaches, self.fails = "0-1-1", "0-1-1", reaches, fails
        self.gone = False
        monkeypatch.setattr(relay, "_execute", self.execute)
        monkeypatch.setattr(relay.sql_replication, "server_facts", self.facts)
        monkeypatch.setattr(relay.sql_role, "set_slave_position", self.set_position)

    def execute(self, config, path):
        self.position = self.reaches
        if self.fails:
            raise self.fails

    def facts(self, connection):
        if self.gone:
            raise ServerError("the server does not answer")
        return self

    def set_position(self, connection, position):
        self.slave_position = position


def apply(config) -> None:
    config.path("tmp").mkdir()
    received(config, rows(2), rows(3))
    relay.keep(config)
    relay.apply(config, None, relay.missing(config, "0-1-1"))


def test_after_all_is_applied_the_replica_goes_on_behind_that(config, monkeypatch):
    server = Server(monkeypatch, "0-1-3")
    apply(config)
    assert server.slave_position == "0-1-3"


@pytest.mark.parametrize("error", [ServerError("mariadb ended with status 1"), SystemExit(143)])
def test_applied_half_way_it_goes_on_behind_what_was_executed(config, monkeypatch, error):
    server = Server(monkeypatch, "0-1-2", error)
    with pytest.raises(type(error)) as raised:
        apply(config)
    assert raised.value is error
    assert server.slave_position == "0-1-2"


def test_applied_in_part_without_an_error_is_one(config, monkeypatch):
    server = Server(monkeypatch, "0-1-2")
    with pytest.raises(ServerError) as raised:
        apply(config)
    assert str(raised.value) == (
        "the received transactions that were kept could be applied up to GTID 0-1-2 only, expected 0-1-3: read "
        "var/log/mariadb-error.log"
    )
    assert server.slave_position == "0-1-2"


def test_a_server_that_is_gone_hides_no_error(config, monkeypatch):
    error = ServerError("mariadb ended with status 1")
    server = Server(monkeypatch, "0-1-2", error)
    server.gone = True
    with pytest.raises(ServerError) as raised:
        apply(config)
    assert (raised.value, server.slave_position) == (error, "0-1-1")
