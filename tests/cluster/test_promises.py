# SPDX-License-Identifier: GPL-2.0-or-later
"""What processing cannot mend makes a promise red without a loop or a bang; what it can mend, it mends."""

import json
import os
import re
import signal

from tests.cluster.node import eventually, processed_partitions


def bangs(node):
    """How often an instance asked for a bang, as the Master's log tells."""
    log = node.instances.parent / "var/log/slapos-proxy.log"
    return len(re.findall(r"softwareInstanceBang|computerPartitionBang|/bang", log.read_text(errors="replace")))


def assert_left_alone(node, is_as_before):
    """Over ten runs nothing is processed and nobody bangs, while `is_as_before()` stays true."""
    assert processed_partitions(node.process("--all")), "this reads what is processed"
    before, processed = bangs(node), []
    for _ in range(10):
        processed += processed_partitions(node.process())
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
        before, processed = bangs(node), []
        for _ in range(10):
            processed += processed_partitions(node.process())
            assert second.promises()["mariadb-backup"][0]
        assert (processed, bangs(node)) == ([], before)
    finally:
        node.slapos("supervisorctl", "start", program)
    second.wait_until_green()


def test_a_killed_server_turns_its_promise_red_and_processing_starts_it_again(node, second):
    pid = second.pid()
    os.kill(pid, signal.SIGKILL)
    failed, message = eventually(
        lambda: (lambda result: result if result[0] else None)(second.promises()["mariadb-server"]),
        "the server's promise is red",
    )
    assert failed
    assert str(second.path / "var/run/mariadb.sock") in message
    node.process("--all")
    second.wait_until_green()
    assert second.pid() != pid
