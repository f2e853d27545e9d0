# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what a replica had received and not applied over restarts, where MariaDB throws it away, and applies it.

MariaDB 10.11 deletes all relay logs whenever a thread of a replica with GTIDs starts and neither was running: at each
start of the server, clean or after a crash, and by START SLAVE SQL_THREAD alone too (measured). As long as the primary
answers nothing is lost by that. When it never comes back these transactions would be gone, and a takeover wants them.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.mariadb import gtid, relay_log, sql_replication, sql_role
from slapos.recipe.erp5.mariadb.bootstrap_note import MASTER_INFO
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.gtid import Gtid
from slapos.recipe.erp5.mariadb.relay_log import Group

RELAY_LOG = "relaylog"
"""`relay-log` in mariadb.cnf, in the data directory."""
NOTE = "slapos.relay.json"
PREFIX = "slapos.relay."
"""Hard links in the data directory itself: on its file system, and always about that very database."""


@dataclass(frozen=True)
class Kept:
    """What is kept: names of files in the data directory, in order, and the `gtid` that they reach."""

    files: tuple[str, ...] = ()
    gtid: str = ""
    at: str = ""


def load(config: Config) -> Kept:
    """What is kept; nothing where there is no note, or none that can be read."""
    try:
        return shapes.load(config.data_directory / NOTE, Kept)
    except ConfigurationError:
        return Kept()


# ---- before a start


def keep(config: Config) -> None:
    """Before relay logs are deleted: keep those with transactions that were not applied. Raises ServerError, OSError.

    For a server that does not run, or a replica of which neither thread does.
    """
    if not (config.data_directory / MASTER_INFO).exists():
        return
    files, position = unapplied(config.data_directory)
    found = [group.gtid for group in relay_log.groups(files) if group.path != files[0] or group.begin >= position]
    if not found:
        return
    before = load(config)
    # Relay logs begin at the position of the replica then: what reaches as far as the kept ones takes their place.
    covered = gtid.contains(found, gtid.parse(before.gtid))
    names = [] if covered else list(before.files)
    mark = f"{times.now():%Y%m%dT%H%M%S%f}"
    for path in files:
        name = f"{PREFIX}{mark}.{path.name}"
        os.link(path, config.data_directory / name)
        names.append(name)
    reached = gtid.furthest((*found, *(() if covered else gtid.parse(before.gtid))))
    shapes.save(config.data_directory / NOTE, Kept(tuple(names), gtid.text(reached), times.text(times.now())))
    _remove_others(config, names)
    process.log(f"step: keep the relay logs with what was received and not applied, up to GTID {gtid.text(reached)}")


def unapplied(data_directory: Path) -> tuple[list[Path], int]:
    """The relay logs from the one on that the SQL thread had come to, and its position there; none without any."""
    try:
        listed = data_directory.joinpath(RELAY_LOG + ".index").read_text(encoding="utf-8").split()
        words = data_directory.joinpath("relay-log.info").read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return [], 0
    files = [data_directory / Path(name).name for name in listed]
    # Line 1: how many lines follow (MariaDB 10 and later), or the file's name itself.
    lines = words[1:] if words[0].isdigit() else words
    current = data_directory / Path(lines[0]).name if lines and lines[0] else None
    if current in files:
        return [path for path in files[files.index(current) :] if path.exists()], int(lines[1])
    return [path for path in files if path.exists()], 0


def _remove_others(config: Config, names: list[str]) -> None:
    for path in config.data_directory.glob(PREFIX + "*"):
        if path.name not in (NOTE, *names):
            path.unlink(missing_ok=True)


def forget(config: Config) -> None:
    """Nothing is to be kept any more. Raises OSError."""
    (config.data_directory / NOTE).unlink(missing_ok=True)
    _remove_others(config, [])


def forget_applied(config: Config, position: str) -> None:
    """Remove what is kept once the database has it: `position` is how far it is. What cannot be removed stays."""
    kept = load(config)
    if kept.files and gtid.contains(gtid.parse(position), gtid.parse(kept.gtid)):
        with contextlib.suppress(OSError):
            forget(config)


# ---- at a takeover


def missing(config: Config, position: str) -> tuple[Group, ...]:
    """What is kept and lies beyond `position`, in order, each transaction once. Raises ServerError, OSError."""
    reached = gtid.position(gtid.parse(position))
    found: list[Group] = []
    for group in relay_log.groups(config.data_directory / name for name in load(config).files):
        if group.gtid.sequence > reached.get(group.gtid.domain, 0):
            reached[group.gtid.domain] = group.gtid.sequence
            found.append(group)
    return tuple(found)


def apply(config: Config, connection: Connection, found: tuple[Group, ...]) -> None:
    """Execute kept transactions with their own GTIDs on a replica of which neither thread runs. Raises Error, OSError.

    Killed in the middle, the next call goes on behind what the binary log has. Wherever it ends, the replica's position
    is behind what was executed, or a primary that comes back would send that again.
    """
    if not found:
        return
    with tempfile.TemporaryDirectory(prefix="relay-", dir=config.path("tmp")) as folder:
        path = Path(folder, "relay")
        with path.open("wb") as file:
            relay_log.copy(found, file)
        try:
            _execute(config, path)
        except BaseException:
            with contextlib.suppress(ServerError):
                _go_on_behind(connection)
            raise
    position = _go_on_behind(connection)
    wanted = gtid.furthest(group.gtid for group in found)
    if not gtid.contains(gtid.parse(position), wanted):
        raise ServerError(
            f"the received transactions that were kept could be applied up to GTID {position} only, expected "
            f"{gtid.text(wanted)}: read var/log/mariadb-error.log"
        )


def _go_on_behind(connection: Connection) -> str:
    """Set the replica's position to what the database really has; returns it."""
    position = sql_replication.server_facts(connection).position
    sql_role.set_slave_position(connection, position)
    return position


def _execute(config: Config, path: Path) -> None:
    """Let mariadb-binlog write SQL, and the client execute it, as the administrator."""
    attempt = "apply the received transactions that were kept"
    reader: list[str | Path] = [config.program("mariadb-binlog"), "--no-defaults", path]
    client = [config.program("mariadb"), f"--defaults-file={config.defaults_file}", "--batch", "--binary-mode"]
    with tempfile.TemporaryFile() as words, process.start(reader, stdout=-1, stderr=words) as source:
        with process.start(client, stdin=source.stdout, stdout=words, stderr=words) as target:
            assert source.stdout
            source.stdout.close()
            status = target.wait()
        ended = source.wait()
        words.seek(0)
        if status or ended:
            raise process.failure(reader[:1], attempt, status or ended, _numbers(words.read()))


def _numbers(output: bytes) -> bytes:
    """Lines with an error's number, without the statement that it may quote."""
    lines = [line for line in output.splitlines() if line.startswith(b"ERROR")]
    return b" ".join(line[:300] for line in lines) or output[-300:]


def reached(config: Config) -> tuple[Gtid, ...]:
    """How far the kept transactions go; nothing when none are kept."""
    return gtid.parse(load(config).gtid)
