# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends a copy of the data directory while mariadb-backup makes it, with no file in between.

A live copy is a sequence of frames, each a length (32 bits, big-endian) and so many bytes: first what is coming (JSON),
then pieces of an xbstream, a frame of length 0, and last (JSON) whether all of that is good. A stream without this last
frame is no copy. The length STILL_HERE has no bytes behind it: it says that the sender lives, where it has to wait.
"""

import contextlib
import json
import os
import queue
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import IO, TypeVar

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, Error
from slapos.recipe.erp5.mariadb import making, physical, rate, space, sql, tablespaces
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.xbstream import Contents, Inspector
from slapos.recipe.erp5.words import size_text

FORMAT = 1
LARGEST = 1 << 20
"""Bytes in a frame at most."""
LENGTH = struct.Struct(">I")
STILL_HERE = 0xFFFFFFFF
HEARTBEAT = 10.0
"""Seconds after which the sender says that it lives when it has nothing else to say."""

Frames = Generator[bytes, None, None]
T = TypeVar("T")


def frames(config: Config) -> Frames:
    """The frames of a copy that is made now. The caller has to close() it: mariadb-backup ends with it.

    Before the first one raises Busy when another backup is under way, Error and OSError when the server cannot be
    asked; what fails later is said in the last frame.
    """
    with making.alone(config):
        with sql.connect(config.defaults_file) as connection:
            version = sql.version(connection)
        tables = space.tables_size(config.data_directory)
        head = {"format": FORMAT, "server-version": version, "tables-size": tables, "instance": config.instance}
        yield from _frame(json.dumps(head).encode())
        with _logged() as log:
            try:
                copied = yield from _checked_copy(config)
                trailer = _trailer(copied)
                log(f"{size_text(copied.size)} sent, GTID {trailer['gtid']}")
            except (Error, OSError) as error:
                trailer = {"ok": False, "error": process.describe(error)}
                log(f"error: {trailer['error']}")
            yield LENGTH.pack(0)
            yield from _frame(json.dumps(trailer).encode())


@contextlib.contextmanager
def _logged() -> Generator[Callable[[str], None], None, None]:
    """Logs how a live copy ended: what the function was called with, or that nobody wanted it any more."""
    process.log("live copy: begins")
    outcome, began = ["the receiver went away"], time.monotonic()
    try:
        yield outcome.append
    finally:
        process.log(f"live copy: {outcome[-1]}, after {time.monotonic() - began:.1f} s")


def _frame(content: bytes) -> Frames:
    # Apart: to join them would copy each piece once more.
    yield LENGTH.pack(len(content))
    yield content


# ---- the copy


@dataclass(frozen=True)
class _Copied:
    """How many bytes were sent, what is in them, and what mariadb-backup `said`."""

    size: int
    contents: Contents
    said: bytes


def _checked_copy(config: Config) -> Generator[bytes, None, _Copied]:
    _, before = yield from _meanwhile(lambda: physical.look(config))
    copied = yield from _copy(config)
    yield from _meanwhile(lambda: physical.check_tables(config, copied.contents, copied.said, before))
    return copied


def _trailer(copied: _Copied) -> dict[str, object]:
    """Raises BackupError for a copy without a GTID position."""
    return {
        "ok": True,
        "gtid": physical.gtid(copied.contents),
        "tablespaces": len(copied.contents.tablespaces()),
        "bytes": copied.size,
    }


def _meanwhile(work: Callable[[], T]) -> Generator[bytes, None, T]:
    """What `work` returns or raises; a checkpoint may take minutes, in which the receiver hears that we are here."""
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            result, error = results.get(timeout=HEARTBEAT)
        except queue.Empty:
            yield LENGTH.pack(STILL_HERE)
            continue
        if error:
            raise error
        return result  # type: ignore[return-value]


def _copy(config: Config) -> Generator[bytes, None, _Copied]:
    """Send what mariadb-backup writes. Raises BackupError when it fails, or there is any sign that it did."""
    command, limit = physical.copy_command(config, "--parallel=2"), config.backup.max_rate
    inspector, hold, size = Inspector(), rate.limiter(limit), 0
    with config.physical_backup_log.open("w+b") as words:
        with process.start(command, stdout=subprocess.PIPE, stderr=words) as child:
            assert child.stdout is not None
            process.enlarge_pipe(child.stdout)
            try:
                # A second's worth at most: a receiver must not take a pause for the sender's death.
                for piece in _pieces(child.stdout, min(LARGEST, limit or LARGEST)):
                    inspector.feed(piece)
                    size += len(piece)
                    yield from _frame(piece) if piece else (LENGTH.pack(STILL_HERE),)
                    hold(len(piece))
                code = child.wait()
            except BaseException:
                child.kill()
                raise
        said = making.content(words)
    if code != 0:
        raise BackupError(str(process.failure(command, physical.ATTEMPT, code, tablespaces.complaint(said))))
    physical.check_completed(said)
    return _Copied(size, inspector.finish(), said)


def _pieces(pipe: IO[bytes], size: int) -> Frames:
    """What comes out of a pipe, at most `size` bytes at once; an empty piece where nothing came for a while."""
    poll, descriptor = select.poll(), pipe.fileno()
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(HEARTBEAT * 1000):
            yield b""
        elif piece := os.read(descriptor, size):
            yield piece
        else:
            return
