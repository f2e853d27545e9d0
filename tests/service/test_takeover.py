# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica takes over: nothing that it has received is lost, and one primary is writable, whoever is killed when."""

import dataclasses
from collections.abc import Callable

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import action, journal
from slapos.recipe.erp5.control.actions import perform
from slapos.recipe.erp5.control.peer_client import PeerUnreachable
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import (
    peer_actions,
    replication_status,
    replication_verdict,
    role_state,
    sql,
    takeover,
)
from slapos.recipe.erp5.mariadb.actions import ACTIONS
from slapos.recipe.erp5.mariadb.config import Config
from tests.service import servers
from tests.service.replication_fixtures import (
    Pair,
    note,
    replica_config,
    replica_service,
    share_certificates,
    temporary_partition,
)
from tests.service.replication_fixtures import address as replication_address
from tests.service.replication_fixtures import services as services
from tests.service.servers import Service, query, wait_for
from tests.service.takeover_fixtures import (
    Point,
    Writer,
    applying_held,
    insert,
    is_writable,
    receive_without_applying,
    received,
    rows,
    run,
    run_killed,
    said,
    state,
)
from tests.service.takeover_fixtures import made as made
from tests.service.takeover_fixtures import pair as pair
from tests.service.test_supervisor import Supervision, finish

POINTS: list[Point] = [
    ("sql_role", "stop_receiving", "before"),
    ("sql_role", "stop_receiving", "after"),
    ("drain", "_apply_all", "after"),
    ("promote", "begin", "after"),
    ("sql_role", "stop_replica", "after"),
    ("sql_replication", "forget_primary", "after"),
    ("sql_role", "set_writable", "after"),
    ("sql_role", "enable_event", "after"),
    ("networking", "open_up", "after"),
]
DETACHING: list[Point] = [
    ("drain", "_apply_all", "after"),
    ("sql_replication", "forget_primary", "after"),
    ("sql_role", "set_writable", "after"),
]
FOLLOWING: list[Point] = [
    ("demote", "get_certificate", "after"),
    ("sql_role", "stop_receiving", "after"),
    ("sql_role", "stop_replica", "after"),
    ("sql_replication", "change_primary", "before"),
    ("sql_replication", "change_primary", "after"),
]


def address(pair: Pair) -> str:
    return f"127.0.0.1:{pair.primary.config.network.port}"


def test_the_primary_is_killed_under_writes_and_no_received_row_is_lost(pair: Pair) -> None:
    writer = Writer(pair.primary.config)
    wait_for(lambda: len(writer.acknowledged) > 100, "rows")
    with applying_held(pair.replica.config) as release:
        before = len(writer.acknowledged)
        wait_for(lambda: len(writer.acknowledged) > before + 200, "rows that are not applied")
        pair.primary.kill()
        writer.join()
        # What the primary had sent when it died is received still.
        wait_for(lambda: pair.source().io.running != "Yes", "the end of the connection")
        got = received(pair.replica.config)
        release()
        done = run(pair.replica.config, "takeover")
    assert done.returncode == 0, done.stderr
    position = query(pair.replica.config, "SELECT @@gtid_slave_pos")[0][0]
    assert position == got
    here = set(rows(pair.replica.config))
    # Asynchronous: what was never received can be lost, and that is the end of what was written.
    assert [number for number in writer.acknowledged if number in here] == writer.acknowledged[: len(here)]
    assert is_writable(pair.replica.config)
    assert said(done).startswith(
        f"this database is the primary now, writable at 127.0.0.1:{pair.replica.config.network.port}, from GTID {got} "
        f"on, in place of {address(pair)}; the old primary at {address(pair)} could not be fenced, as its takeover-url "
        "is not known here: see that nobody writes to it"
    )


def test_events_fire_on_the_new_primary_as_whom_they_were_defined(pair: Pair) -> None:
    pair.primary.kill()
    statement = "SELECT event_name, status, definer FROM information_schema.events ORDER BY event_name"
    before = dict((name, (status, definer)) for name, status, definer in query(pair.replica.config, statement))
    assert before["e"] == ("SLAVESIDE_DISABLED", "erp5_user@localhost")
    assert run(pair.replica.config, "takeover").returncode == 0
    after = dict((name, (status, definer)) for name, status, definer in query(pair.replica.config, statement))
    assert after["e"] == ("ENABLED", "erp5_user@localhost")
    assert journal.last(pair.replica.config, 1)[0].details["events"] == ["erp5.e"]


@pytest.mark.parametrize("point", POINTS, ids=" ".join)
def test_the_program_is_killed_and_the_next_call_completes_it(pair: Pair, point: Point) -> None:
    receive_without_applying(pair, range(50))
    query(pair.replica.config, "START SLAVE SQL_THREAD")
    killed = run_killed(pair.replica.config, point, "takeover")
    assert killed.returncode == -9, killed.stderr
    done = run(pair.replica.config, "takeover")
    assert done.returncode == 0, done.stderr
    _is_complete(pair)


@pytest.mark.parametrize("point", POINTS, ids=" ".join)
def test_the_server_is_killed_and_the_next_call_completes_it(pair: Pair, point: Point) -> None:
    receive_without_applying(pair, range(50))
    killed = run_killed(pair.replica.config, point, "takeover", server=True)
    pair.replica.kill()
    pair.replica.run()
    if killed.returncode:  # it can end well where it had nothing to ask the server for any more
        done = run(pair.replica.config, "takeover")
        assert done.returncode == 0, done.stderr
    _is_complete(pair)


def _is_complete(pair: Pair) -> None:
    config = pair.replica.config
    assert rows(config) == list(range(50))
    assert is_writable(config)
    assert not query(config, "SHOW ALL SLAVES STATUS")
    assert query(config, "SELECT status FROM information_schema.events WHERE event_name = 'e'") == [("ENABLED",)]
    assert state(config)["promotion"] is None
    assert state(config)["last"]["action"] == "takeover"
    pair.replica.restart()
    assert is_writable(config)


def test_what_was_received_outlives_a_restart_without_a_primary(pair: Pair) -> None:
    receive_without_applying(pair, range(200))
    pair.replica.restart()
    assert rows(pair.replica.config) == []
    pair.replica.kill()
    pair.replica.run()
    done = run(pair.replica.config, "takeover")
    assert done.returncode == 0, done.stderr
    assert "step: apply 200 transactions that were received before the server was restarted" in done.stderr
    assert rows(pair.replica.config) == list(range(200))
    assert not list(pair.replica.config.data_directory.glob("slapos.relay.*"))


def test_kept_relay_logs_go_once_the_primary_is_back(pair: Pair) -> None:
    receive_without_applying(pair, range(50))
    pair.replica.restart()
    assert list(pair.replica.config.data_directory.glob("slapos.relay.*relaylog*"))
    pair.primary.run()
    wait_for(lambda: rows(pair.replica.config) == list(range(50)), "the rows")
    replication_status.gather(pair.replica.config, times.now())
    assert not list(pair.replica.config.data_directory.glob("slapos.relay.*"))


def test_it_is_refused_when_something_received_cannot_be_applied(pair: Pair) -> None:
    config = pair.replica.config
    with servers.administrator(config) as connection:
        cursor = connection.cursor()
        cursor.execute("SET sql_log_bin = 0")
        cursor.execute("INSERT INTO erp5.t VALUES (5, 'in the way')")
    insert(pair.primary.config, range(10))
    position = query(pair.primary.config, "SELECT @@gtid_binlog_pos")[0][0]
    wait_for(lambda: received(config) == position, "the replica to receive")
    wait_for(lambda: pair.source().sql.running != "Yes", "the thread to stop")
    pair.primary.kill()
    refused = run(config, "takeover")
    assert refused.returncode == 1
    assert "the thread that applies is stopped (" in said(refused)
    assert "and 5 transactions were received and not applied, expected it to run" in said(refused)
    assert said(refused).endswith("or force it (--force), and accept that")
    assert not is_writable(config)
    assert query(config, "SHOW ALL SLAVES STATUS")
    assert journal.last(config, 1)[0].outcome == "refused"
    forced = run(config, "takeover", "--force")
    assert forced.returncode == 0, forced.stderr
    assert rows(config) == [0, 1, 2, 3, 4, 5]
    assert is_writable(config)
    assert list(config.data_directory.glob("slapos.relay.*relaylog*"))  # what was left out, for people


def test_a_primary_that_answers_is_not_taken_over_without_its_token_or_force(pair: Pair) -> None:
    refused = run(pair.replica.config, "takeover")
    assert refused.returncode == 1
    assert said(refused) == (
        f"error: takeover is refused: the primary at {address(pair)} answers, and could go on writing, expected to be "
        "able to fence it: give its takeover-url (control-url), or stop it, or use bin/mariadb-switchover; or force it "
        "(--force), and accept that"
    )
    assert not is_writable(pair.replica.config)
    forced = run(pair.replica.config, "takeover", "--force")
    assert forced.returncode == 0, forced.stderr
    assert f"the old primary at {address(pair)} answers and is not fenced" in said(forced)


def test_a_takeover_is_not_done_twice(pair: Pair) -> None:
    pair.primary.kill()
    assert run(pair.replica.config, "takeover").returncode == 0
    again = run(pair.replica.config, "takeover")
    assert again.returncode == 1
    assert said(again) == (
        "error: takeover is refused: this database is a primary, expected a replica: there is nothing to take over"
    )


def test_one_at_a_time(pair: Pair) -> None:
    with action.running(pair.replica.config, "detach", "page"):
        busy = run(pair.replica.config, "takeover")
    assert busy.returncode == 75
    assert " runs here since " in said(busy)


def test_detach_leaves_the_primary_and_the_events_alone(pair: Pair) -> None:
    insert(pair.primary.config, range(20))
    done = run(pair.replica.config, "detach")
    assert done.returncode == 0, done.stderr
    assert is_writable(pair.replica.config)
    assert is_writable(pair.primary.config)
    assert state(pair.replica.config)["authority-dropped"] is True
    statement = "SELECT status FROM information_schema.events WHERE event_name = 'e'"
    assert query(pair.replica.config, statement) == [("SLAVESIDE_DISABLED",)]
    pair.replica.restart()
    assert is_writable(pair.replica.config)


@pytest.mark.parametrize("point", DETACHING, ids=" ".join)
def test_a_detach_is_killed_and_the_next_call_completes_it(pair: Pair, point: Point) -> None:
    receive_without_applying(pair, range(50))
    query(pair.replica.config, "START SLAVE SQL_THREAD")
    assert run_killed(pair.replica.config, point, "detach").returncode == -9
    done = run(pair.replica.config, "detach")
    assert done.returncode == 0, done.stderr
    assert rows(pair.replica.config) == list(range(50))
    assert is_writable(pair.replica.config)
    assert (state(pair.replica.config)["authority-dropped"], state(pair.replica.config)["promotion"]) == (True, None)
    statement = "SELECT status FROM information_schema.events WHERE event_name = 'e'"
    assert query(pair.replica.config, statement) == [("SLAVESIDE_DISABLED",)]


def test_a_fence_holds_over_restarts_until_it_is_taken_away(pair: Pair) -> None:
    config = pair.primary.config
    with servers.login(config, "erp5_user", servers.NASTY_PASSWORD, "erp5", "localhost") as writer:
        with writer.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t VALUES (1, 'never committed')")
        done = run(config, "fence")
        assert done.returncode == 0, done.stderr
        position = query(config, "SELECT @@gtid_binlog_pos")[0][0]
        assert said(done) == (
            f"this database refuses writes, at GTID {position}, over restarts too, until bin/mariadb-resume"
        )
    assert rows(config) == []
    assert not is_writable(config)
    pair.primary.restart()
    assert not is_writable(config)
    resumed = run(config, "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert is_writable(config)
    pair.primary.restart()
    assert is_writable(config)


def test_a_primary_that_does_not_run_is_fenced_for_when_it_does(pair: Pair) -> None:
    pair.primary.kill()
    done = run(pair.primary.config, "fence")
    assert done.returncode == 0, done.stderr
    assert said(done) == "no server runs here, and when one starts it refuses writes, until bin/mariadb-resume"
    pair.primary.run()
    assert not is_writable(pair.primary.config)


def test_a_long_statement_keeps_a_fence_away(pair: Pair) -> None:
    config = pair.primary.config
    with servers.administrator(config) as connection:
        sql.execute(connection, "LOCK TABLES erp5.t WRITE")
        done = run(config, "fence")
    assert done.returncode == 1
    assert said(done).startswith(
        "error: this database is still writable, as it could not be made read-only within 5 s (MariaDB refused SET"
    )
    assert is_writable(config)
    pair.primary.restart()
    assert is_writable(config)


def test_the_promise_says_what_to_change(pair: Pair) -> None:
    pair.primary.kill()
    assert run(pair.replica.config, "takeover").returncode == 0
    config = pair.replica.config
    last = role_state.load(config).last
    assert last
    at = last.at
    verdict = replication_verdict.replication(replication_status.gather(config, times.now()), times.now())
    assert not verdict.good
    assert verdict.sentences[0] == (
        f"this database was taken over at {at} (it was a replica of {address(pair)} before) and is a primary now, "
        f"while replication.primary-url still asks for a replica of {address(pair)}, expected parameters that say what "
        "it is: remove the parameter replication, which restarts nothing; nobody has fenced the old primary at "
        f"{address(pair)}: see that it does not come back as one"
    )
    servers.write_json(dataclasses.replace(config, replication=None))
    verdict = replication_verdict.replication(replication_status.gather(servers.load(config), times.now()), times.now())
    assert verdict.good
    assert verdict.sentences[0].startswith("Mariadb is a primary, at GTID")


# ---- a primary whose token is known


class _Peer:
    """The primary's own answers, without the way to it (which control/peer_client.py is)."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, url: str) -> "_Peer":
        return self

    def __enter__(self) -> "_Peer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ready(self, timeout: float) -> None:
        pass

    def call(self, name: str, parameters: dict[str, str], timeout: float) -> dict[str, object]:
        return peer_actions.do(self._config, name, parameters)


class _Silent(_Peer):
    def ready(self, timeout: float) -> None:
        raise PeerUnreachable("127.0.0.1:1 does not answer")


URL = "https://127.0.0.1:1/#" + 32 * "a"


def test_a_primary_that_answers_is_fenced_and_all_that_it_has_is_taken_along(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "Peer", _Peer(pair.primary.config))
    config = pair.replica.config
    writer = Writer(pair.primary.config)
    wait_for(lambda: len(writer.acknowledged) > 100, "rows")
    sentence = perform(config, ACTIONS["takeover"], "page", {"control-url": URL})
    writer.join()
    assert sentence.endswith(f"; the old primary at {address(pair)} is fenced")
    assert rows(config) == rows(pair.primary.config)
    assert set(writer.acknowledged) <= set(rows(config))
    assert (is_writable(pair.primary.config), is_writable(config)) == (False, True)
    pair.primary.restart()
    assert not is_writable(pair.primary.config)


def test_a_primary_that_answers_and_cannot_be_fenced_stays_the_primary(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "Peer", _Silent(pair.primary.config))
    config = pair.replica.config
    with pytest.raises(ServerError) as raised:
        perform(config, ACTIONS["takeover"], "page", {"control-url": URL})
    assert str(raised.value) == (
        f"the primary at {address(pair)} answers and could not be fenced (127.0.0.1:1 does not answer), expected it to "
        "refuse writes: this database is a replica still, and the other one as it was, unless it is fenced a moment "
        "later; remove the cause, or force it"
    )
    assert (is_writable(pair.primary.config), is_writable(config)) == (True, False)


def test_a_dead_primary_is_to_be_fenced_when_it_comes_back(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "Peer", _Silent(pair.primary.config))
    pair.primary.kill()
    sentence = perform(pair.replica.config, ACTIONS["takeover"], "page", {"control-url": URL})
    assert sentence.endswith(
        f"; the old primary at {address(pair)} is not fenced yet (127.0.0.1:1 does not answer): that is tried until it"
        " succeeds"
    )
    pending = role_state.load(pair.replica.config).fence_pending
    assert pending
    assert (pending.address, pending.control_url) == (address(pair), URL)


# ---- without TCP


def test_a_replica_without_tcp_opens_it(pair: Pair) -> None:
    config = pair.replica.config
    silent = dataclasses.replace(config.replication, allow_tcp_connections_on_replica=False)
    servers.write_json(dataclasses.replace(config, replication=silent))
    pair.replica.end()
    service = Supervision(config)
    try:
        service.run()
        assert query(config, "SELECT @@skip_networking") == [(1,)]
        pair.primary.kill()
        done = run(config, "takeover")
        assert done.returncode == 0, done.stderr
        assert "step: restart the server with TCP, as it listens on its socket alone" in done.stderr
        assert query(config, "SELECT @@skip_networking, @@read_only") == [(0, 0)]
        # No private server: the restart takes a moment.
        assert "step: prepare the start" not in service.log().rpartition("step: serve")[0].rpartition("step: serve")[2]
        servers.login(config, "erp5_user", servers.NASTY_PASSWORD, "erp5").close()
        assert not (replication_status.gather(config, times.now()).role.promotion)
    finally:
        finish(service)


# ---- follow


def test_a_second_replica_follows_the_new_primary(pair: Pair, services: Callable[[Service], Service]) -> None:
    with temporary_partition() as config:
        config = replica_config(lambda **changes: _rewritten(config, **changes), pair.primary.config)
        second = services(replica_service(config, note(replication_address(pair.primary.config))))
        second.run()
        insert(pair.primary.config, range(20))
        Pair(pair.primary, second).wait()
        assert rows(config) == list(range(20))
        pair.primary.kill()
        assert run(pair.replica.config, "takeover").returncode == 0
        share_certificates(pair.replica.config, config)  # as the exchange would, which takes nginx
        url = f"mysql://127.0.0.1:{pair.replica.config.network.port}"
        for point in FOLLOWING:
            killed = run_killed(config, point, *_follow(config, url))
            assert killed.returncode == -9, killed.stderr
            assert query(config, "SHOW ALL SLAVES STATUS")
            assert not is_writable(config)
        run_killed(config, ("sql_role", "start_replica", "before"), *_follow(config, url), server=True)
        second.kill()
        second.run()
        assert query(config, "SHOW ALL SLAVES STATUS")
        done = run(config, "follow", "--primary-url-file", "-", stdin=url)
        assert done.returncode == 0, done.stderr
        assert said(done) == f"this database is a replica of {url.removeprefix('mysql://')} now"
        insert(pair.replica.config, range(100, 120))
        wait_for(lambda: rows(config) == [*range(20), *range(100, 120)], "the rows of the new primary")
        verdict = replication_verdict.replication(replication_status.gather(config, times.now()), times.now())
        at = state(config)["last"]["at"]
        assert verdict.sentences[0] == (
            f"this database replicates from {url.removeprefix('mysql://')} since {at} (by follow), while "
            f"replication.primary-url still says {address(pair)}, expected parameters that say what it is: set "
            "replication.primary-url to the replication-primary-url of "
            f"{url.removeprefix('mysql://')}, which restarts nothing"
        )


def test_a_primary_that_lacks_something_is_not_followed(pair: Pair) -> None:
    with temporary_partition() as config, servers.running(config) as other:
        share_certificates(config, pair.replica.config)
        url = f"mysql://replication_user:replication-secret-4567@127.0.0.1:{config.network.port}"
        refused = run(pair.replica.config, "follow", "--primary-url-file", "-", stdin=url)
        assert refused.returncode == 1
        assert f"this replica has transactions that 127.0.0.1:{config.network.port} has not (GTID " in said(refused)
        assert said(refused).endswith(
            f", expected none: it goes on with {address(pair)}; have it made anew from 127.0.0.1:{config.network.port}"
        )
        assert other.answers()
    assert pair.source().address == address(pair)
    assert pair.source().io.running in ("Yes", "Connecting", "Preparing")


def _rewritten(config: Config, **changes: object) -> Config:
    changed = dataclasses.replace(config, **changes)
    servers.write_config(changed)
    return changed


def _follow(config: Config, url: str) -> tuple[str, ...]:
    path = config.path("tmp", "url")
    path.write_text(url)
    return "follow", "--primary-url-file", str(path)
