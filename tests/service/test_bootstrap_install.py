# SPDX-License-Identifier: GPL-2.0-or-later
"""The program mariadb-install: it goes on until there is a database, whatever fails, and whenever it is killed."""

import os
import re
import resource
import signal

import pytest

from slapos.recipe.erp5.mariadb import bootstrap_note
from tests.service.backup_fixtures import TOKEN, empty_data, new_partition, wait_until
from tests.service.bootstrap_fixtures import GONE, primary, replica, site

__all__ = ["empty_data", "new_partition", "primary", "replica", "site"]

STAGES = {
    "physical": ("ask 127.0.0.1:20001", "for its backups", "unpack {0}", "prepare ", "unpack {1}"),
    "dump": ("initialise ", "load {0}", "install Mroonga", "whether it can be followed"),
}


def stages(primary, kind: str) -> list[str]:
    names = [entry.name for entry in (primary.chain if kind == "physical" else (primary.dump,))]
    return [stage.format(*names) for stage in STAGES[kind]]


@pytest.mark.parametrize("kind", ["physical", "dump"])
def test_killed_at_any_stage_it_begins_again(primary, site, replica, kind):
    replica.ask_for(f"{site.url}#{kind}")
    replica.outside.hangs = True
    for stage in stages(primary, kind):
        program = replica.start()
        program.wait_for(f"step: {stage}" if not stage.startswith(("for", "whether")) else stage)
        program.kill()
        assert not (replica.directory / bootstrap_note.BOOTSTRAP).exists()
        program.log.unlink()
    replica.outside.hangs = False
    program = replica.start()
    program.wait()
    assert sorted(os.listdir(replica.config.path("srv"))) == ["backup", "mariadb.new", "tls"]
    note = bootstrap_note.load(replica.directory)
    assert note is not None and note.method == kind
    assert replica.answers() == primary.answers
    assert (replica.state().stage, replica.state().attempts) == ("complete", len(stages(primary, kind)) + 1)
    for secret in (TOKEN, "SQL-SECRET"):
        assert secret not in program.log.read_text()
        assert secret not in replica.state_file.read_text()


@pytest.mark.parametrize("kind", ["physical", "dump"])
def test_sigterm_ends_it_and_leaves_nothing(primary, site, replica, kind):
    replica.outside.hangs = True
    replica.ask_for(f"{site.url}#{kind}")
    for stage in stages(primary, kind):
        program = replica.start()
        program.wait_for(f"step: {stage}" if not stage.startswith(("for", "whether")) else stage)
        assert program.end() == 128 + signal.SIGTERM, program.log.read_text()
        replica.assert_nothing_is_left()
        program.log.unlink()


def test_while_the_primary_is_down_it_waits(primary, site, replica):
    replica.outside.down = True
    replica.ask_for(f"{site.url}#physical")
    program = replica.start()
    sentence = "cannot connect to MariaDB on 127.0.0.1:20001: Connection refused (2003)"
    program.wait_for(f"error: {sentence}", 3)
    state = replica.state()
    assert (state.error, state.stage) == (sentence, "wait for the next attempt")
    assert state.attempts >= 3
    replica.assert_nothing_is_left()
    replica.outside.down = False
    replica.tell()
    program.wait()
    assert replica.answers() == primary.answers
    assert replica.state().error == ""


def test_while_the_site_is_down_no_other_way_is_tried(site, replica):
    site.end()
    replica.ask_for(site.url)
    program = replica.start()
    sentence = f"{site.where} does not answer (Connection refused): see whether it runs, and the network"
    program.wait_for(f"error: {sentence}", 2)
    assert program.end() == 128 + signal.SIGTERM, program.log.read_text()
    assert "warning:" not in program.log.read_text()
    replica.assert_nothing_is_left()
    assert f"the next attempt is in 0.2 s; what {replica.partition.json} says by then counts" in program.lines()


def test_a_parameter_that_was_mended_counts(primary, site, replica):
    replica.ask_for(f"{site.where}/WRONG/")
    program = replica.start()
    program.wait_for(
        f"error: {site.where} has no manifest.json: give replication.bootstrap-url as the primary publishes it; live"
        " physical: the primary gives no live copy",
        2,
    )
    replica.partition.json.rename(replica.partition.json.with_name("kept"))
    program.wait_for("; what it said before counts")
    replica.partition.json.with_name("kept").rename(replica.partition.json)
    replica.ask_for(f"{site.url}#physical")
    program.wait()
    assert replica.answers() == primary.answers


def test_a_parameter_that_is_gone_makes_an_empty_database(replica, site):
    replica.ask_for(f"{site.where}/WRONG/")
    program = replica.start()
    program.wait_for("error: ")
    replica.ask_for("", replication=False)
    program.wait()
    assert (replica.directory / "ibdata1").exists()
    assert bootstrap_note.load(replica.directory) is None
    assert not replica.state_file.exists()


def test_an_address_that_is_none_is_waited_over_like_others(replica):
    replica.ask_for("http://a..b/x/")
    program = replica.start()
    program.wait_for("error: unexpected UnicodeError at source.py:", 2)
    assert program.end() == 128 + signal.SIGTERM, program.log.read_text()
    replica.assert_nothing_is_left()


def test_without_replication_it_is_an_empty_database(replica):
    program = replica.start()
    program.wait()
    assert (replica.directory / "ibdata1").exists()
    assert bootstrap_note.load(replica.directory) is None
    with replica.serving() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@gtid_binlog_pos")
        assert cursor.fetchall() == (("",),)


def test_without_a_bootstrap_url_the_binary_logs_have_to_be_all_there(primary, replica):
    replica.outside.refused = {"": GONE}
    replica.ask_for("")
    program = replica.start()
    program.wait_for(
        f"error: the binary logs of 127.0.0.1:20001 do not begin where its database did ({GONE}): give"
        " replication.bootstrap-url, so that the replica begins with a backup",
        2,
    )
    replica.assert_nothing_is_left()
    replica.outside.refused = {}
    replica.tell()
    program.wait()
    note = bootstrap_note.load(replica.directory)
    assert note is not None
    assert (note.method, note.gtid, note.server_version) == ("logs", "", primary.version)


def test_a_disk_that_fills_up(primary, site, replica):
    """A file may have 1 MiB, as if there were no more room."""
    replica.ask_for(f"{site.url}#physical")
    program = replica.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    program.wait_for("error: ", 2)
    (error, *_) = [line for line in program.lines() if line.startswith("error: ")]
    assert re.fullmatch(
        rf"error: cannot unpack {primary.chain[0].name}: {replica.directory}\S*/\S+: File too large", error
    )
    assert replica.state().error == error.removeprefix("error: ")
    assert program.end() == 128 + signal.SIGTERM, program.log.read_text()
    replica.assert_nothing_is_left()
    replica.start().wait()
    assert replica.answers() == primary.answers


def test_progress_while_nothing_comes(primary, site, replica):
    site.stall = primary.chain[0].name
    replica.ask_for(f"{site.url}#physical")
    program = replica.start()
    wait_until(
        lambda: replica.state_file.exists() and replica.state().done >= 1 << 20, "the first MiB in the state file"
    )
    state = replica.state()
    assert (state.stage, state.method, state.total, state.attempts) == (
        f"unpack {primary.chain[0].name}",
        "stored physical",
        primary.chain[0].size,
        1,
    )
    assert program.end() == 128 + signal.SIGTERM, program.log.read_text()
    replica.assert_nothing_is_left()
