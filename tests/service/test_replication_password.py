# SPDX-License-Identifier: GPL-2.0-or-later
"""Another replication password while a replica runs: nobody is locked out on the way, and nothing is printed."""

import json
import subprocess
from collections.abc import Iterator

import pymysql
import pytest

from slapos.recipe.erp5.mariadb import primary, replication_password, sql_replication
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers
from tests.service.replication_fixtures import KeptPair, Pair, address, kept_pair
from tests.service.test_replica import own_events

OLD = "replication-secret-4567"


@pytest.fixture(scope="module")
def kept() -> Iterator[KeptPair]:
    with kept_pair() as kept:
        yield kept


@pytest.fixture
def pair(kept: KeptPair) -> Iterator[Pair]:
    with kept.begun() as pair:
        yield pair


def run(config: Config, option: str, given: str = "") -> subprocess.CompletedProcess:
    program = config.path("bin", "mariadb-replication-password")
    servers.write_program(program, "slapos.recipe.erp5.mariadb.replication_password")
    command = [program, "--config", config.path("etc", "mariadb.json"), option]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def sentence(done: subprocess.CompletedProcess) -> str:
    """Of a refusal: its one line, without the time."""
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1].split(" ", 2)[2]


def password(config: Config) -> str:
    return json.loads(config.path("etc", "mariadb.json").read_text())["secrets"]["replication-password"]


def accepted(config: Config, secret: str) -> bool:
    try:
        sql_replication.connect_primary(address(config, password=secret), Files(config.tls), 10).close()
    except sql_replication.sql.AccessDenied:
        return False
    return True


def requirement(config: Config) -> str:
    """What the account requires besides a password."""
    return servers.accounts(config)["replication_user@%.%.%.%"].splitlines()[0].partition("REQUIRE")[2]


def test_a_rotation_with_a_running_replica(pair):
    here, there = pair.primary.config, pair.replica.config
    required = requirement(here)

    rotated = run(here, "--rotate")
    assert rotated.returncode == 0, rotated.stderr
    new = password(here)
    assert new != OLD and len(new) == 32 and new.isalnum()
    assert replication_password.kept(here).read_text() == new
    assert not replication_password.pending(here).exists()
    assert accepted(here, OLD) and accepted(here, new)
    assert "process the instance (slapos node instance)" in rotated.stderr

    # The replica is not disturbed, and learns of both passwords of the account by replication.
    pair.wait()
    servers.query(there, "STOP SLAVE")
    servers.query(there, "START SLAVE")
    servers.wait_for(lambda: pair.source().io.running == "Yes", "the replica to come back with the old password")
    assert servers.accounts(there)["replication_user@%.%.%.%"] == servers.accounts(here)["replication_user@%.%.%.%"]

    url = primary.url(address(here, password=new, endpoint="https://127.0.0.1:1"))
    given = run(there, "--set", url + "\n")
    assert given.returncode == 0, given.stderr
    assert (password(there), replication_password.kept(there).read_text()) == (new, new)

    assert run(here, "--finish").returncode == 0
    assert accepted(here, new) and not accepted(here, OLD)
    servers.query(here, "CREATE DATABASE after_it")
    pair.wait()
    servers.query(there, "STOP SLAVE")
    servers.query(there, "START SLAVE")
    servers.wait_for(lambda: pair.source().io.running == "Yes", "the replica to come back with the new password")
    assert ("after_it",) in servers.query(there, "SHOW DATABASES")
    assert own_events(there) == []
    assert requirement(here) == required != ""
    assert run(here, "--finish").returncode == 0  # again, with nothing to do

    for done in (rotated, given):
        assert new not in done.stderr + done.stdout and OLD not in done.stderr + done.stdout
    for config in (here, there):
        logs = [path for path in config.path("var", "log").iterdir() if path.is_file()]
        binlogs = list(config.data_directory.glob("*log.0*"))
        assert binlogs and [path for path in (*logs, *binlogs) if new.encode() in path.read_bytes()] == []


def test_a_password_set_is_in_no_general_log(pair):
    config = pair.replica.config
    servers.query(config, "SET GLOBAL general_log_file = 'general.log'")
    servers.query(config, "SET GLOBAL general_log = ON")
    servers.query(config, "SET GLOBAL long_query_time = 0")
    done = run(config, "--set", OLD)
    assert done.returncode == 0, done.stderr
    text = (config.data_directory / "general.log").read_bytes()
    assert b"STOP SLAVE" in text and b"START SLAVE" in text
    assert OLD.encode() not in text
    assert OLD.encode() not in config.slow_log.read_bytes()


def test_a_password_that_the_primary_refuses_changes_nothing(pair):
    config = pair.replica.config
    where = address(pair.primary.config).address
    assert sentence(run(config, "--set", "wrong-secret\n")) == (
        f"error: nothing was changed, as {where} refuses that password (cannot connect to MariaDB on {where}: Access"
        " denied for user 'replication_user'@'127.0.0.1' (using password: YES) (1045)), expected the one that it"
        " accepts since --rotate: process the primary's instance, and give its replication-primary-url"
    )
    assert (password(config), pair.source().io.running) == (OLD, "Yes")


def test_the_wrong_role_is_refused(pair):
    where = address(pair.primary.config).address
    for option in ("--rotate", "--finish"):
        assert sentence(run(pair.replica.config, option)) == (
            f"error: this is a replica of {where}, and {option} is for the primary, whose accounts replicas get: run it"
            " there, and --set here"
        )
    assert sentence(run(pair.primary.config, "--set", "x")) == (
        "error: this is no replica, and --set is for one: run --rotate here, and --set on this server's replicas"
    )
    assert sentence(run(pair.replica.config, "--set", "")) == (
        "error: there is no password on the standard input, expected one line with the password, or with the"
        " replication-primary-url that the primary publishes now: give it there, as arguments can be read by others"
    )
    assert accepted(pair.primary.config, OLD)


def test_a_second_rotation_waits_for_the_first_to_be_finished(pair):
    config = pair.primary.config
    assert run(config, "--rotate").returncode == 0
    first = password(config)
    assert sentence(run(config, "--rotate")) == (
        "error: two passwords are accepted already, expected one: give the new one to each replica (--set), and run"
        " this with --finish before the next --rotate, or a replica that still has the oldest would be locked out"
    )
    assert password(config) == first
    assert accepted(config, OLD) and accepted(config, first)


def test_a_rotation_that_was_killed_is_completed_by_the_next(pair):
    config = pair.primary.config
    # Killed before the server knew of it.
    pending = replication_password.pending(config)
    pending.write_text("half-way-secret")
    assert sentence(run(config, "--finish")) == (
        "error: the new password is not in place yet, expected a complete --rotate before --finish: run --rotate again"
    )
    assert run(config, "--rotate").returncode == 0
    assert password(config) == "half-way-secret"
    # Killed when all was done but the last step.
    pending.write_text("half-way-secret")
    assert run(config, "--rotate").returncode == 0
    assert accepted(config, OLD) and accepted(config, "half-way-secret")
    assert run(config, "--finish").returncode == 0
    assert not accepted(config, OLD) and accepted(config, "half-way-secret")
    with pytest.raises(pymysql.MySQLError):
        servers.login(config, "replication_user", "half-way-secret")  # still with a certificate alone
