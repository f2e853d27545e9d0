# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that are written of an xbstream; what is damaged, too large or in the way is refused."""

import os
import struct
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import xbstream_files
from slapos.recipe.erp5.mariadb.xbstream import Inspector
from slapos.recipe.erp5.mariadb.xbstream_files import Files
from tests.unit.mariadb.streams import content, end, file, remove, rename, seek

LIMIT = 1 << 20


def unpack(folder: Path, stream: bytes, size: int = 1 << 20, limit: int = LIMIT) -> dict[str, bytes]:
    """All files of a stream that comes in pieces of `size` bytes, as they lie in `folder`; no descriptor stays open."""
    before = descriptors()
    try:
        with Files(folder, limit) as files:
            inspector = Inspector(files)
            for place in range(0, len(stream), size):
                inspector.feed(memoryview(stream)[place : place + size])
            contents = inspector.finish()
    finally:
        assert descriptors() == before
    written = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert contents.files == written.keys()
    return written


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


STREAM = b"".join(
    [
        file(b"ibdata1", bytes(300)),
        content(b"e/a.ibd", b"XBSTCK01 in the middle of content"),
        content(b"e/b.ibd", b"another one"),
        content(b"e/a.ibd", b"more", 33),
        end(b"e/a.ibd"),
        content(b"e/b.ibd", b"", 11),
        end(b"e/b.ibd"),
        end(b"e/empty.MYD"),
        file(b"e/old.MAD") + rename(b"e/old.MAD", b"f/new.MAD"),
        file(b"e/one") + file(b"e/two", b"2") + rename(b"e/one", b"e/two"),
        file(b"e/gone.MAD") + remove(b"e/gone.MAD"),
        file(b"e/again") + remove(b"e/again") + file(b"e/again", b"new"),
        rename(b"e/nothing", b"e/at-all") + remove(b"e/nothing"),
        content(b"aria_log", b"xxx") + seek(b"aria_log", 0) + content(b"aria_log", b"y") + end(b"aria_log"),
        file(b"a/b/c/d", b"deep"),
    ]
)
WRITTEN = {
    "ibdata1": bytes(300),
    "e/a.ibd": b"XBSTCK01 in the middle of contentmore",
    "e/b.ibd": b"another one",
    "e/empty.MYD": b"",
    "f/new.MAD": b"x",
    "e/two": b"x",
    "e/again": b"new",
    "aria_log": b"yxx",
    "a/b/c/d": b"deep",
}


@pytest.mark.parametrize("size", [1, 2, 7, 13, 64, 1000, 1 << 20])
def test_a_stream_in_pieces_of_any_size(size, tmp_path):
    assert unpack(tmp_path, STREAM, size) == WRITTEN


def test_files_and_folders_are_for_nobody_else(tmp_path):
    unpack(tmp_path, STREAM)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {False: 0o600, True: 0o700}
    assert len({path.stat().st_mode for path in tmp_path.rglob("*")}) == 2


def test_a_stream_that_is_cut_anywhere_leaves_no_descriptor_open(tmp_path):
    refused = 0
    for place in range(len(STREAM)):
        folder = tmp_path / str(place)
        folder.mkdir()
        try:
            unpack(folder, STREAM[:place])
        except BackupError as error:
            assert str(error).endswith("it is cut short")
            refused += 1
    assert len(STREAM) - refused == 16, "where a file has been completed, and none is under way"


def test_many_files_at_once(tmp_path, monkeypatch):
    """Each has the end of its name written before any has its content."""
    monkeypatch.setattr(xbstream_files, "AT_ONCE", 5)
    names = [b"%d/%d" % (number % 7, number) for number in range(300)]
    rounds = [b"".join(content(name, name, len(name) * times) for name in names) for times in range(3)]
    written = unpack(tmp_path, b"".join(rounds) + b"".join(map(end, names)))
    assert written == {name.decode(): name * 3 for name in names}


def test_no_more_descriptors_than_that(tmp_path):
    with Files(tmp_path, LIMIT) as files:
        inspector, before = Inspector(files), len(descriptors())
        for number in range(3 * xbstream_files.AT_ONCE):
            inspector.feed(content(b"%d" % number, b"x"))
        assert len(descriptors()) - before == xbstream_files.AT_ONCE


# ---- what is refused


def refusal(folder: Path, stream: bytes, limit: int = LIMIT) -> str:
    """The one sentence, however the stream comes."""
    sentences = set()
    for size in (1, 1 << 20):
        inner = folder / str(size)
        inner.mkdir()
        with pytest.raises(BackupError) as caught:
            unpack(inner, stream, size, limit)
        sentences.add(str(caught.value))
    (sentence,) = sentences
    return sentence


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (file(b"a") + content(b"e/b", b"text", 0, 7), "e/b"),
        (content(b"a", b"text") + content(b"a", b"more", 4, 0), "a"),
        (content(b"a", b"", 0, 1), "a"),
    ],
)
def test_another_checksum(stream, name, tmp_path):
    sentence = f"the stream's checksum of a part of {name} does not hold: it is damaged"
    assert refusal(tmp_path, stream) == sentence


def test_a_changed_byte_anywhere_in_a_file(tmp_path):
    stream = content(b"name", b"text of the file")
    for place in range(len(stream) - 16, len(stream)):
        folder = tmp_path / str(place)
        folder.mkdir()
        changed = stream[:place] + bytes([stream[place] ^ 4]) + stream[place + 1 :]
        assert refusal(folder, changed) == "the stream's checksum of a part of name does not hold: it is damaged"


@pytest.mark.parametrize(
    ("stream", "observed", "expected"),
    [
        (content(b"a", b"x", 1), 1, 0),
        (content(b"a", b"xx") + content(b"a", b"yy", 8), 8, 2),
        (content(b"a", b"xx") + content(b"a", b"yy", 0), 0, 2),
        (content(b"a", b"xx") + seek(b"a", 8) + content(b"a", b"yy", 2), 2, 8),
    ],
)
def test_a_piece_that_belongs_elsewhere(stream, observed, expected, tmp_path):
    sentence = f"the stream has a at {observed}, expected at {expected}: it is damaged"
    assert refusal(tmp_path, stream) == sentence


TOO_LARGE = "the stream unpacks to more than the 1.0 MiB that its database may take here: free disk space"


@pytest.mark.parametrize(
    "stream",
    [
        seek(b"a", LIMIT + 1),
        seek(b"a", (1 << 64) - 1),
        file(b"a", b"xxxx") + seek(b"b", LIMIT - 3),
        seek(b"a", LIMIT) + content(b"a", b"x", LIMIT),
        seek(b"a", LIMIT - 4) + content(b"a", b"xxxx", LIMIT - 4) + content(b"b", b"x"),
    ],
)
def test_a_hole_that_is_larger_than_there_is_room_for(stream, tmp_path):
    assert refusal(tmp_path, stream) == TOO_LARGE
    assert all(path.stat().st_size <= LIMIT for path in tmp_path.rglob("*"))


def test_more_than_there_is_room_for(tmp_path):
    assert unpack(tmp_path, file(b"a", bytes(3000)) + file(b"b", bytes(2000)), limit=5000).keys() == {"a", "b"}
    sentence = TOO_LARGE.replace("1.0 MiB", "4.9 KiB")
    assert refusal(tmp_path, file(b"a", bytes(3000)) + file(b"b", bytes(2001)), 5000) == sentence


@pytest.mark.parametrize("name", [b"../evil", b"e/../../evil", b"/evil"])
@pytest.mark.parametrize("kind", ["content", "end", "seek", "rename", "remove"])
def test_a_name_that_leaves_the_folder(name, kind, tmp_path):
    chunks = {
        "content": content(name, b"x"),
        "end": end(name),
        "seek": seek(name, 1),
        "rename": file(b"good") + rename(b"good", name),
        "remove": remove(name),
    }
    sentence = f"the stream has a name that leaves its folder: {name.decode()!r}: do not use this backup"
    assert refusal(tmp_path, chunks[kind]) == sentence
    assert not list(tmp_path.rglob("evil"))


def test_a_file_that_comes_twice(tmp_path):
    assert refusal(tmp_path, file(b"e/a") + file(b"e/a")) == "the stream has e/a twice: it is damaged"


IN_THE_WAY = "the stream has {}, and something else is in its place: it is damaged"


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (file(b"link"), "link"),
        (file(b"link/new"), "link/new"),
        (file(b"a") + rename(b"a", b"link/new"), "link/new"),
    ],
)
def test_a_symbolic_link_is_never_followed(stream, name, tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    with pytest.raises(BackupError) as caught:
        unpack(folder, stream)
    assert str(caught.value) == IN_THE_WAY.format(name)
    assert not list(outside.iterdir())


def test_a_file_where_a_link_was_put_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(xbstream_files, "AT_ONCE", 1)
    (tmp_path / "outside").touch()
    with Files(tmp_path, LIMIT) as files:
        inspector = Inspector(files)
        inspector.feed(content(b"a", b"x") + content(b"b", b"x"))
        (tmp_path / "a").unlink()
        (tmp_path / "a").symlink_to("outside")
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            inspector.feed(content(b"a", b"y", 1))
    assert (tmp_path / "outside").read_bytes() == b""


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (file(b"a") + file(b"a/b"), "a/b"),
        (file(b"a/b") + file(b"a"), "a"),
        (file(b"a/b") + file(b"c") + rename(b"c", b"a"), "a"),
        (file(b"a") + file(b"c") + rename(b"c", b"a/b"), "a/b"),
    ],
)
def test_a_name_that_is_a_file_and_a_folder(stream, name, tmp_path):
    assert refusal(tmp_path, stream) == IN_THE_WAY.format(name)


def test_only_files_are_renamed_and_removed(tmp_path):
    assert unpack(tmp_path, file(b"a/b") + rename(b"a", b"c") + remove(b"a")) == {"a/b": b"x"}


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        unpack(tmp_path, file(b"e/a"))
    assert caught.value.filename == str(tmp_path / "e" / "a")


def test_what_is_written_in_part_is_written_to_its_end(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, place: real(descriptor, data[:3], place))
    assert unpack(tmp_path, file(b"a", b"0123456789")) == {"a": b"0123456789"}


# ---- holes


def pages(flags: int, count: int = 64) -> bytes:
    """A tablespace whose pages of 16 KiB have 5000 bytes each."""
    page = b"p" * 5000 + bytes(11384)
    first = page[:54] + struct.pack(">I", flags) + page[58:]
    return first + page * (count - 2) + bytes(16384)


COMPRESSED = [0x15 | 1 << 5, 0x15 | 6 << 5, 0x21 | 1 << 16]
PLAIN = [0x15, 0x21]


@pytest.mark.parametrize("flags", COMPRESSED)
@pytest.mark.parametrize("size", [57, 5000, 8192, 1 << 18])
def test_compressed_pages_end_in_holes(flags, size, tmp_path):
    table = pages(flags)
    assert unpack(tmp_path, content(b"e/a.ibd", table) + end(b"e/a.ibd"), size, 2 * LIMIT) == {"e/a.ibd": table}
    used = (tmp_path / "e/a.ibd").stat().st_blocks * 512
    # Once it is on the disk, a file of so many pieces has a block of the file system's own besides.
    assert used <= 63 * 8192 + size + 4096


@pytest.mark.parametrize(
    ("name", "table"),
    [
        *((b"e/a.ibd", pages(flags)) for flags in PLAIN),
        (b"e/a.ibd.delta", pages(COMPRESSED[0])),
        (b"e/a.MYD", pages(COMPRESSED[0])),
    ],
)
def test_nothing_else_has_holes(name, table, tmp_path):
    assert unpack(tmp_path, file(name, table), 4096, 2 * LIMIT) == {name.decode(): table}
    assert (tmp_path / name.decode()).stat().st_blocks * 512 >= len(table)


def test_holes_never_show_what_was_there_before(tmp_path):
    table = pages(COMPRESSED[0])
    stream = content(b"a.ibd", table) + seek(b"a.ibd", 0) + content(b"a.ibd", bytes(len(table))) + end(b"a.ibd")
    assert unpack(tmp_path, stream, 8192, 2 * LIMIT) == {"a.ibd": bytes(len(table))}


def test_a_table_that_ends_before_its_flags(tmp_path):
    assert unpack(tmp_path, file(b"a.ibd", b"short")) == {"a.ibd": b"short"}


def test_a_hole_by_a_seek(tmp_path):
    """One at the end is none, as for mbstream."""
    stream = content(b"a", b"xx") + seek(b"a", 90_000) + content(b"a", b"yy", 90_000) + seek(b"a", 99_000) + end(b"a")
    assert unpack(tmp_path, stream) == {"a": b"xx" + bytes(89_998) + b"yy"}
    assert (tmp_path / "a").stat().st_blocks * 512 < 20_000
