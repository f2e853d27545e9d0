# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a compressed dump: once to judge it, and once more into the client program."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import dump_file
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.dump_file import Facts
from slapos.recipe.erp5.mariadb.progress import Meter
from slapos.recipe.erp5.words import size_text

_FULL = re.compile(rb"^ERROR (1021|1114) ", re.MULTILINE)
"""What a server says that cannot make a file larger: the disk, or a table, is full."""
EXCERPT = 200
"""The most characters of the client's error that are shown."""


@dataclass(frozen=True)
class Dump:
    """A complete dump: `size` of its text in bytes, the last of them in `tail`, and what it says about itself."""

    size: int
    tail: bytes
    facts: Facts


def examine(config: Config, source: IO[bytes], path: Path, limit: int) -> Dump:
    """Read the whole dump `source`, the open file `path`, whose text may have `limit` bytes.

    Raises BackupError when it is cut short, does not unpack, or is larger.
    """
    text = dump_file.Text()
    with _unpacked(config, source, path) as pieces:
        for piece in pieces:
            text.feed(piece)
            if text.size > limit:
                raise BackupError(
                    f"{path} unpacks to more than the {size_text(max(limit, 0))} that its database may take on"
                    f" {config.data_directory.parent}: free disk space"
                )
    try:
        facts = dump_file.facts(dump_file.Written(0, "", text.size, text.head, text.tail))
    except BackupError as error:
        raise BackupError(f"{path} is not a whole dump of ours, {error}; take another backup") from error
    return Dump(text.size, text.tail, facts)


def load(config: Config, source: IO[bytes], path: Path, dump: Dump, socket: Path) -> None:
    """Execute the dump, which `examine` has read, on the server behind `socket`. Raises BackupError."""
    with _unpacked(config, source, path) as pieces:
        text = execute(config, pieces, path, socket, Meter("loaded", dump.size))
    if (text.size, text.tail) != (dump.size, dump.tail):
        raise BackupError(
            f"the client that loads {path} took {text.size} bytes of {dump.size}, or the file was changed meanwhile:"
            " leave it alone, and run this again"
        )


def execute(
    config: Config, pieces: Iterable[bytes], name: str | Path, socket: Path, report: Callable[[int], None]
) -> dump_file.Text:
    """Give the text of a dump to the client program; returns what it took, which may be less than there is.

    `report` is called with the bytes given so far. Raises BackupError when the client fails, and what `pieces` raises.
    """
    command = [
        config.program("mariadb"),
        f"--defaults-file={config.defaults_file}",
        f"--socket={socket}",
        "--sandbox",  # no \! of a dump that somebody else made is a command of ours (measured)
        "--local-infile=0",
        "--binary-mode",  # carriage returns in the text of triggers stay
        "--default-character-set=utf8mb4",
        "--max-allowed-packet=1G",
    ]
    text = dump_file.Text()
    with tempfile.TemporaryFile() as words, process.start(command, stdin=-1, stdout=-3, stderr=words) as client:
        assert client.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended first, and its status says why
                try:
                    for piece in pieces:
                        client.stdin.write(piece)
                        text.feed(piece)
                        report(text.size)
                finally:
                    client.stdin.close()
            code = client.wait()
        except BaseException:
            client.kill()
            raise
        if code != 0:
            words.seek(0)
            reason = why(words.read(), config.data_directory.parent)
            raise BackupError(f"the client that loads {name} ended with status {code}: {reason}")
    return text


def why(output: bytes, folder: Path) -> str:
    """Why the client ended, with what helps when the disk of `folder` is full."""
    if full := _FULL.search(output):
        number = full[1].decode()
        return f"a table has become full (error {number}), as on a disk without room: free disk space in {folder}"
    return excerpt(output)


def excerpt(output: bytes) -> str:
    """The client's first error up to its first quote: behind that it repeats rows, which are for no log (measured)."""
    found = re.search(r"^ERROR[^'\"`\n]*", output.decode("utf-8", "replace"), re.MULTILINE)
    return found[0][:EXCERPT].strip() if found else "it named no error"


@contextlib.contextmanager
def _unpacked(config: Config, source: IO[bytes], path: Path) -> Iterator[Iterator[bytes]]:
    """The pieces of the text; leaving before its end is no failure. Raises BackupError for what does not unpack."""
    source.seek(0)
    command = [f"{config.software.zstd}/bin/zstd", "--decompress", "--stdout", "--quiet"]
    with tempfile.TemporaryFile() as words, process.start(command, stdin=source, stdout=-1, stderr=words) as child:
        assert child.stdout is not None
        output = child.stdout

        def pieces() -> Iterator[bytes]:
            while piece := output.read(dump_file.CHUNK):
                yield piece
            if child.wait() != 0:
                words.seek(0)
                raise BackupError(f"{path} does not unpack ({process.last_words(words.read())}): take another backup")

        try:
            yield pieces()
        finally:
            child.kill()  # no effect on one that has ended
