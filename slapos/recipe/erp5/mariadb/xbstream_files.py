# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the files of an xbstream as it comes, as `mbstream -x` would, and refuses what that passes over."""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb.xbstream import Listener
from slapos.recipe.erp5.words import size_text

AT_ONCE = 64
"""Descriptors at most: mariadb-backup has a file or two under way, a damaged stream may have any number."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096
"""What holes are made of on the usual file systems."""
_ZEROS = bytes(_BLOCK)
_FLAGS = struct.Struct(">I")
_FLAGS_PLACE = 54
"""FSP_SPACE_FLAGS in the first page of a tablespace."""


@dataclass
class _File:
    """A file under way: where it goes on, how long it is, its `descriptor` or -1, and whether it gets holes."""

    path: Path
    descriptor: int
    position: int = 0
    size: int = 0
    holes: bool | None = None


class Files(Listener):
    """Writes into `folder`, which is empty and ours, what may have `limit` bytes in all; to be used in `with`.

    Its methods raise BackupError for what is damaged or larger, and OSError.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._total = 0
        self._folders: set[str] = set()
        self._under_way: dict[str, _File] = {}
        self._recent: dict[str, _File] = {}  # those with a descriptor, the last used one at the end
        self._name, self._left, self._sum, self._expected = "", 0, 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._recent:
            os.close(self._recent.popitem()[1].descriptor)

    # ---- what the stream says

    def begin(self, name: str, size: int, offset: int, checksum: int) -> None:
        file = self._file(name)
        if offset != file.position:
            raise BackupError(f"the stream has {name} at {offset}, expected at {file.position}: it is damaged")
        self._name, self._left, self._sum, self._expected = name, size, 0, checksum
        self._check_sum()

    def content(self, data: memoryview) -> None:
        self._sum = zlib.crc32(data, self._sum)
        self._left -= len(data)
        self._check_sum()
        file = self._recent[self._name]
        end = file.position + len(data)
        if end > file.size:
            self._total += end - file.size
            self._check_size(self._total)
            file.size = end
        _write(file, data)
        file.position = end

    def end(self, name: str) -> None:
        file = self._file(name)
        try:
            if file.holes:  # the last one is no part of the file yet
                os.ftruncate(file.descriptor, file.size)
        finally:
            del self._under_way[name], self._recent[name]
            os.close(file.descriptor)

    def seek(self, name: str, offset: int) -> None:
        file = self._file(name)
        self._check_size(self._total + max(offset - file.size, 0))
        file.position, file.holes = offset, False  # what is written again may be zeros over something else

    def rename(self, name: str, new: str) -> None:
        with _nothing_there(new):
            os.rename(self.folder / name, self._place(new))

    def remove(self, name: str) -> None:
        os.unlink(self.folder / name)

    def _check_sum(self) -> None:
        if not self._left and self._sum != self._expected:
            raise BackupError(f"the stream's checksum of a part of {self._name} does not hold: it is damaged")

    def _check_size(self, size: int) -> None:
        """Holes count: a chunk of a few bytes may speak of any size."""
        if size > self.limit:
            raise BackupError(
                f"the stream unpacks to more than the {size_text(self.limit)} that its database may take here:"
                " free disk space"
            )

    # ---- files

    def _file(self, name: str) -> _File:
        """The file of this name, with a descriptor."""
        file = self._recent.pop(name, None)
        if file is None:
            if len(self._recent) >= AT_ONCE:
                oldest = self._recent.pop(next(iter(self._recent)))
                os.close(oldest.descriptor)
            file = self._under_way.get(name)
            if file is None:
                with _nothing_there(name):
                    path = self._place(name)
                    file = self._under_way[name] = _File(path, os.open(path, _NEW, 0o600))
                file.holes = None if name.endswith(".ibd") else False
            else:
                file.descriptor = os.open(file.path, _AGAIN)
        self._recent[name] = file
        return file

    def _place(self, name: str) -> Path:
        """Where a file of this name belongs, in a folder that exists."""
        folder = name.rpartition("/")[0]
        if folder and folder not in self._folders:
            os.mkdir(self._place(folder), 0o700)
            self._folders.add(folder)
        return self.folder / name


@contextlib.contextmanager
def _nothing_there(name: str) -> Iterator[None]:
    """Raises BackupError where a folder, a link or another file has the name of a new one, or of one of its folders."""
    try:
        yield
    except (FileExistsError, IsADirectoryError) as error:
        raise BackupError(f"the stream has {name}, and something else is in its place: it is damaged") from error


def _write(file: _File, data: memoryview) -> None:
    """Write `data` where the file goes on."""
    try:
        for place, part in _dense(data, file.position) if file.holes else [(file.position, data)]:
            while part:
                written = os.pwrite(file.descriptor, part, place)
                place, part = place + written, part[written:]
        if file.holes is None:
            file.holes = _gets_holes(file.descriptor)
    except OSError as error:
        error.filename = str(file.path)
        raise


def _gets_holes(descriptor: int) -> bool | None:
    """Whether InnoDB compresses the pages of a tablespace, each of which then ends in a hole; None for not known yet.

    mbstream makes these holes too, and no others: elsewhere the server counts on what it has allocated.
    """
    head = os.pread(descriptor, _FLAGS.size, _FLAGS_PLACE)
    if len(head) < _FLAGS.size:
        return None
    (flags,) = _FLAGS.unpack(head)
    is_full_crc32 = flags & 1 << 4
    return bool(flags & 7 << 5 if is_full_crc32 else flags & 1 << 16)


def _dense(data: memoryview, place: int) -> Iterator[tuple[int, memoryview]]:
    """The parts of what belongs at `place`, and where each belongs, without the blocks that are zeros."""
    begin = position = 0
    while position < len(data):
        end = min(position + _BLOCK - (place + position) % _BLOCK, len(data))
        if bytes(data[position:end]) == _ZEROS[: end - position]:
            if begin < position:
                yield place + begin, data[begin:position]
            begin = end
        position = end
    if begin < position:
        yield place + begin, data[begin:]
