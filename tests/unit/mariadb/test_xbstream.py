# SPDX-License-Identifier: GPL-2.0-or-later
"""An xbstream followed in pieces of any size: what it holds, that it is whole, and no name outside its folder."""

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import xbstream
from slapos.recipe.erp5.mariadb.xbstream import Contents, Inspector
from tests.unit.mariadb.streams import chunk, content, end, file, remove, rename, seek


def follow(stream: bytes, size: int = 1 << 20) -> Contents:
    inspector = Inspector()
    for place in range(0, len(stream), size):
        inspector.feed(stream[place : place + size])
    return inspector.finish()


STREAM = b"".join(
    [
        file(b"ibdata1", bytes(5000)),
        content(b"e/a.ibd", b"XBSTCK01 in the middle of content"),
        content(b"e/a.ibd", b"more", 33),
        end(b"e/a.ibd"),
        end(b"e/empty.MYD"),
        file(b"e/old.MAD") + rename(b"e/old.MAD", b"e/new.MAD"),
        file(b"e/gone.MAD") + remove(b"e/gone.MAD"),
        content(b"aria_log", b"x") + seek(b"aria_log", 0) + file(b"aria_log", b"y"),
        file(b"xtrabackup_binlog_info", b"binlog.000002\t667\t0-3-43,1-4-5\n"),
    ]
)


@pytest.mark.parametrize("size", [1, 2, 7, 13, 64, 1000, 1 << 20])
def test_a_stream_in_pieces_of_any_size(size):
    contents = follow(STREAM, size)
    names = ("ibdata1", "e/a.ibd", "e/empty.MYD", "e/new.MAD", "aria_log", "xtrabackup_binlog_info")
    assert contents.files == frozenset(names)
    assert contents.information("binlog_info") == "binlog.000002\t667\t0-3-43,1-4-5\n"


def ends(stream: bytes) -> list[int]:
    """Where a file has been completed, and none is under way."""
    return [
        place for place in range(1, len(stream)) if stream[place:].startswith(b"XBSTCK01") and _is_whole(stream[:place])
    ]


def _is_whole(stream: bytes) -> bool:
    try:
        return bool(follow(stream))
    except BackupError:
        return False


def test_a_stream_that_is_cut_anywhere_is_noticed_unless_it_ends_with_a_file():
    whole = [place for place in range(len(STREAM)) if _is_whole(STREAM[:place])]
    assert whole == ends(STREAM)
    assert len(whole) == 8


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (b"", "the stream is empty: it is cut short"),
        (content(b"a", b"x"), "the stream ends in the middle of a: it is cut short"),
        (content(b"a", b"x")[:-1], "the stream ends in the middle of a chunk: it is cut short"),
        (b"nothing of the kind", "the stream is no xbstream, or damaged"),
        (chunk(b"Z", b"a"), "the stream has a chunk of a kind that is not known: b'Z'"),
        (end(b""), "the stream has a name of 0 bytes: it is damaged"),
        (end(b"a" * 512), "the stream has a name of 512 bytes: it is damaged"),
        (end(b"\xff"), "the stream has a name that is no text: b'\\xff'"),
        (file(b"a") + content(b"a", b"x"), "the stream has a twice: it is damaged"),
        (file(b"a") + end(b"a"), "the stream has a twice: it is damaged"),
        (file(b"a") + seek(b"a", 5), "the stream has a twice: it is damaged"),
        (file(b"a") + rename(b"a", b"b") + file(b"b"), "the stream has b twice: it is damaged"),
        (content(b"a", b"x") + rename(b"a", b"b"), "the stream renames or removes a before its end: it is damaged"),
        (
            file(b"a") + content(b"b", b"x") + rename(b"a", b"b"),
            "the stream renames or removes b before its end: it is damaged",
        ),
        (content(b"a", b"x") + remove(b"a"), "the stream renames or removes a before its end: it is damaged"),
        (
            file(b"xtrabackup_info", bytes(70_000)),
            "a file of the stream that says something has more than 65536 bytes",
        ),
    ],
)
def test_what_is_refused(stream, sentence):
    with pytest.raises(BackupError) as caught:
        follow(stream)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("again", [remove(b"a"), rename(b"a", b"b")])
def test_a_name_that_is_free_again(again):
    assert "a" in follow(file(b"a") + again + file(b"a")).files


@pytest.mark.parametrize("absent", [remove(b"a"), rename(b"a", b"b")])
def test_what_is_not_there_is_neither_renamed_nor_removed(absent):
    assert follow(absent + file(b"c")).files == {"c"}


def test_what_a_file_says_goes_with_its_name():
    stream = file(b"e/a.ibd") + file(b"e/a.ren", b"e/b") + file(b"e/c.ren", b"e/c")
    assert follow(stream + remove(b"e/c.ren")).tablespaces() == {"e/b"}
    assert follow(file(b"e/d.ibd") + stream + rename(b"e/a.ren", b"e/d.ren")).tablespaces() == {"e/a", "e/b"}


EVIL = ["/etc/passwd", "../a", "a/../../b", "a/..", "..", ".", "./a", "a//b", "a/", "a\0b", "/"]


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_leaves_the_folder_is_refused_before_its_content_passes(name):
    for stream in (content(name.encode(), b"x"), file(b"good") + rename(b"good", name.encode())):
        inspector = Inspector()
        with pytest.raises(BackupError) as caught:
            inspector.feed(stream[: len(stream) - 2] if stream.endswith(b"x") else stream)
        assert str(caught.value) == f"the stream has a name that leaves its folder: {name!r}: do not use this backup"


@pytest.mark.parametrize("name", ["ibdata1", "erp5/a.ibd", "erp5/@65e5#P#p0.ibd", "a..b", "..a", "a/b/c"])
def test_names_that_stay_in_the_folder(name):
    assert xbstream.safe_name(name.encode()) == name


def test_information_of_newer_series_is_found_too():
    assert follow(file(b"mariadb_backup_binlog_info", b"new")).information("binlog_info") == "new"
    with pytest.raises(BackupError) as caught:
        follow(file(b"a")).information("binlog_info")
    assert str(caught.value) == "the stream has no xtrabackup_binlog_info: is this mariadb-backup's?"


def test_tables_of_a_full_backup():
    names = (b"e/a.ibd", b"mysql/b.ibd", b"ibdata1", b"e/a.frm", b"e/#sql-alter-1.ibd", b"undo001")
    assert follow(b"".join(map(file, names))).tablespaces() == {"e/a", "mysql/b"}


def test_tables_of_an_incremental_backup():
    names = (b"e/a.ibd.delta", b"e/a.ibd.meta", b"e/new.new", b"ibdata1.delta")
    assert follow(b"".join(map(file, names))).tablespaces() == {"e/a", "e/new"}


def test_tables_that_were_dropped_renamed_and_created_meanwhile():
    names = (b"e/dropped.ibd", b"e/renamed.ibd", b"e/truncated.ibd", b"e/again.ibd", b"e/a.ibd", b"e/b.ibd")
    dropped = file(b"e/dropped.del") + file(b"e/again.del")
    renamed = file(b"e/renamed.ren", b"e/name") + file(b"e/a.ren", b"e/b") + file(b"e/b.ren", b"e/a")
    created = file(b"e/truncated.new") + file(b"e/again.new") + file(b"e/created.new") + file(b"e/#sql-ib3.new")
    contents = follow(b"".join(map(file, names)) + dropped + renamed + created)
    assert contents.tablespaces() == {"e/name", "e/truncated", "e/again", "e/created", "e/a", "e/b"}
