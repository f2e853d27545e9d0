# SPDX-License-Identifier: GPL-2.0-or-later
"""Dump files: every way in which a dump or its file can be incomplete is noticed."""

import hashlib
import io
import os
import re
import tracemalloc

import pytest
import zstandard

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import dump_file

HEAD = b"-- MariaDB dump\n-- Server version\t10.11.19-MariaDB-0+deb12u1-log\n\n"
END = (
    b"SET GLOBAL gtid_slave_pos='0-7-42';\n/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n"
    b"-- Dump completed on 2026-11-22\n"
)
ROWS = b"INSERT INTO t VALUES (0x00FF);\n" * 100_000


def write(path, content, progress=lambda read, written: None):
    return dump_file.write(io.BytesIO(content), path, progress)


def test_what_is_written_unpacks_and_is_what_it_says(tmp_path):
    path, calls = tmp_path / "d", []
    written = write(path, HEAD + ROWS + END, lambda *sizes: calls.append(sizes))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()) == HEAD + ROWS + END
    assert written.size == path.stat().st_size
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert written.plain_size == len(HEAD + ROWS + END)
    assert zstandard.get_frame_parameters(path.read_bytes()).has_checksum
    assert path.stat().st_mode & 0o777 == 0o600
    assert [read for read, _ in calls] == [1 << 20, 2 << 20, written.plain_size]
    assert dump_file.facts(written) == dump_file.Facts("0-7-42", "10.11.19-MariaDB-0+deb12u1-log")
    dump_file.verify(path, written)


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "d").write_bytes(b"good")
    with pytest.raises(FileExistsError):
        write(tmp_path / "d", HEAD)
    assert (tmp_path / "d").read_bytes() == b"good"


@pytest.mark.parametrize("kept", [0, 1, 40, -1, -4, -20])
def test_a_file_cut_short_on_disk_is_noticed(tmp_path, kept):
    path = tmp_path / "d"
    written = write(path, HEAD + ROWS + END)
    os.truncate(path, kept if kept >= 0 else written.size + kept)
    with pytest.raises(BackupError, match=f"^{re.escape(str(path))} .*: check the disk$"):
        dump_file.verify(path, written)


def test_a_byte_that_changed_on_disk_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "d"
    written = write(path, HEAD + ROWS[:3100] + END)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BackupError):
            dump_file.verify(path, written)


def test_bytes_appended_on_disk_are_noticed(tmp_path):
    path = tmp_path / "d"
    written = write(path, HEAD + END)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BackupError) as caught:
        dump_file.verify(path, written)
    assert str(caught.value) == f"{path} has more than the {written.size} bytes written: check the disk"


def test_verifying_needs_little_memory_however_far_the_file_unpacks(tmp_path):
    path = tmp_path / "d"
    written = dump_file.write(_Limited(256 << 20), path, lambda *_: None)
    assert written.size < 100_000
    tracemalloc.start()
    dump_file.verify(path, written)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


class _Limited(io.BytesIO):
    """Zeros, without holding them."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def read(self, size=-1):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def facts(content: bytes) -> dump_file.Facts:
    return dump_file.facts(
        dump_file.Written(1, "", len(content), content[: dump_file.HEAD], content[-dump_file._TAIL :])
    )


@pytest.mark.parametrize("content", [b"", HEAD + ROWS, HEAD + END[:-34], HEAD + END + b"more\n"])
def test_a_dump_without_its_last_line_is_cut_short(content):
    with pytest.raises(BackupError) as caught:
        facts(content)
    assert str(caught.value) == "mariadb-dump ended without its last line `-- Dump completed`: the dump is cut short"


@pytest.mark.parametrize("content", [END, HEAD + b"-- Dump completed on 2026-11-22\n"])
def test_a_dump_has_to_say_where_it_is_from(content):
    with pytest.raises(BackupError) as caught:
        facts(content)
    assert str(caught.value) == (
        "the dump does not name its GTID position and its server's version: is this mariadb-dump?"
    )


def test_a_server_that_never_wrote_has_an_empty_position():
    assert facts(HEAD + END.replace(b"0-7-42", b"")).gtid == ""


def test_several_domains():
    assert facts(HEAD + END.replace(b"0-7-42", b"0-7-42,1-8-3,\n2-9-1")).gtid == "0-7-42,1-8-3,2-9-1"


def test_a_procedure_that_looks_like_a_position_is_not_taken_for_it():
    body = b"CREATE PROCEDURE p() BEGIN\nSET GLOBAL gtid_slave_pos='9-9-9';\nEND ;;\n"
    assert facts(HEAD + body + END).gtid == "0-7-42"
