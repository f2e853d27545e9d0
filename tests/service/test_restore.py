# SPDX-License-Identifier: GPL-2.0-or-later
"""Restores into a created primary: all that was in the dump is there, or nothing has changed."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from slapos.recipe.erp5.mariadb import manifest, sql, swap
from slapos.recipe.erp5.mariadb.config import Config, Secrets
from tests.service import servers
from tests.service.servers import Service

PASSWORD = "people's own"
SECRETS = Secrets("another-administrator", "another-replication", "another-token")
CONTENT = (
    "CREATE TABLE erp5.t (id INT PRIMARY KEY, text TEXT, raw BLOB, made TIMESTAMP)",
    "INSERT INTO erp5.t VALUES (1, 'a\\r\\nb\\0日本 \\\\ \\'', 0x00FF0A0D, '2026-01-01 00:00:00')",
    "CREATE TABLE erp5.full (id INT PRIMARY KEY, text TEXT, FULLTEXT (text)) ENGINE=Mroonga",
    "INSERT INTO erp5.full VALUES (1, 'some words')",
    # As SQL twice as long, and so longer than what a server of ours takes from its clients.
    "CREATE TABLE erp5.large (raw LONGBLOB) ENGINE=Aria",
    "INSERT INTO erp5.large VALUES (REPEAT(0xFF, 70 << 20))",
    "CREATE FUNCTION erp5.f() RETURNS TEXT DETERMINISTIC RETURN 'x\r\ny'",
    "CREATE TABLE erp5.log (text TEXT)",
    "CREATE TRIGGER erp5.tr AFTER INSERT ON erp5.t FOR EACH ROW INSERT INTO erp5.log VALUES ('p\r\nq')",
    "CREATE VIEW erp5.v AS SELECT id FROM erp5.t",
    "CREATE EVENT erp5.e ON SCHEDULE EVERY 1 YEAR DO SET @x = 1",
    f"CREATE USER people@'%.%.%.%' IDENTIFIED BY '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
    "GRANT SELECT, INSERT ON erp5.* TO people@'%.%.%.%'",
)
QUESTIONS = (
    "SELECT id, text, raw, UNIX_TIMESTAMP(made) FROM erp5.t",
    "SELECT id FROM erp5.full WHERE MATCH (text) AGAINST ('words')",
    "SELECT MD5(raw) FROM erp5.large",
    "SELECT erp5.f()",
    "SELECT id FROM erp5.v",
    "SELECT action_statement FROM information_schema.triggers WHERE trigger_schema = 'erp5'",
    "SELECT event_name, status, event_definition FROM information_schema.events",
    "CHECKSUM TABLE erp5.t, erp5.full, erp5.log, slapos.provisioned",
)


@dataclass
class Source:
    """A dump of a primary, and what that primary answered when it was made."""

    path: Path
    gtid: str
    answers: list
    accounts: dict[str, str]


def with_programs(config: Config) -> Config:
    for program, module in (("restore", "restore"), ("dump-now", "backup")):
        servers.write_program(config.path("bin", f"mariadb-{program}"), f"slapos.recipe.erp5.mariadb.{module}")
    return config


def call(config: Config, name: str, *arguments: object, **options) -> subprocess.Popen:
    command = [config.path("bin", name), "--config", config.path("etc", "mariadb.json"), *arguments]
    return subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True, **options)


def run(config: Config, name: str, *arguments: object) -> tuple[int, list[str]]:
    """A program's exit code, and the lines it said, without their times."""
    with call(config, name, *arguments) as process:
        said = process.communicate(timeout=servers.PATIENCE)[1]
    return process.returncode, [line.split(" ", 2)[-1] for line in said.splitlines()]


def refusal(config: Config, *arguments: object) -> str:
    """What a restore says that changes nothing."""
    before = tree(config)
    code, said = run(config, "mariadb-restore", *arguments)
    assert code == 1, said
    assert tree(config) == before
    return said[-1]


def tree(config: Config) -> dict[str, tuple[int, int]]:
    """All files of the database and beside it; the lock may be made."""
    paths = [path for path in config.path("srv").rglob("*") if path.name != "mariadb.lock"]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths if not path.is_dir()}


def answers(config: Config) -> list:
    return [servers.query(config, question) for question in QUESTIONS]


@pytest.fixture(scope="module")
def source(created: Config) -> Iterator[Source]:
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    config = with_programs(servers.make_config(folder))
    shutil.copytree(created.data_directory, config.data_directory)
    with servers.running(config), servers.administrator(config) as connection:
        for statement in CONTENT:
            sql.execute(connection, statement)
        code, said = run(config, "mariadb-dump-now")
        assert code == 0, said
        entry = newest(config)
        yield Source(config.dumps / entry.name, entry.gtid, answers(config), servers.accounts(config))
    shutil.rmtree(folder)


@pytest.fixture
def target(created: Config, partition: Path) -> Iterator[Service]:
    """Another partition, stopped, with a database of its own."""
    config = with_programs(servers.make_config(partition, secrets=SECRETS))
    shutil.copytree(created.data_directory, config.data_directory)
    service = Service(config)
    with servers.running(config) as first:
        servers.query(config, "CREATE TABLE erp5.before_restore (a INT)")
        assert "make the administration account again" in first.log()
    yield service
    servers.stop_for_good(service)


def edited(source: Source, folder: Path, edit: Callable[[bytes], bytes]) -> Path:
    """The dump with another text."""
    path = folder / "edited.sql.zst"
    with source.path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file).read()
    path.write_bytes(zstandard.ZstdCompressor().compress(edit(text)))
    return path


def has_old_database(service: Service) -> bool:
    service.run()
    try:
        return bool(servers.query(service.config, "SHOW TABLES FROM erp5 LIKE 'before_restore'"))
    finally:
        service.end()


# ---- a restore


def test_a_restored_primary_is_the_dump_s_with_its_own_administrator(source, target):
    config = target.config
    code, said = run(config, "mariadb-restore", source.path, "--replace")
    assert code == 0, said
    assert said[-2] == f"{source.path.name} is restored, GTID {source.gtid}: start the service"
    (aside,) = config.path("srv").glob("mariadb.before-restore-*")
    assert said[-1] == f"the database from before is {aside}: remove it (rm -r) when it is needed no longer"
    assert (aside / "erp5" / "before_restore.frm").exists()
    assert not swap.growing(config).exists()
    assert not (config.data_directory / swap.MARK).exists()
    assert "error" not in "".join(said)

    assert "make the administration account again" not in target.log_of(target.run)
    assert answers(config) == source.answers
    theirs = {name: shown for name, shown in servers.accounts(config).items() if "administrator" not in name}
    assert theirs == {name: shown for name, shown in source.accounts.items() if "administrator" not in name}
    with servers.login(config, "people", PASSWORD, "erp5") as people, people.cursor() as cursor:
        cursor.execute("INSERT INTO t (id) VALUES (2)")
        people.commit()
    assert servers.query(config, "SELECT text FROM erp5.log") == [("p\r\nq",)]
    servers.login(config, "erp5_user", servers.NASTY_PASSWORD, "erp5").close()


def test_gtids_continue_after_the_dump_s_and_backups_know_them(source, target):
    config = target.config
    assert run(config, "mariadb-restore", source.path, "--replace")[0] == 0
    target.run()
    positions = "SELECT @@gtid_slave_pos, @@gtid_binlog_pos, @@gtid_current_pos, @@gtid_binlog_state"
    assert servers.query(config, positions) == [(source.gtid,) * 4]
    assert servers.query(config, "SHOW ALL SLAVES STATUS") == []
    assert not (config.data_directory / "master.info").exists()
    assert backup_gtid(config) == source.gtid
    servers.query(config, "CREATE TABLE erp5.after (a INT)")
    domain, _, number = source.gtid.split("-")
    following = f"{domain}-{config.server_id}-{int(number) + 1}"
    assert servers.query(config, "SELECT @@gtid_binlog_pos") == [(following,)]
    assert backup_gtid(config) == following
    # Nothing but that one write is in the binary log.
    events = [row[5] for row in servers.query(config, "SHOW BINLOG EVENTS IN 'binlog.000001'")]
    assert [event for event in events if "GTID 0-" in event and event != f"[{source.gtid}]"] == []
    target.restart()
    servers.query(config, "DROP TABLE erp5.after")
    assert servers.query(config, "SELECT @@gtid_binlog_pos") == [(f"{domain}-{config.server_id}-{int(number) + 2}",)]


def backup_gtid(config: Config) -> str:
    code, said = run(config, "mariadb-dump-now")
    assert code == 0, said
    return newest(config).gtid


def newest(config: Config) -> manifest.Entry:
    entry = manifest.newest(manifest.load(config.dumps))
    assert entry is not None
    return entry


def test_a_restore_makes_the_first_database_of_a_partition(source, config):
    with_programs(config)
    code, said = run(config, "mariadb-restore", source.path)
    assert code == 0, said
    assert said[-1] == f"{source.path.name} is restored, GTID {source.gtid}: start the service"
    with servers.running(config) as service:
        assert answers(config) == source.answers
        assert "initialise" not in service.log()


def test_a_dump_of_an_older_series_is_upgraded_at_the_next_start(source, target, partition):
    older = edited(source, partition, lambda text: text.replace(b"version\t10.11.", b"version\t10.6.", 1))
    code, said = run(target.config, "mariadb-restore", older, "--replace")
    assert code == 0, said
    target.run()
    assert "step: upgrade the system tables" in target.log()
    assert answers(target.config) == source.answers


# ---- refusals


def test_a_database_is_not_replaced_without_a_word(source, target):
    assert refusal(target.config, source.path) == (
        f"error: {target.config.data_directory} exists, and a restore replaces all of it: add --replace, which keeps it"
        " under another name"
    )


def test_a_running_service_is_left_alone(source, target):
    target.run()
    name = target.config.path().name
    code, said = run(target.config, "mariadb-restore", source.path, "--replace")
    assert (code, said) == (
        1,
        [
            f"error: {target.config.data_directory}.lock is held, so the service of test instance runs, or another"
            f" restore: stop it with `slapos node stop '{name}:*'`, restore, and start it with `slapos node start"
            f" '{name}:*'`"
        ],
    )
    assert servers.query(target.config, "SHOW TABLES FROM erp5 LIKE 'before_restore'")


def test_a_service_that_is_started_meanwhile_waits(source, target):
    with call(target.config, "mariadb-restore", source.path, "--replace") as process:
        wait_for_step(process, "load the dump")
        target.start()
        process.communicate()
        assert process.returncode == 0
    target.wait_until_it_answers()
    assert "step: wait until another process lets go of" in target.log()
    assert answers(target.config) == source.answers


@pytest.mark.parametrize("kept", [0, 100, -1, -5])
def test_a_file_cut_short_is_refused(source, target, partition, kept):
    cut = partition / "cut.sql.zst"
    content = source.path.read_bytes()
    cut.write_bytes(content[: kept if kept > 0 else len(content) + kept if kept else 0])
    assert re.fullmatch(rf"error: {cut} (does not unpack \(.*\): take|is not a whole dump of ours, .*; take) another "
                        "backup", refusal(target.config, cut, "--replace"))  # fmt: skip
    assert has_old_database(target)


@pytest.mark.parametrize("end", [b"-- Dump completed", b"INSERT INTO `t`"])
def test_a_dump_that_was_cut_before_it_was_compressed_is_refused(source, target, partition, end):
    cut = edited(source, partition, lambda text: text[: text.rindex(end)])
    assert refusal(target.config, cut, "--replace") == (
        f"error: {cut} is not a whole dump of ours, mariadb-dump ended without its last line `-- Dump completed`: the"
        " dump is cut short; take another backup"
    )


def test_a_dump_of_a_newer_series_is_refused(source, target, partition):
    newer = edited(source, partition, lambda text: text.replace(b"version\t10.11.", b"version\t11.4.", 1))
    said = refusal(target.config, newer, "--replace")
    assert re.fullmatch(
        rf"error: {newer} is of MariaDB 11\.4\.\S+ and this is 10\.11\.\S+, which cannot read it: install a release"
        " with that version or a newer one",
        said,
    )


def test_a_missing_file_is_named(target):
    missing = target.config.path("none.sql.zst")
    assert refusal(target.config, missing, "--replace") == (
        f"error: nothing was restored, {missing}: No such file or directory: mend that, and run this again"
    )


def test_a_statement_that_fails_changes_nothing_and_shows_no_row(source, target, partition):
    statement = b"\nINSERT INTO t VALUES (1, 'secret') 'secret';\n"
    bad = edited(source, partition, lambda text: text.replace(b"-- Current Database: `slapos`", statement, 1))
    before = tree(target.config)
    code, said = run(target.config, "mariadb-restore", bad, "--replace")
    assert code == 1
    assert re.fullmatch(
        rf"error: nothing was restored, the client that loads {bad} ended with status 1: ERROR 1064 \(42000\) at line"
        r" \d+: You have an error in your SQL syntax; check the manual .* near",
        said[-1],
    )
    assert "secret" not in "".join(said)
    assert tree(target.config) == before
    assert has_old_database(target)


def test_a_dump_runs_no_command_of_its_own(source, target, partition):
    made = partition / "made"
    bad = edited(source, partition, lambda text: text.replace(b"-- Host", f"\\! touch {made}\n-- Host".encode(), 1))
    assert run(target.config, "mariadb-restore", bad, "--replace")[0] == 1
    assert not made.exists()


def test_a_dump_that_ends_the_client_early_is_noticed(source, target, partition):
    bad = edited(source, partition, lambda text: text.replace(b"-- Host", b"SHUTDOWN;\n-- Host", 1))
    assert run(target.config, "mariadb-restore", bad, "--replace")[0] == 1
    assert has_old_database(target)


# ---- interruptions


def wait_for_step(process: subprocess.Popen, step: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if f"step: {step}" in line:
            return
    raise AssertionError(f"the restore ended with {process.wait()} before: {step}")


STEPS = ("read", "initialise", "load the dump", "start with the binary log", "sync", "make it")


def test_killed_at_any_step_there_is_one_whole_database_and_the_next_run_works(source, target):
    config = target.config
    for step in STEPS:
        with call(config, "mariadb-restore", source.path, "--replace") as process:
            wait_for_step(process, step)
            process.kill()
            process.communicate(timeout=servers.PATIENCE)
        # A private server may be stopping still: the service waits for it.
        assert has_old_database(target) or step in ("sync", "make it")
    code, said = run(config, "mariadb-restore", source.path, "--replace")
    assert code == 0, said
    target.run()
    assert answers(config) == source.answers
    assert not swap.growing(config).exists()
    aside = list(config.path("srv").glob("mariadb.before-restore-*"))
    assert [path for path in aside if (path / "erp5" / "before_restore.frm").exists()]


def test_ended_while_it_loads_it_leaves_nothing_behind(source, target):
    before = tree(target.config)
    with call(target.config, "mariadb-restore", source.path, "--replace") as process:
        wait_for_step(process, "load the dump")
        process.terminate()
        process.communicate(timeout=servers.PATIENCE)
    assert process.returncode == 143
    assert tree(target.config) == before
    assert has_old_database(target)
