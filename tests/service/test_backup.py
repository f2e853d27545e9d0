# SPDX-License-Identifier: GPL-2.0-or-later
"""Logical backups of a real server: they restore, and whatever goes wrong the last good one stays and is said to."""

import dataclasses
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import psutil
import pymysql
import pytest
import zstandard

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import backup, dump_file, manifest, store
from slapos.recipe.erp5.mariadb.manifest import Entry
from tests.service.backup_fixtures import (
    DEADLINE,
    PARTS,
    Partition,
    empty_data,
    new_partition,
    partition,
    server,
    wait_until,
)

__all__ = ["empty_data", "new_partition", "partition", "server"]

DUMP = "mariadb.backup"
JAPANESE = "日本語のテキスト、𠮷野家 🍣 と \\ ' \" \n 改行"
# NUL, newline, quotes and every other byte.
BLOB = bytes(range(256)) * 3

# Everything that a dump has to carry besides rows.
SCHEMA = (
    "CREATE DATABASE erp5",
    "USE erp5",
    "CREATE TABLE catalog (uid BIGINT PRIMARY KEY, title TEXT, data LONGBLOB, at DATETIME(6)) ENGINE=InnoDB",
    "CREATE TABLE audit (uid BIGINT, what VARCHAR(20)) ENGINE=InnoDB",
    "CREATE TRIGGER t AFTER INSERT ON catalog FOR EACH ROW INSERT INTO audit VALUES (NEW.uid, '挿入')",
    "CREATE VIEW titles AS SELECT uid, title FROM catalog",
    "CREATE FUNCTION double_it(x INT) RETURNS INT DETERMINISTIC RETURN 2 * x",
    "CREATE PROCEDURE p() BEGIN\nSET @x = 1;\nSET GLOBAL gtid_slave_pos='9-9-9';\nEND",
    "CREATE EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01' DO DELETE FROM audit",
    "CREATE SEQUENCE s START WITH 5",
    "CREATE USER `käthe`@`127.0.0.1` IDENTIFIED BY 'pass''w%rd$\\\\日本'",
    "GRANT SELECT, EXECUTE ON erp5.* TO `käthe`@`127.0.0.1`",
    "CREATE ROLE reader",
    "GRANT reader TO `käthe`@`127.0.0.1`",
)


def fill(server: Partition, megabytes: int = 0) -> None:
    """Put one of everything into the database erp5, and so many MB that do not compress."""
    server.sql(*SCHEMA)
    with server.connect(database="erp5") as connection, connection.cursor() as cursor:
        values = "(1, %s, %s, '2026-11-22 22:30:00.123456'), (2, NULL, '', NULL)"
        cursor.execute(f"INSERT INTO catalog VALUES {values}", (JAPANESE, BLOB))
        if megabytes:
            rows = f"SELECT seq + 2, '', RANDOM_BYTES(1024), NOW() FROM seq_1_to_{1000 * megabytes}"
            cursor.execute(f"INSERT INTO catalog {rows}")
        cursor.execute("CREATE TABLE zz (i INT PRIMARY KEY)")


def listed(partition: Partition) -> tuple[Entry, ...]:
    return manifest.load(partition.config.dumps)


def assert_consistent(partition: Partition, count: int) -> None:
    """So many backups are listed and offered, each file is whole, and no other file is anywhere."""
    entries, config = listed(partition), partition.config
    assert len(entries) == count
    assert manifest.load(config.offered) == entries
    names = sorted([*(entry.name for entry in entries), *(["manifest.json"] if entries or count else [])])
    for folder in (config.dumps, config.offered):
        assert sorted(set(os.listdir(folder)) - ({"manifest.json"} if not entries else set())) == names
        for entry in entries:
            assert hashlib.sha256((folder / entry.name).read_bytes()).hexdigest() == entry.sha256
    assert sorted(os.listdir(config.path("srv", "backup"))) == ["mariadb-full", "offered"]


def unpacked(partition: Partition, entry: Entry) -> bytes:
    content = (partition.config.dumps / entry.name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.size, entry.sha256)
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


# ---- what a backup is


def text_of(partition: Partition) -> str:
    """All that the database erp5 holds, as comparable text."""
    defaults = f"--defaults-file={partition.config.defaults_file}"
    options = ("--routines", "--events", "--triggers", "--hex-blob", "--skip-comments", "--databases", "erp5")
    program = PARTS / "mariadb/bin/mariadb-dump"
    return subprocess.run([program, defaults, *options], check=True, capture_output=True, text=True).stdout


def accounts_of(partition: Partition) -> list[tuple]:
    return partition.sql("SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2") + partition.sql(
        "SELECT User, Host, Db, Select_priv, Execute_priv FROM mysql.db ORDER BY 1, 2, 3"
    )


def test_a_backup_restores_into_an_empty_server(server, new_partition, empty_data):
    fill(server)
    position = server.sql("SELECT @@gtid_binlog_pos")[0][0]
    code, said = server.run(DUMP)
    assert code == 0
    (entry,) = listed(server)
    assert said[-1] == f"backup {entry.name} made: {entry.size / 1024:.1f} KiB, GTID {position}"
    assert (entry.kind, entry.gtid) == ("logical", position)
    assert entry.server_version == server.sql("SELECT VERSION()")[0][0]
    assert entry.start.replace("-", "").replace(":", "") + ".sql.zst" == entry.name
    assert entry.start <= entry.end
    assert_consistent(server, 1)
    assert server.sql("SELECT @@gtid_binlog_pos")[0][0] == position, "the backup wrote to the server"

    other = new_partition()
    other.start_server(empty_data, "--skip-log-bin")
    other.client(unpacked(server, entry))
    assert text_of(other) == text_of(server)
    for part in ("挿入", "FUNCTION `double_it`", "PROCEDURE `p`", "EVENT `e`", "VIEW `titles`", "SEQUENCE `s`"):
        assert part in text_of(other)
    assert accounts_of(other) == accounts_of(server)
    assert other.sql("SELECT title, data FROM erp5.catalog WHERE uid = 1") == [(JAPANESE, BLOB)]
    assert other.sql("SELECT COUNT(*) FROM information_schema.events WHERE event_schema = 'erp5'") == [(1,)]
    assert other.sql("SELECT @@GLOBAL.gtid_slave_pos") == [(position,)]
    password = "pass'w%rd$\\日本".encode()  # PyMySQL makes latin1 of a text
    login = pymysql.connect(user="käthe", password=password, host="127.0.0.1", port=other.port)
    with login, login.cursor() as cursor:
        cursor.execute("SELECT erp5.double_it(21)")
        assert cursor.fetchall() == ((42,),)


def test_a_backup_is_consistent_with_its_position_while_others_write(server):
    fill(server, megabytes=5)
    server.sql(
        "CREATE PROCEDURE erp5.write_on() FOR i IN 1..1000000 DO START TRANSACTION; INSERT INTO erp5.zz VALUES (i);"
        " INSERT INTO erp5.audit VALUES (i, 'x'); COMMIT; END FOR"
    )
    before = int(server.sql("SELECT SUBSTRING_INDEX(@@gtid_binlog_pos, '-', -1)")[0][0])
    defaults = f"--defaults-file={server.config.defaults_file}"
    writer = server.spawn(PARTS / "mariadb/bin/mariadb", defaults, "--execute=CALL erp5.write_on()")
    wait_until(lambda: server.sql("SELECT COUNT(*) FROM erp5.zz")[0][0] > 10, "the writer")
    assert server.run(DUMP)[0] == 0
    writer.kill()
    (entry,) = listed(server)
    text = unpacked(server, entry).decode()
    begin = text.index("INSERT INTO `zz` VALUES")
    rows = text[begin : text.index(";\n", begin)].count("(")
    # Each transaction wrote one row into either table.
    assert int(entry.gtid.split("-")[2]) - before == text.count(",'x')") == rows > 10
    assert server.sql("SELECT COUNT(*) FROM erp5.zz")[0][0] > rows, "nobody wrote meanwhile"


def test_a_row_of_sixty_megabytes(server):
    server.sql(
        "CREATE DATABASE erp5",
        "CREATE TABLE erp5.t (data LONGBLOB)",
        "INSERT INTO erp5.t VALUES (REPEAT('0123456789', 6000000))",
    )
    assert server.run(DUMP)[0] == 0
    assert unpacked(server, listed(server)[0]).count(b"30313233343536373839") == 6000000


def test_a_backup_by_hand_works_when_scheduled_ones_are_off(new_partition, empty_data):
    off = new_partition(enable=False)
    off.start_server(empty_data)
    assert off.run(DUMP)[0] == 0
    assert_consistent(off, 1)


def test_files_are_for_nobody_else(server):
    assert server.run(DUMP)[0] == 0
    config = server.config
    for folder in (config.dumps, config.offered):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_old_backups_go_only_after_a_new_one(server):
    assert server.run(DUMP)[0] == 0
    (old,) = listed(server)
    content = (server.config.dumps / "manifest.json").read_text().replace(old.start, "2020-01-01T00:00:00Z")
    (server.config.dumps / "manifest.json").write_text(content)
    server.sql("CREATE TABLE mysql.x (i INT)")
    server.stop_server()
    assert server.run(DUMP)[0] == 1
    assert_consistent(server, 1)
    server.start_server()
    code, said = server.run(DUMP)
    assert code == 0
    assert f"{old.name} is older than 7 days: removed" in said
    assert listed(server)[0].name != old.name
    assert_consistent(server, 1)


# ---- what can go wrong


def failure(partition: Partition, **options) -> str:
    """The one sentence of a backup that fails."""
    code, said = partition.run(DUMP, **options)
    assert code == 1
    (error,) = (line for line in said if line.startswith("error: "))
    assert said[-1] == error
    return error


def test_server_down(server):
    assert server.run(DUMP)[0] == 0
    (good,) = listed(server)
    server.stop_server()
    socket = server.config.socket
    assert failure(server) == (
        "error: no backup was made, cannot dump the databases: mariadb-dump ended with status 2: mariadb-dump: Got "
        f"error: 2002: \"Can't connect to local server through socket '{socket}' (2)\" when trying to connect; "
        f"the last good one is {good.name}"
    )
    assert_consistent(server, 1)


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_disk_full(server):
    assert server.run(DUMP)[0] == 0
    (good,) = listed(server)
    fill(server, megabytes=5)
    assert failure(server, preexec_fn=limit_file_size) == (
        f"error: no backup was made, {store.logical(server.config).partial}: File too large: free or mend the disk; "
        f"the last good one is {good.name}"
    )
    assert_consistent(server, 1)
    assert server.run(DUMP)[0] == 0
    assert_consistent(server, 2)


def test_a_backup_that_will_not_fit_is_not_begun(server):
    assert server.run(DUMP)[0] == 0
    (good,) = listed(server)
    status = os.statvfs(server.config.dumps)
    free = status.f_bavail * status.f_frsize
    # As if the last backup had taken all that is free now: a file with nothing in it but a size.
    os.truncate(server.config.dumps / good.name, free)
    manifest.save(server.config.dumps, [dataclasses.replace(good, size=free)])
    assert re.fullmatch(
        rf"error: no backup was made, [0-9.]+ [MG]iB are free in {server.config.dumps}, the next backup takes about "
        r"[0-9.]+ [MG]iB: free disk space or lower backup.logical.retention-days; "
        rf"the last good one is {good.name}",
        failure(server),
    )
    assert [entry.name for entry in listed(server)] == [good.name]


@pytest.fixture
def stuck(server):
    """A server on which every dump stops half-way, at a table that somebody has locked."""
    assert server.run(DUMP)[0] == 0
    fill(server, megabytes=5)
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES erp5.zz WRITE")
        yield server


def grown(partition: Partition, size: int) -> bool:
    files = list(store.logical(partition.config).partial.glob("*"))
    return bool(files) and files[0].stat().st_size >= size


def dump_process(child: subprocess.Popen) -> psutil.Process:
    return wait_until(lambda: psutil.Process(child.pid).children(), "mariadb-dump")[0]


@pytest.mark.parametrize("size", [0, 1 << 20, 4 << 20])
def test_killed(stuck, size):
    child = stuck.python(DUMP)
    wait_until(lambda: grown(stuck, size), "the partial file")
    dump = dump_process(child)
    child.kill()
    child.wait(DEADLINE)
    wait_until(lambda: not dump.is_running(), "the end of mariadb-dump")
    entries = listed(stuck)
    assert len(entries) == 1
    assert sorted(os.listdir(stuck.config.offered)) == [entries[0].name, "manifest.json"]
    stuck.sql(f"KILL {locker(stuck)}")
    assert stuck.run(DUMP)[0] == 0
    assert_consistent(stuck, 2)


def locker(partition: Partition) -> int:
    """The connection that holds the lock: the one that sleeps."""
    found = partition.sql("SELECT id FROM information_schema.processlist WHERE command = 'Sleep'")
    return found[0][0]


def test_the_dump_program_is_killed(stuck):
    (good,) = listed(stuck)
    child = stuck.python(DUMP)
    wait_until(lambda: grown(stuck, 4 << 20), "the partial file")
    dump_process(child).kill()
    said = child.communicate(timeout=DEADLINE)[1].splitlines()
    assert child.returncode == 1
    assert said[-1].split(" ", 2)[2] == (
        "error: no backup was made, cannot dump the databases: mariadb-dump was killed by SIGKILL: it said nothing; "
        f"the last good one is {good.name}"
    )
    assert_consistent(stuck, 1)


def test_the_server_is_killed(stuck):
    child = stuck.python(DUMP)
    wait_until(lambda: grown(stuck, 4 << 20), "the partial file")
    stuck.server.kill()
    said = child.communicate(timeout=DEADLINE)[1].splitlines()
    assert child.returncode == 1
    assert "error: no backup was made, cannot dump the databases: mariadb-dump ended with status " in said[-1]
    assert_consistent(stuck, 1)


def test_terminated(stuck):
    child = stuck.python(DUMP)
    wait_until(lambda: grown(stuck, 4 << 20), "the partial file")
    dump = dump_process(child)
    child.send_signal(signal.SIGTERM)
    assert child.wait(DEADLINE) == 128 + signal.SIGTERM
    assert not dump.is_running()
    assert_consistent(stuck, 1)


def test_two_at_once(stuck):
    child = stuck.python(DUMP)
    wait_until(lambda: grown(stuck, 4 << 20), "the partial file")
    assert stuck.run(DUMP) == (
        75,
        ["busy: another backup of test is running: wait for its end, and run this again if you still need to"],
    )
    assert child.poll() is None and grown(stuck, 4 << 20)
    stuck.sql(f"KILL {locker(stuck)}")
    assert child.wait(DEADLINE) == 0
    assert_consistent(stuck, 2)


def fake_dump(partition: Partition, program: str) -> None:
    """Replace mariadb-dump by a shell program, in this partition's configuration."""
    path = Path(partition.folder, "fake", "bin", "mariadb-dump")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o700)
    document = json.loads(partition.json.read_text())
    document["software"]["mariadb"] = str(path.parents[1])
    partition.json.write_text(json.dumps(document))


HEADER = r"printf '%s\n' '-- MariaDB dump' && printf '%b\n' '-- Server version\t10.11.19-MariaDB'"
CUT = "mariadb-dump ended without its last line `-- Dump completed`: the dump is cut short"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("exit 0", CUT),
        (f"{HEADER}; echo \"SET GLOBAL gtid_slave_pos='0-7-1';\"", CUT),
        (
            f"{HEADER}; echo '-- Dump completed on 2026-11-22'",
            "the dump does not name its GTID position and its server's version: is this mariadb-dump?",
        ),
        (
            f"{HEADER}; echo \"SET GLOBAL gtid_slave_pos='0-7-1';\"; echo '-- Dump completed'; echo oops >&2; exit 3",
            "cannot dump the databases: mariadb-dump ended with status 3: oops",
        ),
    ],
)
def test_a_dump_that_is_cut_short_is_never_offered(server, program, reason):
    assert server.run(DUMP)[0] == 0
    (good,) = listed(server)
    fake_dump(server, program)
    assert failure(server) == f"error: no backup was made, {reason}; the last good one is {good.name}"
    assert_consistent(server, 1)


def test_a_file_that_the_disk_changes_is_never_listed(server, monkeypatch):
    written_well = dump_file.write

    def write_badly(source, path, progress):
        written = written_well(source, path, progress)
        with open(path, "r+b") as file:
            file.seek(written.size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        return written

    monkeypatch.setattr(dump_file, "write", write_badly)
    with pytest.raises(BackupError) as caught, store.lock(server.config):
        backup.make(server.config)
    partial = store.logical(server.config).partial
    assert re.fullmatch(
        rf"no backup was made, {partial}/[0-9TZ]+\.sql\.zst .*: check the disk; there is none yet",
        str(caught.value),
    )
    assert_consistent(server, 0)


def test_the_first_one_fails(partition):
    partition.config.data_directory.mkdir()
    fake_dump(partition, "exit 0")
    assert failure(partition) == f"error: no backup was made, {CUT}; there is none yet"
    assert_consistent(partition, 0)


def test_no_dump_program(partition):
    partition.config.data_directory.mkdir()
    fake_dump(partition, "exit 0")
    (partition.folder / "fake/bin/mariadb-dump").unlink()
    assert failure(partition) == (
        f"error: no backup was made, {partition.folder}/fake/bin/mariadb-dump cannot be started: [Errno 2] No such "
        f"file or directory: '{partition.folder}/fake/bin/mariadb-dump'; there is none yet"
    )


def test_while_the_database_is_being_created(partition):
    fake_dump(partition, "exit 0")
    assert partition.run(DUMP)[0] == 75
    assert not partition.config.dumps.exists()


def test_a_list_that_cannot_be_used(server):
    assert server.run(DUMP)[0] == 0
    path = server.config.dumps / "manifest.json"
    path.write_text("{")
    assert failure(server) == (
        f"error: no backup was made, {path} cannot be used as a list of backups: Expecting property name enclosed in "
        "double quotes: line 1 column 2 (char 1): move it away (the backups stay); the earlier ones stay as they are"
    )
    assert len(list(server.config.dumps.glob("*.zst"))) == len(list(server.config.offered.glob("*.zst"))) == 1


def test_a_configuration_that_cannot_be_used(partition):
    partition.json.write_text("{}")
    code, said = partition.run(DUMP)
    assert code == 1
    assert len(said) == 1 and said[0].startswith(f"error: {partition.json} lacks: ")


def test_no_secret_in_any_command_line(stuck):
    child = stuck.python(DUMP)
    dump = dump_process(child)
    # A process has the command line of its parent at first.
    wait_until(lambda: "mariadb-dump" in dump.cmdline()[0], "the command line")
    words = dump.cmdline()
    for word in (*words, *psutil.Process(child.pid).cmdline()):
        assert "ADMINISTRATOR" not in word and "REPLICATION" not in word
    child.terminate()
