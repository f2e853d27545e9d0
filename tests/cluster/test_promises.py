# SPDX-License-Identifier: GPL-2.0-or-later
"""What processing cannot mend makes a promise red without a loop or a bang; what it can mend, it mends."""

import contextlib
import json
import os
import re
import signal

import pymysql

from tests.cluster.node import eventually, only, processed_partitions


def bangs(node):
    """How often an instance asked for a bang, as the Master's log tells."""
    log = node.instances.parent / "var/log/slapos-proxy.log"
    return len(re.findall(r"softwareInstanceBang|computerPartitionBang|/bang", log.read_text(errors="replace")))


def assert_left_alone(node, instance, is_as_before, runs=10):
    """After one more processing, which this has to see, further runs do nothing."""
    assert processed_partitions(node.process("--force", *only(instance))), "this reads what is processed"
    assert_runs_do_nothing(node, instance, is_as_before, runs)


def assert_runs_do_nothing(node, instance, is_as_before, runs=10):
    """Over ten runs, the last of all partitions, nothing is processed and nobody bangs; `is_as_before()` stays true."""
    before, processed = bangs(node), []
    for options in [*[only(instance)] * (runs - 1), ()]:
        processed += processed_partitions(node.process(*options))
        assert is_as_before()
    assert (processed, bangs(node)) == ([], before)


def test_a_failing_promise_over_ten_runs_neither_bangs_nor_reprocesses(node, second):
    program = f"{second.path.name}:mariadb-control"
    names = node.slapos("supervisorctl", "status").stdout
    program = next(word for word in names.split() if word.startswith(program))
    node.process()
    assert node.slapos("supervisorctl", "stop", program).returncode == 0
    try:
        # As if it had died long ago; the promise gives it some minutes.
        state = second.path / "var/run/scheduler.json"
        written = json.loads(state.read_text())
        state.write_text(json.dumps(written | {"heartbeat": "2026-01-01T00:00:00Z"}))
        assert second.promises()["mariadb-backup"][0]
        assert_runs_do_nothing(node, second, lambda: second.promises()["mariadb-backup"][0])
    finally:
        node.slapos("supervisorctl", "start", program)
    second.wait_until_green()


def test_a_killed_server_is_back_by_itself_and_its_promise_tells(node, second):
    pid = second.pid()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (second.path / "var/run/mariadb.pid").exists() and second.pid() != pid, "mariadbd is back")
    pid = eventually(lambda: answering(second), "mariadbd answers")
    told = re.compile(
        r"the service mariadb was killed by SIGKILL at \S+, which nobody had asked for, after [0-9.]+ s, and was"
        r" started again \(once in the last 15 min\), expected no end that nobody asked for: read its logs for the"
        r" cause; this is said for 15 min"
    )
    eventually(lambda: told.fullmatch(second.promises()["mariadb-server"][1]), "the promise tells of it")
    assert second.promises()["mariadb-server"][0]
    assert_left_alone(node, second, lambda: second.pid() == pid)
    # Scenarios that come later want a green instance, and not in a quarter of an hour.
    program = service_name(node, second)
    assert node.slapos("supervisorctl", "stop", program).returncode == 0
    (second.path / "var/run/mariadb.supervisor.json").unlink()
    assert node.slapos("supervisorctl", "start", program).returncode == 0
    second.wait_until_green()


def answering(instance):
    """The pid of a server that answers, or nothing."""
    with contextlib.suppress(pymysql.MySQLError):
        instance.sql("SELECT 1")
        return instance.pid()
    return None


def service_name(node, instance):
    """The service mariadb as supervisorctl calls it."""
    words = node.slapos("supervisorctl", "status").stdout.split()
    return next(word for word in words if re.match(rf"{instance.path.name}:mariadb-[0-9a-f]{{32}}", word))
