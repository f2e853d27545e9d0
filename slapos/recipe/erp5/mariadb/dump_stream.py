# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a dump that comes from anywhere: unpacked as its name says, and never more than there is room for."""

import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

import zstandard

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb.dump_file import CHUNK, Readable
from slapos.recipe.erp5.words import size_text

_GZIP = 16 + zlib.MAX_WBITS
"""The format that zlib is to expect: gzip alone."""


def pieces(source: Readable, name: str, limit: int) -> Iterator[bytes]:
    """The text of the dump `name` in pieces of at most CHUNK bytes; `source` is read to its end.

    Raises BackupError for what does not unpack, or has more than `limit` bytes, and what `source` raises.
    """
    size = 0
    for piece in _form(name)(source, name):
        size += len(piece)
        if size > limit:
            raise BackupError(
                f"{name} unpacks to more than the {size_text(max(limit, 0))} that its database may take here:"
                " free disk space"
            )
        yield piece


def _form(name: str) -> Callable[[Readable, str], Iterator[bytes]]:
    return {"gz": _gzip, "zst": _zstd}.get(name.rpartition(".")[2], _plain)


def _plain(source: Readable, name: str) -> Iterator[bytes]:
    while piece := source.read(CHUNK):
        yield piece


def _zstd(source: Readable, name: str) -> Iterator[bytes]:
    """Of any number of frames, as pzstd makes."""
    decompressor = zstandard.ZstdDecompressor()
    try:
        with decompressor.stream_reader(
            cast(IO[bytes], source), read_size=CHUNK, read_across_frames=True, closefd=False
        ) as reader:
            while piece := reader.read(CHUNK):
                yield piece
    except zstandard.ZstdError as error:
        raise BackupError(f"{name} does not unpack: {error}: take another backup") from error


def _gzip(source: Readable, name: str) -> Iterator[bytes]:
    """Of any number of members, as pigz makes; zeros that fill a block after the last one are none."""
    member = None
    try:
        while data := source.read(CHUNK):
            while data := data if member else data.lstrip(b"\0"):
                member = member or zlib.decompressobj(_GZIP)
                yield member.decompress(data, CHUNK)
                data, member = (member.unused_data, None) if member.eof else (member.unconsumed_tail, member)
    except zlib.error as error:
        raise BackupError(f"{name} does not unpack: {error}: take another backup") from error
    if member:
        raise BackupError(f"{name} does not unpack: it ends too early: take another backup")
