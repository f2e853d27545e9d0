# SPDX-License-Identifier: GPL-2.0-or-later
"""The application of benchmarks/takeover: numbers its rows, notes what was acknowledged, finds the new primary."""

import contextlib
import itertools
import threading
import time
from collections.abc import Sequence

import pymysql
from pymysql.connections import Connection

from slapos.recipe.erp5.mariadb.config import Config
from tests.service import servers

TABLE = "erp5.numbered"
CREATE = f"CREATE TABLE {TABLE} (number BIGINT PRIMARY KEY, server BIGINT UNSIGNED) ENGINE=InnoDB"
THREADS = 4
PAUSE = 0.005
"""Seconds between two attempts to reach a server that writes."""
PATIENCE = 2.0
"""Seconds that a connection may take to be made."""


class Writer:
    """Offers `rate` rows a second, each one a transaction, to whichever of the servers takes them.

    `acknowledged` has the moment (time.monotonic) and the server id for the number of each row that was acknowledged.
    """

    def __init__(self, servers: Sequence[Config], rate: int) -> None:
        self.servers, self.pause = servers, THREADS / rate
        self.acknowledged: dict[int, tuple[float, int]] = {}
        self._numbers, self._stop = itertools.count(1), threading.Event()
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _write(self) -> None:
        """One thread: a row whenever one is due. What was not written in time is never written: nobody catches up."""
        order, connection = itertools.cycle(self.servers), None
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                if connection is None:
                    server = next(order)
                    connection = connect(server)
                number = next(self._numbers)
                with connection.cursor() as cursor:
                    cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, @@server_id)", (number,))
                self.acknowledged[number] = (time.monotonic(), server.server_id)
                due = max(due + self.pause, time.monotonic())
                self._stop.wait(due - time.monotonic())
            except (pymysql.MySQLError, OSError):
                # Refused or gone: whoever writes now is found by asking both in turn, as a client's retries do.
                if connection is not None:
                    connection._force_close()
                    connection = None
                self._stop.wait(PAUSE)
        if connection is not None:
            with contextlib.suppress(pymysql.MySQLError, OSError):
                connection.close()

    def count(self, server: Config) -> int:
        """How many rows a server has acknowledged."""
        return sum(1 for _, one in list(self.acknowledged.values()) if one == server.server_id)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def moments(self, server: Config) -> list[float]:
        """When rows were acknowledged by a server."""
        return [moment for moment, one in list(self.acknowledged.values()) if one == server.server_id]

    def lost(self, now: Config) -> int:
        """Rows that were acknowledged, by whichever server, and are not on the server `now`."""
        rows = {number for (number,) in servers.query(now, f"SELECT number FROM {TABLE}")}
        return len(set(self.acknowledged) - rows)


def connect(config: Config) -> Connection:
    """A connection of the application's, by TCP."""
    entry = config.databases[0]
    return pymysql.connect(
        host=config.network.ipv4,
        port=config.network.port,
        user=entry.user,
        password=entry.password.encode("utf-8"),
        autocommit=True,
        ssl_disabled=True,
        connect_timeout=PATIENCE,
    )
