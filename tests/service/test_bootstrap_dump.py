# SPDX-License-Identifier: GPL-2.0-or-later
"""Replicas made of dumps, ours or anybody's: loaded while they stream by, and kept only when they were good."""

import dataclasses
import gzip
import os
import re
import subprocess

import pytest
import zstandard

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import manifest, new_database, source, space
from slapos.recipe.erp5.words import size_text
from tests.service.backup_fixtures import PARTS, TOKEN, empty_data, new_partition
from tests.service.bootstrap_fixtures import GONE, primary, replica, site

__all__ = ["empty_data", "new_partition", "primary", "replica", "site"]

OPTIONS = ("--all-databases", "--single-transaction", "--routines", "--events", "--triggers", "--hex-blob",
           "--flush-privileges")  # fmt: skip


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(source, "PAUSES", (0.01, 0.01, 0.01))


@pytest.fixture(scope="module")
def by_hand(primary) -> bytes:
    """The text of a dump that somebody made by hand."""
    return dumped(primary, "--gtid", "--master-data=1")


def dumped(primary, *options: str, everything: bool = True) -> bytes:
    defaults = f"--defaults-file={primary.partition.config.defaults_file}"
    command = [PARTS / "mariadb/bin/mariadb-dump", defaults, *(OPTIONS if everything else ()), *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def refusal(replica, url: str) -> str:
    with pytest.raises(BackupError) as caught:
        replica.make(url)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


# ---- good ones


def test_the_newest_dump_of_the_list(primary, site, replica, capfd):
    note = replica.make(site.url + "#dump")
    assert "has no accounts" not in capfd.readouterr().err
    assert (note.method, note.gtid, note.server_version) == ("dump", primary.dump.gtid, primary.dump.server_version)
    assert replica.outside.asked == [primary.dump.gtid] * 2
    assert replica.answers() == primary.answers
    with replica.serving() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW ALL SLAVES STATUS")
        assert cursor.fetchall() == ()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_dump_that_was_made_by_hand(primary, site, replica, by_hand, suffix):
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    (site.folder / f"mine.sql{suffix}").write_bytes(pack(by_hand))
    note = replica.make(f"{site.url}mine.sql{suffix}")
    assert (note.method, note.gtid) == ("dump", primary.dump.gtid)
    assert replica.answers() == primary.answers


def test_a_position_near_the_head_as_older_servers_write_it(primary, site, replica, by_hand):
    line = re.search(rb"^SET GLOBAL gtid_slave_pos='.*';\n", by_hand, re.MULTILINE)[0]
    older = by_hand.replace(line, b"", 1).replace(b"\n\n", b"\n" + line, 1)
    assert older.index(line) < 4096 < older.rindex(b"CREATE TABLE")
    (site.folder / "mine.sql").write_bytes(older)
    assert replica.make(f"{site.url}mine.sql").gtid == primary.dump.gtid


def test_our_own_dump_on_a_server_without_a_list(primary, site, replica):
    (site.folder / "manifest.json").unlink()
    note = replica.make(site.url + primary.dump.name)
    assert note.gtid == primary.dump.gtid
    assert replica.answers() == primary.answers


def test_a_cut_goes_on_where_it_was(primary, site, replica):
    name = primary.dump.name
    site.cuts = {name: [100_000, 200_000]}
    replica.make(site.url + "#dump")
    assert [wanted for asked, wanted, _ in site.requests if asked == name] == ["", "bytes=100000-", "bytes=300000-"]
    assert site.sent(name) == primary.dump.size
    assert replica.answers() == primary.answers


def test_a_dump_of_one_database_lacks_the_accounts_and_says_so(primary, site, replica, capfd):
    options = ("--single-transaction", "--gtid", "--master-data=1", "--databases", "erp5")
    (site.folder / "mine.sql.gz").write_bytes(gzip.compress(dumped(primary, *options, everything=False)))
    assert replica.make(f"{site.url}mine.sql.gz").gtid == primary.dump.gtid
    assert replica.answers() == [*primary.answers[:-1], []]
    assert (
        "warning: mine.sql.gz has no accounts: the replica will lack those that the primary has now; a dump made with"
        " mariadb-dump --all-databases has them\n"
    ) in capfd.readouterr().err


# ---- bad ones


def test_without_a_position_nothing_is_kept(primary, site, replica):
    (site.folder / "mine.sql.gz").write_bytes(gzip.compress(dumped(primary)))
    assert refusal(replica, f"{site.url}mine.sql.gz") == (
        "mine.sql.gz has no GTID position (a line SET GLOBAL gtid_slave_pos), without which a replica does not know"
        " where to begin: make it with mariadb-dump --gtid --master-data=1"
    )


@pytest.mark.parametrize("end", [b"-- Dump completed", b"SET GLOBAL gtid_slave_pos", b"-- Current Database: `mysql`"])
def test_a_dump_that_was_cut_before_it_was_packed_and_then_a_good_one(primary, site, replica, by_hand, end):
    (site.folder / "mine.sql.gz").write_bytes(gzip.compress(by_hand[: by_hand.rindex(end)]))
    assert refusal(replica, f"{site.url}mine.sql.gz") == (
        "mine.sql.gz ends without the line `-- Dump completed`: it is cut short; make another one"
    )
    (site.folder / "mine.sql.gz").write_bytes(gzip.compress(by_hand))
    assert replica.make(f"{site.url}mine.sql.gz").gtid == primary.dump.gtid
    assert replica.answers() == primary.answers


def test_a_file_that_was_cut(site, replica, by_hand):
    (site.folder / "mine.sql.gz").write_bytes(gzip.compress(by_hand)[:-100_000])
    assert refusal(replica, f"{site.url}mine.sql.gz") == (
        "mine.sql.gz does not unpack: it ends too early: take another backup"
    )


def test_what_is_not_what_the_list_says(primary, site, replica):
    """The text is as good as before, and the file another one."""
    path = site.folder / primary.dump.name
    text = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    for level in range(1, 20):
        packed = zstandard.compress(text, level)
        if packed != path.read_bytes() and len(packed) <= primary.dump.size - 8:
            break
    rest = primary.dump.size - len(packed) - 8
    path.write_bytes(packed + b"\x50\x2a\x4d\x18" + rest.to_bytes(4, "little") + os.urandom(rest))
    assert refusal(replica, site.url + "#dump") == (
        f"{primary.dump.name} is not what its list says, by its size or sha256: make another backup"
    )


def test_a_bomb_never_fills_the_disk(site, replica, by_hand, monkeypatch):
    bomb = b"-- Server version\t10.11.1\n" + b"-- " + bytes(400 << 20).replace(b"\0", b" ") + b"\n"
    (site.folder / "mine.sql.zst").write_bytes(zstandard.compress(bomb))
    room = new_database.reserve(replica.config) + (44 << 20)
    monkeypatch.setattr(space, "free", lambda folder: room)
    assert refusal(replica, f"{site.url}mine.sql.zst") == (
        "mine.sql.zst unpacks to more than the 44.0 MiB that its database may take here: free disk space"
    )


@pytest.mark.parametrize("fragment", ["#dump", "mine.sql"])
def test_a_position_ahead_of_the_primary_is_refused(primary, site, replica, by_hand, fragment):
    """MariaDB would follow from there, as it knows nothing of that domain."""
    position, foreign = primary.dump.gtid, f"{primary.dump.gtid},7-99-3"
    (site.folder / "mine.sql").write_bytes(by_hand.replace(position.encode(), foreign.encode()))
    dump = dataclasses.replace(primary.dump, gtid=foreign)
    manifest.save(site.folder, [*primary.chain, dump])
    said = refusal(replica, site.url + fragment)
    listed = fragment == "#dump"
    sentence = (
        f"dump{f' {dump.name}' if listed else ''} has the GTID position {foreign}, which is ahead of 127.0.0.1:20001 at"
        f" {primary.position}, expected what that primary, or a replica of it, has made"
    )
    if not listed:
        assert said == f"{sentence}: give another one as replication.bootstrap-url"
        return
    assert said == (
        f"nothing that {site.where} offers can be used, {sentence}: make a new backup there, or give another"
        " replication.bootstrap-url"
    )
    assert [name for name, _, _ in site.requests] == ["manifest.json"]


def test_a_disk_without_room_is_not_begun_with(primary, site, replica, monkeypatch):
    monkeypatch.setattr(space, "free", lambda folder: new_database.reserve(replica.config))
    assert refusal(replica, site.url + "#dump") == (
        f"168.0 MiB are free in {replica.config.path('srv')}, {primary.dump.name} has"
        f" {size_text(primary.dump.size)} compressed, and a database takes 168.0 MiB besides: free disk space"
    )


@pytest.mark.parametrize(
    ("evil", "header"),
    [
        (b"\\! touch {made}\n", True),
        (b"\\! touch {made}\n", False),
        (b"system touch {made}\n", False),
        (b"tee {made}\n", False),
        (b"SELECT 1 INTO OUTFILE '{made}';\n", False),
    ],
)
def test_a_dump_runs_no_command(site, replica, by_hand, evil, header, tmp_path):
    made = tmp_path / "made"
    text = by_hand if header else by_hand.split(b"\n", 1)[1]
    assert (b"sandbox" in text[:100]) == header
    evil = evil.replace(b"{made}", os.fsencode(made))
    (site.folder / "mine.sql").write_bytes(text.replace(b"-- Host", evil + b"-- Host", 1))
    said = refusal(replica, f"{site.url}mine.sql")
    assert said.startswith("the client that loads mine.sql ended with status 1: ERROR")
    assert not made.exists()


def test_rows_of_a_statement_that_fails_are_in_no_sentence(site, replica, by_hand):
    bad = by_hand.replace(
        b"-- Current Database: `erp5`", b"\nUSE mysql;\nINSERT INTO t VALUES (1, 'SECRET') 'SECRET';\n", 1
    )
    (site.folder / "mine.sql").write_bytes(bad)
    said = refusal(replica, f"{site.url}mine.sql")
    assert said.startswith("the client that loads mine.sql ended with status 1: ERROR 1064")
    assert "SECRET" not in said


def test_a_newer_series_is_refused_before_much_of_it_was_read(site, replica, by_hand):
    newer = re.sub(rb"Server version\t10\.11\.\S+", b"Server version\t11.4.2-MariaDB", by_hand, count=1)
    (site.folder / "mine.sql").write_bytes(newer)
    assert re.fullmatch(
        r"mine\.sql is of MariaDB 11\.4\.2-MariaDB and this is 10\.11\.\S+, which cannot read it: install a release"
        " with that version or a newer one",
        refusal(replica, f"{site.url}mine.sql"),
    )


def test_a_position_that_is_gone_is_told_when_it_is_known(primary, site, replica, by_hand):
    (site.folder / "mine.sql").write_bytes(by_hand)
    replica.outside.refused = {primary.dump.gtid: GONE}
    assert refusal(replica, f"{site.url}mine.sql") == (
        f"127.0.0.1:20001 cannot be followed from dump, whose GTID position is {primary.dump.gtid} ({GONE}): give a"
        " newer one as replication.bootstrap-url"
    )
