# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary of benchmarks/bootstrap: a MariaDB full of InnoDB data, nginx, mariadb-control, and mutual TLS."""

import http.client
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from slapos.recipe.erp5.mariadb import create, live_receive, source, space
from slapos.recipe.erp5.mariadb.manifest import Entry
from slapos.recipe.erp5.tls.files import Files
from tests.service.authority import Authority, client_context
from tests.service.backup_fixtures import TOKEN, Partition, wait_until

SERVER = ("--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M")
TABLES = 4
ROW = 1180
"""Bytes of the data directory that a row takes, about: half of it does not compress."""
AT_ONCE = 20_000


class Primary(Partition):
    """A running partition with `wanted` bytes of data; `size` is what its tables really take."""

    def __init__(self, folder: Path, wanted: int) -> None:
        folder.mkdir(mode=0o700)
        super().__init__(folder, enable=False)
        self.wanted, self.size = wanted, 0

    def __enter__(self) -> "Primary":
        install(self)
        self.start_server(None, *SERVER)
        self.fill()
        self.size = space.tables_size(self.config.data_directory)
        Authority().install(self.config.tls, "127.0.0.1")
        self.nginx = self.start_nginx()
        self.control = self.python("mariadb.control", stderr=subprocess.DEVNULL)
        wait_until(self.config.control_socket.exists, "mariadb-control")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fill(self) -> None:
        """Make the data, unsynced, with a thread for each table."""
        began = time.monotonic()
        self.sql("CREATE DATABASE bench", "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        threads = [threading.Thread(target=self.fill_table, args=(number,)) for number in range(TABLES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1", "CREATE TABLE bench.written (i BIGINT) ENGINE=InnoDB")
        print(f"data made in {time.monotonic() - began:.0f} s", flush=True)

    def fill_table(self, number: int) -> None:
        """Make and fill one of the tables, its rows by the server itself."""
        name, rows = f"bench.t{number}", self.wanted // TABLES // ROW
        self.sql(
            "SET sql_log_bin = 0",
            f"CREATE TABLE {name} (i INT PRIMARY KEY, k INT, data VARBINARY(1000), KEY (k)) ENGINE=InnoDB",
            *(
                f"INSERT INTO {name} SELECT seq, RAND() * 1e9, CONCAT(RANDOM_BYTES(500), REPEAT('0123456789', 50)) FROM"
                f" bench.seq_{first}_to_{min(first + AT_ONCE, rows + 1) - 1}"
                for first in range(1, rows + 1, AT_ONCE)
            ),
        )

    def run_to_its_end(self, module: str, *arguments: str) -> tuple[int, str]:
        """One of our programs' exit code and what it said."""
        child = self.python(module, *arguments)
        said = child.communicate()[1]
        return child.returncode, said

    # ---- asking it

    @property
    def url(self) -> str:
        """Where its backups are offered."""
        return f"https://127.0.0.1:{self.backup_port}/{TOKEN}/"

    def context(self):
        """The TLS of a replication client."""
        where = Files(self.config.tls)
        return client_context(where.ca, where.client)

    def live(self) -> http.client.HTTPResponse:
        """A live copy, as it comes."""
        return live_receive.open_live(self.url, self.context())

    def download(self, entry: Entry) -> source.Download:
        """A listed backup, as a replica reads it."""
        where = source.parse_bootstrap_url(self.url)
        return source.open_file(where, self.context(), entry.name, entry.size)

    def get(self, name: str) -> http.client.HTTPResponse:
        """A file that is offered."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=60, context=self.context())
        connection.request("GET", parts.path + name, headers={"Connection": "close"})
        response = connection.getresponse()
        assert response.status == 200, response.status
        return response


def install(partition: Partition) -> None:
    """An empty database with the administrator's account."""
    config = partition.config
    command = [f"{config.software.mariadb}/bin/mariadb-install-db", f"--defaults-file={config.defaults_file}"]
    subprocess.run([*command, "--skip-log-bin", "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)
    init = partition.folder / "init.sql"
    init.write_text(create.administrator_sql(config))
    partition.start_server(None, f"--init-file={init}", "--skip-log-bin", *SERVER)
    partition.stop_server()
    init.unlink()
