# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about the server: each state of the world, and the whole line."""

import dataclasses
from pathlib import Path

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import progress, verdict
from slapos.recipe.erp5.mariadb.progress import State
from slapos.recipe.erp5.mariadb.sql_identity import Identity
from slapos.recipe.erp5.mariadb.status import Answer, ServerStatus
from slapos.recipe.erp5.supervisor import Ended, Service, Supervised

OURS = Identity("10.11.19-MariaDB", 7, "/p/srv/mariadb", 20001, ("127.0.0.2",), True, False, 7300)
OTHER = dataclasses.replace(OURS, server_id=8, data_directory="/q/srv/mariadb")
SOCKET, TCP = "/p/var/run/mariadb.sock", "127.0.0.2:20001"
UP = Answer(SOCKET, OURS)
EXPECTED = "expected server id 7 with its data in /p/srv/mariadb"


def status(local=UP, *network, **changes):
    values = {
        "server_id": 7,
        "data_directory": "/p/srv/mariadb",
        "port": 20001,
        "replication_user": "replication_user",
        "exists": True,
        "creating": False,
        "at_work": True,
        "error": "",
        "step": "",
        "local": local,
        "network": network or (Answer(TCP, OURS),),
        "service": Service(Path("/p/var/run"), "mariadb"),
        "at": times.parse("2026-11-22T12:00:00Z"),
    }
    return ServerStatus(**values | changes)


def problem(*arguments, **changes):
    judged = verdict.server(status(*arguments, **changes))
    assert not judged.good
    (sentence,) = judged.sentences
    return sentence


def summary(*arguments, **changes):
    judged = verdict.server(status(*arguments, **changes))
    assert judged.good
    (sentence,) = judged.sentences
    return sentence


def test_good():
    assert summary() == (f"MariaDB 10.11.19-MariaDB with server id 7 answers on {SOCKET} and {TCP}, up for 2 h")


def test_read_only_is_said():
    assert summary(Answer(SOCKET, dataclasses.replace(OURS, read_only=True))).endswith(", up for 2 h, read only")


def test_being_created():
    assert problem(Answer(SOCKET, error="nobody"), exists=False, creating=True, step="load the time zones") == (
        "the database is being created (last step: load the time zones), expected one that answers: "
        "wait, this ends by itself, and if it does not the service's log says why"
    )


def test_being_created_before_the_first_step():
    assert "(last step: none yet)" in problem(Answer(SOCKET, error="nobody"), exists=False, creating=True)


def test_creation_has_stopped():
    sentence = problem(Answer(SOCKET, error="nobody"), exists=False, creating=True, at_work=False, error="no room")
    assert sentence == (
        "the creation of the database has stopped (no room), expected a database that answers: remove that cause, "
        "then process the instance (slapos node instance --all), and the creation begins again"
    )


def test_no_database():
    assert problem(Answer(SOCKET, error="nobody"), exists=False) == (
        "there is no database in /p/srv/mariadb, expected one, as the service makes it when it starts: process the "
        "instance (slapos node instance --all) to start the service, and if that does not help read its log"
    )


def test_down():
    assert problem(Answer(SOCKET, error="nobody"), Answer(TCP, error="refused")) == (
        f"no server answers on {SOCKET} (nobody), {EXPECTED}: read var/log/mariadb-error.log, "
        "and process the instance (slapos node instance --all) to start the service"
    )


def test_down_with_a_step_before():
    assert problem(Answer(SOCKET, error="nobody"), Answer(TCP, error="refused"), step="upgrade") == (
        f"no server answers on {SOCKET} (nobody; the service's last step: upgrade), {EXPECTED}: "
        "read var/log/mariadb-error.log, and process the instance (slapos node instance --all) to start the service"
    )


def test_down_and_a_foreign_server_on_the_port():
    judged = verdict.server(status(Answer(SOCKET, error="nobody"), Answer(TCP, OTHER)))
    assert judged.sentences[1:] == (
        f"the server on {TCP} has server id 8 and its data in /q/srv/mariadb, {EXPECTED}: "
        "stop it if it is not this instance's, and restart the service",
    )


def test_down_and_a_refusing_server_on_the_port():
    judged = verdict.server(status(Answer(SOCKET, error="nobody"), Answer(TCP, error="denied (1045)", refused=True)))
    assert judged.sentences[1:] == (
        f"a server refuses replication_user on {TCP} (denied (1045)), {EXPECTED}, which is down: "
        "stop what holds the port if something does, and restart the service",
    )


def test_foreign_server_on_the_socket():
    assert problem(Answer(SOCKET, OTHER)) == (
        f"the server on {SOCKET} has server id 8 and its data in /q/srv/mariadb, {EXPECTED}: "
        "stop it if it is not this instance's, and restart the service"
    )


def test_the_same_server_id_with_other_data_is_foreign():
    assert "server id 7 and its data in /q" in problem(UP, Answer(TCP, dataclasses.replace(OTHER, server_id=7)))


def test_administrator_refused():
    assert problem(Answer(SOCKET, error="denied (1045)", refused=True)) == (
        f"the server on {SOCKET} refuses slapos_administrator (denied (1045)), expected it to accept the password in "
        "etc/mariadb.cnf: restart the service, which makes that account again"
    )


def test_tcp_blocked():
    assert problem(UP, Answer(TCP, error="timed out")) == (
        f"no server answers on {TCP} (timed out), {EXPECTED}, which answers on its socket: "
        "raise max-connection-count if it has too many, else look for a firewall or a missing address"
    )


def test_another_port_than_configured():
    local = Answer(SOCKET, dataclasses.replace(OURS, port=20009))
    assert problem(local, Answer(TCP, error="refused")) == (
        f"no server answers on {TCP} (refused), {EXPECTED}, which listens on port 20009 of 127.0.0.2: "
        "stop what holds the port if something does, and restart the service"
    )


def test_network_off():
    local = Answer(SOCKET, dataclasses.replace(OURS, networking=False))
    assert problem(local, Answer(TCP, error="refused")) == (
        f"the server on {SOCKET} has its network off, expected it to listen on {TCP}: mariadb-control restarts the"
        " service for that within two minutes; if it does not, write restart into /p/var/run/mariadb.supervise"
    )


def test_network_off_as_asked_for():
    local = Answer(SOCKET, dataclasses.replace(OURS, networking=False, read_only=True))
    assert summary(local, Answer(TCP, error="refused"), silent=True) == (
        f"MariaDB 10.11.19-MariaDB with server id 7 answers on {SOCKET}, up for 2 h, read only, its network off"
    )


def test_network_on_that_should_be_off():
    assert problem(UP, Answer(TCP, OURS), silent=True) == (
        f"the server on {SOCKET} listens on port 20001 of 127.0.0.2, expected its network off, as "
        "replication.allow-tcp-connections-on-replica is false and the database is a replica: mariadb-control restarts"
        " the service for that within two minutes; if it does not, write restart into /p/var/run/mariadb.supervise"
    )


ENDED = (
    Ended("2026-11-22T10:00:00Z", "ended with status 1", 3.0),
    Ended("2026-11-22T11:50:00Z", "was killed by SIGSEGV", 7200.5),
)
RUNS = Supervised(5, 6, "running", "2026-11-22T11:50:01Z", "", ENDED, ())
WAITS = Supervised(5, 0, "waiting", "2026-11-22T11:59:59Z", "2026-11-22T12:01:00Z", ENDED, ())
STOPPED = Supervised(5, 0, "stopped", "2026-11-22T11:59:59Z", "", (), ())
NOBODY = Answer(SOCKET, error="nobody")


def test_a_crash_is_told_for_a_while_and_counted_later():
    assert problem(supervised=RUNS) == (
        "the service mariadb was killed by SIGSEGV at 2026-11-22T11:50:00Z, which nobody had asked for, after 7200.5 s,"
        " and was started again (once in the last 15 min), expected no end that nobody asked for: read its logs for the"
        " cause; this is said for 15 min"
    )
    assert summary(supervised=RUNS, at=times.parse("2026-11-22T12:05:00Z")) == (
        f"MariaDB 10.11.19-MariaDB with server id 7 answers on {SOCKET} and {TCP}, up for 2 h; it was killed by SIGSEGV"
        " at 2026-11-22T11:50:00Z, which nobody had asked for, after 7200.5 s, and was started again (2 times since"
        " 2026-11-22T10:00:00Z)"
    )
    assert summary(supervised=dataclasses.replace(RUNS, ends=())).endswith("up for 2 h")


def test_waiting_after_a_crash():
    assert problem(NOBODY, Answer(TCP, error="refused"), supervised=WAITS) == (
        "the service mariadb was killed by SIGSEGV at 2026-11-22T11:50:00Z, which nobody had asked for, after 7200.5 s,"
        " expected it to run: read its logs and remove the cause; it starts again by itself at 2026-11-22T12:01:00Z"
        " (once in the last 15 min)"
    )


def test_started_again_and_not_up_yet():
    sentences = verdict.server(status(NOBODY, Answer(TCP, error="refused"), supervised=RUNS)).sentences
    assert [sentence.partition(" (")[0] for sentence in sentences] == [
        "the service mariadb was killed by SIGSEGV at 2026-11-22T11:50:00Z, which nobody had asked for, after 7200.5 s,"
        " and was started again",
        f"no server answers on {SOCKET}",
    ]


def test_stopped_by_request():
    sentence = (
        "the service mariadb was stopped at 2026-11-22T11:59:59Z by a request to its supervisor, expected it to run:"
        " wait for the program that asked, or write start into /p/var/run/mariadb.supervise"
    )
    assert problem(NOBODY, Answer(TCP, error="refused"), supervised=STOPPED) == sentence
    assert problem(NOBODY, exists=False, at_work=False, supervised=STOPPED) == sentence


def test_a_creation_that_failed_is_tried_again():
    sentence = problem(NOBODY, exists=False, creating=True, at_work=False, error="no room", supervised=WAITS)
    assert sentence == (
        "the creation of the database has failed (no room), expected a database that answers: remove that cause; the"
        " creation begins again by itself at 2026-11-22T12:01:00Z"
    )
    again = dataclasses.replace(RUNS, ends=(ENDED[1],))
    assert "is being created" in problem(NOBODY, exists=False, creating=True, supervised=again)


BOOTSTRAP = State(stage="unpack", method="stored physical", since="2026-11-22T11:00:00Z")


def test_a_replica_that_is_being_made_is_no_failure():
    nobody = Answer(SOCKET, error="nobody")
    assert summary(nobody, exists=False, creating=True, bootstrap=BOOTSTRAP) == (
        "the replica is being made by stored physical since 2026-11-22T11:00:00Z: unpack"
    )
    assert "has stopped" in problem(nobody, exists=False, creating=True, at_work=False, bootstrap=BOOTSTRAP)
    done = dataclasses.replace(BOOTSTRAP, stage=progress.COMPLETE)
    assert "is being created" in problem(nobody, exists=False, creating=True, bootstrap=done)


def test_a_refusal_by_our_own_server_is_an_answer():
    """People may change or drop the account; and over IPv6 it needs a certificate."""
    assert summary(UP, Answer(TCP, error="denied", refused=True)) == (
        f"MariaDB 10.11.19-MariaDB with server id 7 answers on {SOCKET} and {TCP}, up for 2 h; "
        f"replication_user cannot log in on {TCP}"
    )


def test_a_refusal_on_an_address_that_ours_does_not_hold_is_a_foreign_server():
    local = Answer(SOCKET, dataclasses.replace(OURS, addresses=("127.0.0.3", "::1")))
    assert problem(local, Answer(TCP, error="denied (1045)", refused=True)) == (
        f"a server refuses replication_user on {TCP} (denied (1045)), {EXPECTED}, "
        "which listens on port 20001 of 127.0.0.3 and ::1: "
        "stop what holds the port if something does, and restart the service"
    )


def test_ipv6_and_any_address():
    for addresses in (("127.0.0.2", "::1"), ("*",)):
        local = Answer(SOCKET, dataclasses.replace(OURS, addresses=addresses))
        answers = (Answer(TCP, local.identity), Answer("[::1]:20001", error="denied", refused=True))
        assert summary(local, *answers).endswith("; replication_user cannot log in on [::1]:20001")


def test_each_address_is_judged():
    judged = verdict.server(status(UP, Answer(TCP, error="timed out"), Answer("[::1]:20001", OTHER)))
    assert [sentence.partition(" (")[0][:24] for sentence in judged.sentences] == [
        "no server answers on 127",
        "the server on [::1]:2000",
    ]


def test_the_account_of_a_replica_is_called_as_its_primary_s():
    refusing = Answer(TCP, error="denied (1045)", refused=True)
    assert summary(UP, refusing, replication_user="upstream").endswith(f"; upstream cannot log in on {TCP}")
    down = verdict.server(status(Answer(SOCKET, error="nobody"), refusing, replication_user="upstream"))
    assert down.sentences[1].startswith(
        f"a server refuses upstream on {TCP} (denied (1045)), {EXPECTED}, which is down: "
    )
