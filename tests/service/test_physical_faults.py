# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with physical backups: the last good chain stays, nothing bad is offered, nor restored."""

import dataclasses
import hashlib
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import psutil
import pytest
import zstandard

from slapos.recipe.erp5.errors import BackupError, Error
from slapos.recipe.erp5.mariadb import manifest, physical_restore, store
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
from tests.service.physical_fixtures import BACKUP, assert_consistent, back_up, listed, restore

__all__ = ["empty_data", "new_partition", "partition", "server"]


def failure(partition: Partition, **options) -> str:
    """The one sentence of a backup that fails."""
    code, said = partition.run(BACKUP, **options)
    assert code == 1, said
    (error,) = (line for line in said if line.startswith("error: "))
    assert said[-1] == error
    return error


@pytest.fixture
def large(server) -> Partition:
    """A server with one good backup and, since then, 20 MB that do not compress."""
    server.sql("CREATE DATABASE erp5", "CREATE TABLE erp5.t (uid INT PRIMARY KEY, data LONGBLOB)")
    back_up(server)
    server.sql("INSERT INTO erp5.t SELECT seq, RANDOM_BYTES(1000) FROM erp5.seq_1_to_20000")
    return server


@pytest.fixture
def slow(large) -> Partition:
    """The same, where a backup takes about five seconds."""
    large.max_rate = 4_000_000
    large.write_configuration()
    return large


def grown(partition: Partition, size: int) -> bool:
    files = list(store.physical(partition.config).partial.glob("*.zst"))
    return bool(files) and files[0].stat().st_size >= size


def started(partition: Partition, size: int) -> tuple[subprocess.Popen, psutil.Process]:
    """A backup that has written so many bytes, and its mariadb-backup."""
    child = partition.python(BACKUP)
    wait_until(lambda: grown(partition, size), "the partial file")
    return child, wait_until(lambda: psutil.Process(child.pid).children(), "mariadb-backup")[0]


# ---- while it is made


@pytest.mark.parametrize("size", [0, 1 << 20, 8 << 20])
def test_killed(slow, size):
    (good,) = listed(slow)
    child, copier = started(slow, size)
    child.kill()
    child.wait(DEADLINE)
    wait_until(lambda: not copier.is_running(), "the end of mariadb-backup")
    assert listed(slow) == manifest.load(slow.config.offered) == (good,)
    slow.max_rate = 0
    slow.write_configuration()
    assert back_up(slow).physical.base == good.name


def test_mariadb_backup_is_killed(slow):
    (good,) = listed(slow)
    child, copier = started(slow, 1 << 20)
    copier.kill()
    said = child.communicate(timeout=DEADLINE)[1].splitlines()
    assert child.returncode == 1
    assert re.fullmatch(
        r"error: no backup was made, cannot copy the data directory: mariadb-backup was killed by SIGKILL: .*; "
        rf"the last good one is {good.name}",
        said[-1].split(" ", 2)[2],
    )
    assert_consistent(slow)


def test_the_server_is_killed(slow):
    child, _ = started(slow, 1 << 20)
    slow.server.kill()
    said = child.communicate(timeout=DEADLINE)[1].splitlines()
    assert child.returncode == 1
    assert "error: no backup was made, " in said[-1]
    assert_consistent(slow)
    assert len(listed(slow)) == 1


def test_terminated(slow):
    child, copier = started(slow, 1 << 20)
    child.send_signal(signal.SIGTERM)
    assert child.wait(DEADLINE) == 128 + signal.SIGTERM
    assert not copier.is_running()
    assert_consistent(slow)


@pytest.mark.parametrize("other", [BACKUP, "mariadb.backup"])
def test_two_at_once(slow, other):
    child, _ = started(slow, 1 << 20)
    assert slow.run(other) == (
        75,
        ["busy: another backup of test is running: wait for its end, and run this again if you still need to"],
    )
    assert child.poll() is None
    child.terminate()


def test_no_secret_in_any_command_line(slow):
    child, copier = started(slow, 0)
    # A process has the command line of its parent at first.
    wait_until(lambda: "mariadb-backup" in copier.cmdline()[0], "the command line")
    words = copier.cmdline()
    for word in (*words, *psutil.Process(child.pid).cmdline()):
        assert "ADMINISTRATOR" not in word and "REPLICATION" not in word
    child.terminate()
    child.wait(DEADLINE)
    assert "ADMINISTRATOR" not in slow.config.physical_backup_log.read_text()


def test_files_are_for_nobody_else(large):
    config = large.config
    for folder in (config.physical_backups, config.offered):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert config.physical_backup_log.stat().st_mode & 0o777 == 0o600


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_disk_full(large):
    (good,) = listed(large)
    assert failure(large, preexec_fn=limit_file_size) == (
        f"error: no backup was made, {store.physical(large.config).partial}: File too large: free or mend the disk; "
        f"the last good one is {good.name}"
    )
    assert_consistent(large)
    assert back_up(large).physical.base == good.name


def test_a_backup_that_will_not_fit_is_not_begun(large):
    (good,) = listed(large)
    folder, status = large.config.physical_backups, os.statvfs(large.config.physical_backups)
    free = status.f_bavail * status.f_frsize
    # As if the last backup had taken all that is free now: a file with nothing in it but a size.
    os.truncate(folder / good.name, free)
    manifest.save(folder, [dataclasses.replace(good, size=free)])
    assert re.fullmatch(
        rf"error: no backup was made, [0-9.]+ [MG]iB are free in {folder}, the next backup takes about "
        r"[0-9.]+ [MG]iB: free disk space or lower backup.physical.retention-days; "
        rf"the last good one is {good.name}",
        failure(large),
    )


# ---- a mariadb-backup that does not do what it should


def fake(partition: Partition, script: str) -> None:
    """Replace mariadb-backup by a shell program, in this partition's configuration."""
    folder = Path(partition.folder, "fake", "bin")
    folder.mkdir(parents=True)
    path = folder / "mariadb-backup"
    path.write_text(f"#!/bin/sh\nreal={PARTS}/mariadb/bin/mariadb-backup\n{script}\n")
    path.chmod(0o700)
    document = json.loads(partition.json.read_text())
    document["software"]["mariadb"] = str(path.parents[1])
    partition.json.write_text(json.dumps(document))


LEFT_OUT = "Warning: We assume the  table was dropped during xtrabackup execution and ignore the tablespace"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            '"$real" "$@"; echo oops >&2; exit 3',
            r"cannot copy the data directory: mariadb-backup ended with status 3: \.\.\..*completed OK! oops",
        ),
        (
            '"$real" "$@"; echo something else >&2',
            r"mariadb-backup did not end with `completed OK!` but with: .*something else",
        ),
        ("echo 'completed OK!' >&2", "the stream is empty: it is cut short"),
        (
            """"$real" "$@" | head -c 200000; echo 'completed OK!' >&2""",
            "the stream ends in the middle of a chunk: it is cut short",
        ),
        ("echo nothing that is an xbstream; echo 'completed OK!' >&2", "the stream is no xbstream, or damaged"),
        (
            f'"$real" "$@" && echo "{LEFT_OUT}" >&2 && echo "completed OK!" >&2',
            "mariadb-backup left out tables that it does not name, which the server has: .*",
        ),
        ('"$real" "$@" --databases=mysql', "mariadb-backup left out erp5/t, which the server has: .*"),
        (
            '"$real" "$1" --backup --stream=xbstream',
            r"the stream begins at 0, expected where .* ends: run this again",
        ),
    ],
    ids=["status", "last-line", "empty", "cut", "nonsense", "unnamed", "one-database", "other-base"],
)
def test_what_mariadb_backup_did_badly_is_never_offered(large, script, reason):
    (good,) = listed(large)
    fake(large, script)
    assert re.fullmatch(f"error: no backup was made, {reason}; the last good one is {good.name}", failure(large))
    assert_consistent(large)


def test_without_a_binary_log_there_is_no_position(new_partition, empty_data):
    server = new_partition()
    server.start_server(empty_data, "--skip-log-bin")
    assert re.fullmatch(
        "error: no backup was made, the (stream has no xtrabackup_binlog_info: is this mariadb-backup's|backup has no "
        r"GTID position, without which no replica can use it: is the binary log on)\?; there is none yet",
        failure(server),
    )


# ---- when it is restored


@pytest.fixture
def stored(large, new_partition) -> tuple[Partition, Partition]:
    """A partition with a chain of two, and one without a database."""
    back_up(large)
    return large, new_partition()


def refusal(stored, entries: tuple[Entry, ...] | None = None) -> str:
    """The sentence of a restore that is refused; nothing is left of it."""
    source, target = stored
    with pytest.raises(Error) as caught:
        restore(source, target, listed(source) if entries is None else entries)
    assert sorted(os.listdir(target.folder / "srv")) == ["backup", "tls"]
    return str(caught.value)


def change(stored, number: int, content: bytes, **facts: int) -> Entry:
    """Put other bytes in the place of a listed backup, and the list in keeping with them, but for its `facts`."""
    source, entries = stored[0], list(listed(stored[0]))
    (source.config.physical_backups / entries[number].name).write_bytes(content)
    sums = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    physical = dataclasses.replace(entries[number].physical, **facts)
    entries[number] = dataclasses.replace(entries[number], **sums, physical=physical)
    manifest.save(source.config.physical_backups, entries)
    return entries[number]


def bytes_of(stored, number: int) -> bytes:
    source = stored[0]
    return (source.config.physical_backups / listed(source)[number].name).read_bytes()


def chunk(kind: bytes, name: bytes, rest: bytes = b"") -> bytes:
    return b"XBSTCK01\0" + kind + struct.pack("<I", len(name)) + name + rest


def payload(name: bytes, content: bytes) -> bytes:
    head = struct.pack("<QQI", len(content), 0, zlib.crc32(content))
    return chunk(b"P", name, head + content) + chunk(b"E", name)


def test_a_truncated_file_is_refused(stored):
    source = stored[0]
    for number, entry in enumerate(listed(source)):
        content = bytes_of(stored, number)
        os.truncate(source.config.physical_backups / entry.name, len(content) // 2)
        assert f"{entry.name} " in refusal(stored)
        (source.config.physical_backups / entry.name).write_bytes(content)


def test_a_changed_byte_is_refused(stored):
    entry, content = listed(stored[0])[0], bytearray(bytes_of(stored, 0))
    content[len(content) // 2] ^= 1
    (stored[0].config.physical_backups / entry.name).write_bytes(content)
    refusal(stored)


def test_a_stream_that_was_cut_and_compressed_again_is_refused(stored):
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(bytes_of(stored, 1))
    end = plain.rindex(b"XBSTCK01")  # between two chunks, where nothing but the end of a file tells it
    change(stored, 1, zstandard.compress(plain[:end]), plain_size=end)
    assert re.fullmatch(r"the stream ends in the middle of \S+: it is cut short", refusal(stored))


def test_a_bomb_is_refused(stored):
    compressor = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(1024)) + compressor.flush()
    assert len(bomb) < 200_000
    change(stored, 0, bomb, plain_size=1000)
    entry = listed(stored[0])[0]
    assert refusal(stored) == f"{entry.name} unpacks to 1048576 bytes, not to the 1000 read: check the disk"


@pytest.mark.parametrize(
    "evil",
    [
        payload(b"../evil", b"x"),
        payload(b"erp5/../../evil", b"x"),
        payload(b"/tmp/evil-of-a-test", b"x"),
        payload(b"good", b"x") + chunk(b"R", b"good", struct.pack("<I", 7) + b"../evil"),
    ],
    ids=["parent", "inner-parent", "absolute", "rename"],
)
def test_a_name_never_leaves_the_folder(stored, evil):
    entry = change(stored, 0, zstandard.compress(evil), plain_size=len(evil))
    assert entry.physical.plain_size == len(evil)
    assert re.fullmatch(
        r"the stream has a name that leaves its folder: '\S*evil\S*': do not use this backup", refusal(stored)
    )
    assert not list(stored[1].folder.rglob("*evil*")) and not Path("/tmp/evil-of-a-test").exists()


def test_another_position_or_number_of_tables_than_listed_is_refused(stored):
    full, incremental = listed(stored[0])
    more = dataclasses.replace(full.physical, tablespaces=full.physical.tablespaces + 1)
    assert refusal(stored, (dataclasses.replace(full, physical=more), incremental)) == (
        f"{full.name} has GTID {full.gtid} and {full.physical.tablespaces} tablespaces, its list says {full.gtid} and "
        f"{more.tablespaces}: take another one"
    )
    assert "its list says 0-7-99 and " in refusal(stored, (full, dataclasses.replace(incremental, gtid="0-7-99")))


def test_a_chain_that_is_none_is_refused(stored):
    full, incremental = listed(stored[0])
    assert refusal(stored, ()) == "there is no backup to restore: make one"
    assert refusal(stored, (incremental,)) == f"{incremental.name} does not continue nothing: take another chain"
    assert refusal(stored, (full, full)) == f"{full.name} does not continue {full.name}: take another chain"


def test_a_directory_that_exists_is_left_alone(stored):
    source, target = stored
    target.config.data_directory.mkdir()
    (target.config.data_directory / "mine").touch()
    with pytest.raises(FileExistsError):
        restore(source, target, listed(source))
    assert os.listdir(target.config.data_directory) == ["mine"]


def test_a_disk_without_room_is_not_begun_with(stored):
    huge = dataclasses.replace(listed(stored[0])[0].physical, plain_size=1 << 60)
    full = dataclasses.replace(listed(stored[0])[0], physical=huge)
    assert re.fullmatch(
        rf"[0-9.]+ [MG]iB are free in {stored[1].folder}/srv, the backup unpacks to 1073741824.0 GiB, "
        "and a database takes 168.0 MiB besides: free disk space",
        refusal(stored, (full,)),
    )


def test_a_disk_that_fills_up_meanwhile(stored):
    program = (
        "import sys; from pathlib import Path; from slapos.recipe.erp5.mariadb import config, manifest;"
        " from slapos.recipe.erp5.mariadb import physical_restore as r; c = config.load(sys.argv[1]);"
        " r.restore(c, r.local(manifest.load(sys.argv[2]), Path(sys.argv[2])), c.data_directory)"
    )
    command = ("-c", program, stored[1].json, stored[0].config.physical_backups)
    child = stored[1].spawn(sys.executable, *command, stderr=subprocess.PIPE, text=True, preexec_fn=limit_file_size)
    said = child.communicate(timeout=DEADLINE)[1]
    assert child.returncode == 1
    sentence = r"^OSError: \[Errno 27\] File too large: '.*/srv/mariadb/\S+'\nunpack \S+full\.zst$"
    assert re.search(sentence, said, re.MULTILINE)
    assert sorted(os.listdir(stored[1].folder / "srv")) == ["backup", "tls"]


def test_a_stream_that_breaks_off_is_refused(stored):
    source, target = stored
    links = physical_restore.local(listed(source), source.config.physical_backups)

    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, size):
            raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(ConnectionResetError):
        physical_restore.restore(
            target.config, (links[0], dataclasses.replace(links[1], open=Broken)), target.config.data_directory
        )
    assert sorted(os.listdir(target.folder / "srv")) == ["backup", "tls"]


def test_nothing_but_a_physical_backup_is_restored(stored):
    dump = Entry("20261122T000000Z.sql.zst", "logical", 1, "0" * 64, "0-7-1", "", "", "")
    with pytest.raises(BackupError, match="^20261122T000000Z.sql.zst is no physical backup: take another one$"):
        physical_restore.check([dump])
