# SPDX-License-Identifier: GPL-2.0-or-later
"""A mariadbd that nobody else can reach, on a given data directory, for as long as some work takes."""

import argparse
import contextlib
import os
import socket as sockets
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.config import Server

PAUSE = 0.05
"""Seconds between two looks at a server that is starting or stopping."""
REPORT = 30
"""Seconds between two log lines about one that takes long: after a crash InnoDB may need hours to recover."""
LONGEST_SOCKET = 107
"""Bytes that a Unix socket's path may have (unix(7), without the terminating zero)."""

# Nothing but our own work may happen: nobody connects, nothing is fetched from a primary, no event fires, and no commit
# waits for a replica that cannot connect.
OPTIONS = (
    "--skip-networking",
    "--skip-slave-start",
    "--event-scheduler=OFF",
    "--loose-rpl-semi-sync-master-enabled=OFF",
)


@contextlib.contextmanager
def serving(
    mariadb: str | Path,
    defaults_file: str | Path,
    data_directory: str | Path,
    run_directory: str | Path,
    *,
    init_sql: str = "",
    options: Sequence[str] = (),
) -> Iterator[Path]:
    """Run MariaDB's part `mariadb` on `data_directory`, and yield the path of its socket once it answers.

    `run_directory` gets a folder (0700) named after the data directory, for socket, pid and `error.log`. `init_sql`
    (one statement a line) is executed before anybody can log in. It is stopped cleanly, even when this process dies.
    Raises ServerError when it does not come up, with the server's own last errors.
    """
    folder = _folder(Path(run_directory), Path(data_directory))
    files = {name: folder / name for name in ("socket", "pid", "error.log", "init.sql")}
    for file in files.values():
        file.unlink(missing_ok=True)
    if init_sql:
        process.write_atomically(files["init.sql"], init_sql)
        options = [*options, f"--init-file={files['init.sql']}"]
    command: list[str | Path] = [
        Path(mariadb, "sbin", "mariadbd"),
        f"--defaults-file={defaults_file}",
        f"--datadir={data_directory}",
        f"--socket={files['socket']}",
        f"--pid-file={files['pid']}",
        f"--log-error={files['error.log']}",
        *OPTIONS,
        *options,
    ]
    # SIGTERM, not SIGKILL, when we die: it stops cleanly by itself. It inherits what we inherited (not what we opened),
    # and so the service script's lock: nobody takes the data directory for free as long as it runs.
    child = process.start(command, close_fds=False, preexec_fn=process.die_with_parent(process.signal.SIGTERM))
    try:
        _wait_for_answer(child, files["socket"], files["error.log"])
        yield files["socket"]
    finally:
        files["init.sql"].unlink(missing_ok=True)
        _stop(child)


def of(
    server: Server, data_directory: Path, *, init_sql: str = "", options: Sequence[str] = ()
) -> contextlib.AbstractContextManager[Path]:
    """`serving` with what the partition's `server` says."""
    return serving(
        server.mariadb,
        server.defaults_file,
        data_directory,
        server.socket.parent,
        init_sql=init_sql,
        options=options,
    )


@contextlib.contextmanager
def administered(server: Server, init_sql: str) -> Iterator[tuple[Connection, Path]]:
    """One on the partition's database, with the administration account logged in; the connection, and its socket.

    When that account cannot log in it is made again, by `init_sql`, unlogged; no other account is ever touched.
    """
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(of(server, server.data_directory))
        try:
            connection = stack.enter_context(sql.connect(server.defaults_file, socket))
            sql.version(connection)  # an expired password shows at the first statement only
        except sql.AccessDenied:
            stack.close()
            process.log("step: make the administration account again, as it cannot log in")
            socket = stack.enter_context(of(server, server.data_directory, init_sql=init_sql))
            connection = stack.enter_context(sql.connect(server.defaults_file, socket))
        yield connection, socket


def _folder(run_directory: Path, data_directory: Path) -> Path:
    folder = run_directory / f"private-{data_directory.name}"
    if len(os.fsencode(folder / "socket")) > LONGEST_SOCKET:
        raise ConfigurationError(
            f"the socket {folder / 'socket'} has a path of more than {LONGEST_SOCKET} bytes, which Linux refuses:"
            " move the partition to a shorter path"
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _wait_for_answer(child: subprocess.Popen, socket: Path, error_log: Path) -> None:
    """Wait as long as the server lives: a recovery of hours is work, not a failure."""
    began = reported = time.monotonic()
    while not answers(socket):
        if child.poll() is not None:
            raise ServerError(f"a private MariaDB server did not start: {last_errors(error_log)}; see {error_log}")
        if time.monotonic() - reported >= REPORT:
            reported = time.monotonic()
            process.log(f"still waiting for MariaDB after {reported - began:.0f} s: {last_line(error_log)}")
        time.sleep(PAUSE)


def answers(socket: Path) -> bool:
    """Whether a server greets who connects to `socket`; whom it lets log in is another matter."""
    with sockets.socket(sockets.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(str(socket))
            return bool(client.recv(1))
        except OSError:
            return False


def _stop(child: subprocess.Popen) -> None:
    """SIGTERM, and wait for its end: killing a server that is writing its buffers would only cost a recovery."""
    child.terminate()
    while True:
        try:
            child.wait(REPORT)
            return
        except subprocess.TimeoutExpired:
            process.log("still waiting for MariaDB to stop")


def last_errors(error_log: Path) -> str:
    """The last lines of `error_log` that are errors, in one line; its last words when none is."""
    text = error_log.read_bytes() if error_log.exists() else b""
    errors = [line for line in text.splitlines() if b"[ERROR]" in line]
    return process.last_words(b" ".join(line.split(b"[ERROR]", 1)[1] for line in errors[-3:]) or text)


def last_line(error_log: Path) -> str:
    """The last line of `error_log`, which tells how far a recovery is."""
    text = error_log.read_bytes() if error_log.exists() else b""
    return process.last_words(b"".join(text.splitlines()[-1:]))


def main() -> int:
    """The program `mariadb-private-server`: run a command while the server is up, and end with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mariadb", required=True, help="the MariaDB part, with bin/ and sbin/")
    parser.add_argument("--defaults-file", required=True)
    parser.add_argument("--data-directory", required=True)
    parser.add_argument("--run-directory", required=True, help="where the socket's folder is made: keep it short")
    parser.add_argument("--init-file", help="SQL for the server to execute first, one statement a line")
    parser.add_argument("--option", action="append", default=[], help="one more option of mariadbd; can be repeated")
    parser.add_argument("command", nargs="+", help="gets the socket's path in the variable MARIADB_SOCKET")
    arguments = parser.parse_args()

    def body() -> int:
        init_sql = Path(arguments.init_file).read_text(encoding="utf-8") if arguments.init_file else ""
        with serving(
            arguments.mariadb,
            arguments.defaults_file,
            arguments.data_directory,
            arguments.run_directory,
            init_sql=init_sql,
            options=arguments.option,
        ) as socket:
            return _run_beside(arguments.command, socket)

    return process.program(body)


def _run_beside(command: Sequence[str], socket: Path) -> int:
    """Run a user's command with its own stdin, stdout and environment, plus MARIADB_SOCKET."""
    with subprocess.Popen(
        command, env={**os.environ, "MARIADB_SOCKET": str(socket)}, preexec_fn=process.die_with_parent()
    ) as child:
        try:
            return child.wait()
        finally:
            child.terminate()
