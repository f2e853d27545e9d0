# SPDX-License-Identifier: GPL-2.0-or-later
"""The promise on real servers: what MariaDB and nginx really show is what it looks at."""

import os
import socket
import time
from datetime import timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import JOB, renew, status, verdict
from slapos.recipe.erp5.tls.files import Files
from tests.service import tls_fixtures
from tests.service.test_tls_join import by_hand
from tests.service.tls_fixtures import waiting_request


@pytest.fixture
def running(complete):
    """A running server with its authority and real certificates, loaded a while ago."""
    config = complete.config
    with tls_fixtures.authority(config):
        complete.run()
        assert tls_fixtures.renew_now(config) == 0
        state.save(config.scheduler_state, State(jobs=(Job(JOB, outcome=state.DONE, last_success=now_text()),)))
        age(config)
        yield config


def now_text():
    return times.text(times.now())


def age(config):
    """Make the files older than the time in which servers may show old ones."""
    before = time.time() - 600
    for path in config.tls.iterdir():
        os.utime(path, (before, before))


def judge(config, later=timedelta(0)):
    now = times.now() + later
    judged = verdict.certificates(status.gather(Certificates(config), now), now)
    return judged.good, "; ".join(judged.sentences)


def test_good(running):
    good, sentence = judge(running)
    assert good, sentence
    assert sentence.endswith("; shown by MariaDB")  # there is no nginx here


def test_late(running):
    good, sentence = judge(running, timedelta(days=75))
    assert not good
    assert sentence.count("of its life is left), expected it to be renewed under 33%") == 2
    assert "the revocation list crl.pem expired at " in sentence


def test_mariadb_that_did_not_read_the_new_one(running, monkeypatch):
    def fails(connection):
        raise sql.ServerError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(sql, "flush_ssl", fails)
        assert renew.Run(Certificates(running), times.now() + timedelta(days=63)).complete() == 1
    age(running)
    good, sentence = judge(running)
    assert not good
    assert sentence.startswith("MariaDB shows another certificate than the one in server.pem, expected it to have read")
    assert tls_fixtures.renew_now(running) == 0
    age(running)
    assert judge(running)[0]


def test_nginx_too(running):
    old = Files(running.tls).server.read_text()
    with tls_fixtures.endpoint(running):  # keeps what it has loaded
        assert judge(running)[1].endswith(f"; shown by MariaDB and nginx at 127.0.0.1:{running.network.backup_port}")
        assert renew.Run(Certificates(running), times.now() + timedelta(days=63)).complete() == 0
        assert Files(running.tls).server.read_text() != old
        age(running)
        good, sentence = judge(running)
        assert not good
        assert sentence.startswith(f"nginx at 127.0.0.1:{running.network.backup_port} shows another certificate than")


def test_a_revoked_or_missing_file(running):
    Files(running.tls).server.unlink()
    Files(running.tls).crl.write_text("x")
    good, sentence = judge(running)
    assert not good
    assert "server.pem cannot be used (it is missing)" in sentence
    assert "crl.pem cannot be used (it holds no revocation list)" in sentence
    assert tls_fixtures.renew_now(running) == 0
    age(running)
    assert judge(running)[0]


def test_a_request_that_waits(running, make_partition):
    replica = by_hand(make_partition(), running)
    waiting_request(replica)
    assert "the request for upstream/client.pem waits at " in judge(replica)[1]


def test_a_promise_is_quick_when_nobody_answers(config):
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", config.network.backup_port)):  # it says nothing
        judge(config)
    assert time.monotonic() - began < 3 * status.TIMEOUT
