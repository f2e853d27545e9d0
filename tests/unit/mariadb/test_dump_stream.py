# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts of dumps that were packed by anybody: whole, or a sentence."""

import gzip
import io
import os
import tracemalloc
import zlib

import pytest
import zstandard

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import dump_stream
from slapos.recipe.erp5.mariadb.dump_file import CHUNK

TEXT = b"-- MariaDB dump\n" + os.urandom(3 << 20) + bytes(3 << 20) + b"\n-- Dump completed\n"
ROOM = 1 << 40


def unpacked(content: bytes, name: str, limit: int = ROOM) -> bytes:
    pieces = list(dump_stream.pieces(io.BytesIO(content), name, limit))
    assert all(len(piece) <= CHUNK for piece in pieces)
    return b"".join(pieces)


def frames(text: bytes) -> bytes:
    """As pzstd makes: several frames, and one that is to be skipped."""
    half = len(text) // 2
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"1234"
    return zstandard.compress(text[:half]) + skipped + zstandard.compress(text[half:])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.sql", TEXT),
        ("x.sql.gz", gzip.compress(TEXT)),
        ("x.sql.gz", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("x.sql.gz", gzip.compress(TEXT) + bytes(1000)),
        ("x.sql.zst", zstandard.compress(TEXT)),
        ("x.sql.zst", frames(TEXT)),
    ],
    ids=["plain", "gzip", "members", "padded", "zstd", "frames"],
)
def test_all_of_it(name, content):
    assert unpacked(content, name) == TEXT


def test_source_is_read_to_its_end():
    for name, content in (("x.sql.gz", gzip.compress(TEXT) + bytes(9)), ("x.sql.zst", zstandard.compress(TEXT))):
        source = io.BytesIO(content)
        for _ in dump_stream.pieces(source, name, ROOM):
            pass
        assert source.tell() == len(content)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.sql.gz", TEXT, r"Error -3 while decompressing data: incorrect header check"),
        ("x.sql.gz", gzip.compress(TEXT)[:-1], "it ends too early"),
        ("x.sql.gz", gzip.compress(TEXT)[:-5000], "it ends too early"),
        ("x.sql.gz", gzip.compress(TEXT) + b"more", ".*"),
        ("x.sql.gz", gzip.compress(TEXT)[:-8] + bytes(8), r"Error -3 while decompressing data: incorrect data check"),
        ("x.sql.zst", TEXT, ".*Unknown frame descriptor"),
        ("x.sql.zst", zstandard.compress(TEXT) + b"more", ".*"),
    ],
)
def test_what_does_not_unpack(name, content, reason):
    with pytest.raises(BackupError, match=rf"^{name} does not unpack: {reason}: take another backup$"):
        unpacked(content, name)


def gzip_bomb(size: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)) + compressor.flush()


def zstd_bomb(size: int) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)) + compressor.flush()


@pytest.mark.parametrize(("name", "bomb"), [("x.sql.gz", gzip_bomb), ("x.sql.zst", zstd_bomb)])
def test_a_bomb_is_refused_before_it_fills_anything(name, bomb):
    content, limit, taken = bomb(256 << 20), 10 << 20, 0
    tracemalloc.start()
    with pytest.raises(BackupError) as caught:
        for piece in dump_stream.pieces(io.BytesIO(content), name, limit):
            taken += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value) == (
        f"{name} unpacks to more than the 10.0 MiB that its database may take here: free disk space"
    )
    assert taken <= limit
    assert peak < 8 << 20
