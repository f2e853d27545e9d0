# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-rotate-logs: puts each large log of a node aside, has its process open a new one, and compresses it.

NEO's logs are SQLite files, which its processes open again at a signal; neolog reads compressed ones too.
"""

import argparse
import contextlib
import gzip
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process, supervisor, times
from slapos.recipe.erp5.errors import Busy
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo.config import NodeConfig

LARGE = 32 << 20
"""Bytes from which on a log is put aside. At each warning NEO writes up to 16 MiB: all that it has kept in memory."""
KEPT = 10
"""How many logs that were put aside are kept of each process."""
REOPEN = signal.SIGRTMIN + 1
"""What has a process of NEO open its log again; it would kill one that has not opened it yet."""
_ASIDE = re.compile(r"-[0-9]{8}T[0-9]{6}Z(\.gz)?")


# ---- gather


def opened_by(path: Path, pid: int) -> bool:
    """Whether the process `pid` has the file at `path` open; False for none that is ours."""
    try:
        descriptors = list(Path("/proc", str(pid), "fd").iterdir())
        return any(descriptor.exists() and descriptor.samefile(path) for descriptor in descriptors)
    except OSError:
        return False


def put_aside(log: Path) -> list[Path]:
    """The logs that were put aside, the oldest first."""
    found = [path for path in log.parent.glob(f"{log.name}-*") if _ASIDE.fullmatch(path.name[len(log.name) :])]
    return sorted(found, key=lambda path: path.name.removesuffix(".gz"))


def size(path: Path) -> int:
    """Its size in bytes, 0 for none."""
    return path.stat().st_size if path.exists() else 0


def is_broken(log: Path) -> bool:
    """Whether a process of NEO could not open it: it would end, at each start again.

    NEO writes its logs without waiting for the disk and without a journal, so that even SIGTERM may break one (seen).
    """
    if not size(log):
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
    except sqlite3.DatabaseError:
        return True


# ---- act


def make_ready(log: Path, large: int = LARGE) -> None:
    """Put a broken or large log aside, before the start of a process that does not open it again. Raises OSError."""
    mend(log)
    if size(log) >= large:
        log.rename(_aside(log))
    for path in put_aside(log)[:-KEPT]:
        path.unlink()


def mend(log: Path) -> None:
    """Put a broken log aside, before its process starts. Raises OSError."""
    if is_broken(log):
        aside = _aside(log)
        log.rename(aside)
        process.log(
            f"{log.name} cannot be opened, and was put aside as {aside.name}: its process was killed as it wrote"
        )


def _aside(log: Path) -> Path:
    return log.with_name(f"{log.name}-{times.now():%Y%m%dT%H%M%SZ}")


def rotate(config: NodeConfig, name: str, large: int = LARGE) -> None:
    """Look after the log of the process `name`: one of at least `large` bytes is put aside. Raises OSError."""
    log, pid = config.log(name), _pid(config, name)
    if size(log) >= large:
        aside = _aside(log)
        log.rename(aside)
        if opened_by(aside, pid):
            os.kill(pid, REOPEN)
        process.log(f"{log.name} was put aside as {aside.name}")
    found = put_aside(log)
    for path in found[:-KEPT]:
        path.unlink()
    for path in found[-KEPT:]:
        if path.suffix != ".gz" and not opened_by(path, pid):
            compress(path)


def compress(path: Path) -> None:
    """Put a compressed file in the place of `path`, whole or not at all."""
    compressed = path.with_name(f"{path.name}.gz")
    beside = path.with_name(f".{compressed.name}.new")
    with open(path, "rb") as source, gzip.open(beside, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    beside.rename(compressed)
    path.unlink()


def rotate_all(config: NodeConfig, large: int = LARGE) -> int:
    """Look after the logs of all of the node's processes, unless another run is at it."""
    os.umask(0o077)
    busy = "the logs are being rotated by another run: nothing to do"
    try:
        with process.lock(config.path("var", "run", "rotate-logs.lock"), busy):
            for name in config.names:
                rotate(config, name, large)
    except Busy as error:
        process.log(f"busy: {error}")
        return os.EX_TEMPFAIL
    return 0


def _pid(config: NodeConfig, name: str) -> int:
    """The process, 0 when none runs."""
    supervised = supervisor.status(config.service(name))
    return supervised.child_pid if supervised else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something was not (one sentence on stderr), 75 another run is under way."""
    parser = argparse.ArgumentParser(prog="neo-rotate-logs", description="Put large logs of a NEO node aside.")
    parser.add_argument("--config", required=True, help="the partition's etc/neo-node.json")
    parser.add_argument("--large", type=int, default=LARGE, help="bytes from which on a log is large (%(default)s)")
    given = parser.parse_args(arguments)
    return process.program(lambda: rotate_all(configuration.load_node(given.config), given.large))


if __name__ == "__main__":
    raise SystemExit(main())
