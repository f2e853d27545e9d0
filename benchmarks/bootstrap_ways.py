# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which benchmarks/bootstrap brings a primary's data to another partition, each to the disk at the end."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, cast

from benchmarks.bootstrap_primary import SERVER, Primary, install
from slapos.recipe.erp5 import process
from slapos.recipe.erp5.mariadb import (
    bootstrap_dump,
    live_receive,
    manifest,
    new_database,
    physical,
    physical_restore,
    store,
)
from slapos.recipe.erp5.mariadb.physical_restore import Link
from slapos.recipe.erp5.mariadb.progress import Progress
from tests.service.backup_fixtures import Partition

PIECE = 1 << 20


class Way:
    """`prepare` is called once, `begin` before each measurement, `run` (in another process) is what is measured."""

    name, title = "", ""

    def __init__(self, primary: Primary) -> None:
        self.primary = primary

    def prepare(self) -> None:
        """Make once what the measurements need of the primary."""

    def begin(self, target: Partition) -> None:
        """Make ready in the new partition what is not measured."""

    def run(self, target: Partition) -> dict[str, float]:
        """Bring the data to the new partition; the seconds of its parts."""
        raise NotImplementedError

    def sent(self) -> int:
        """The bytes that go over the connection."""
        raise NotImplementedError


class Limit(Way):
    """What a live copy sends, as a file that nginx serves."""

    name, title = "limit", "limit: the same bytes into a file, synced"
    FILE = "20260101T000000Z.xbstream.zst"

    @property
    def path(self) -> Path:
        """Where the primary has that file."""
        return self.primary.folder / self.FILE

    def prepare(self) -> None:
        with self.path.open("wb") as file, (self.primary.folder / "log").open("wb") as log:
            physical.look(self.primary.config)  # as a live copy does first: a checkpoint
            command = physical.copy_command(self.primary.config, "--parallel=2")
            subprocess.run(command, check=True, stdout=file, stderr=log)

    def begin(self, target: Partition) -> None:
        offered = self.primary.config.offered / self.FILE
        offered.parent.mkdir(parents=True, exist_ok=True)
        if not offered.exists():
            os.link(self.path, offered)  # each new backup removes what is in no list

    def run(self, target: Partition) -> dict[str, float]:
        buffer = memoryview(bytearray(PIECE))
        with self.primary.get(self.FILE) as response, (target.folder / "file").open("wb", buffering=0) as file:
            while size := response.readinto(buffer):
                file.write(buffer[:size])
            process.sync_filesystem(target.folder)
        return {}

    def sent(self) -> int:
        return self.path.stat().st_size


class Live(Way):
    """A live physical copy into a data directory, prepared."""

    name, title = "live", "live physical"

    def run(self, target: Partition) -> dict[str, float]:
        with preparing() as seconds, self.primary.live() as response:
            live_receive.receive(target.config, response, target.config.data_directory, self.count)
        return seconds

    def count(self, done: int, total: int) -> None:
        """Told how far it is, and says nothing."""

    def sent(self) -> int:
        return Limit(self.primary).sent() if Limit(self.primary).path.exists() else self.primary.size


@contextlib.contextmanager
def preparing() -> Iterator[dict[str, float]]:
    """Takes the time of applying the redo log: a part that depends on the primary's last checkpoint alone."""
    seconds, real = {"prepare": 0.0}, physical_restore.prepare

    def timed(*arguments) -> None:
        began = time.monotonic()
        real(*arguments)
        seconds["prepare"] += time.monotonic() - began

    physical_restore.prepare = timed
    yield seconds


class Stored(Way):
    """A stored physical backup, unpacked and prepared while it comes."""

    name, title = "stored", "stored physical, streamed"

    def prepare(self) -> None:
        code, said = self.primary.run_to_its_end("mariadb.physical", "--full")
        assert code == 0, said

    @property
    def entry(self) -> manifest.Entry:
        """The backup that is brought, as the list has it."""
        return manifest.load(store.physical(self.primary.config).folder)[-1]

    def run(self, target: Partition) -> dict[str, float]:
        with preparing() as seconds:
            link = Link(self.entry, lambda: cast(AbstractContextManager[IO[bytes]], self.primary.download(self.entry)))
            physical_restore.restore(target.config, [link], target.config.data_directory)
        return seconds

    def sent(self) -> int:
        return self.entry.size


class Dump(Way):
    """A stored dump, loaded into a new database while it comes, as a replica does."""

    name, title = "dump", "dump (compressed SQL)"

    def prepare(self) -> None:
        code, said = self.primary.run_to_its_end("mariadb.backup")
        assert code == 0, said

    @property
    def entry(self) -> manifest.Entry:
        """The backup that is brought, as the list has it."""
        return manifest.load(store.logical(self.primary.config).folder)[-1]

    def run(self, target: Partition) -> dict[str, float]:
        config, entry = target.config, self.entry
        with self.primary.download(entry) as file:
            brought = bootstrap_dump.Dump(entry.name, file.size, entry, file)
            bootstrap_dump.restore(config, brought, config.data_directory, Progress(config.bootstrap_state))
        process.sync_filesystem(target.folder)
        return {}

    def sent(self) -> int:
        return self.entry.size


class MyDumper(Way):
    """From the primary's own port, with TLS, by as many threads as here are processors; the server is stopped after."""

    name, title = "mydumper", "mydumper (TLS) and myloader"

    def prepare(self) -> None:
        self.primary.sql(
            "CREATE USER dumper@'127.0.0.1' IDENTIFIED BY 'dumper' REQUIRE SSL",
            "GRANT ALL ON *.* TO dumper@'127.0.0.1'",
        )

    def begin(self, target: Partition) -> None:
        install(target)
        target.start_server(None, "--skip-networking", *new_database.LOADING, *SERVER)
        self.sent_before = self.bytes_sent()

    def bytes_sent(self) -> int:
        """What the primary's server has sent to all of its clients so far."""
        return int(self.primary.sql("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")[0][1])

    def run(self, target: Partition) -> dict[str, float]:
        folder, threads = target.folder / "dump", str(os.cpu_count())
        source, own = target.folder / "source.cnf", target.folder / "own.cnf"
        source.write_text(
            f"[client]\nuser=dumper\npassword=dumper\nhost=127.0.0.1\nport={self.primary.port}\nprotocol=tcp\nssl\n"
            f"ssl-ca={self.primary.config.tls}/ca.pem\n"
        )
        own.write_text(f"[client]\nuser=slapos_administrator\npassword=ADMINISTRATOR\nsocket={target.config.socket}\n")
        common = ["--threads", threads, "--outputdir", str(folder), "--database", "bench"]
        connection = ["--host", "127.0.0.1", "--port", str(self.primary.port), "--ssl"]
        self.quietly("mydumper", f"--defaults-file={source}", "--user", "dumper", *connection, *common, target=target)
        loading = ["--directory", str(folder), "--threads", threads, "--overwrite-tables"]
        account = ["--user", "slapos_administrator", "--socket", str(target.config.socket)]
        self.quietly("myloader", f"--defaults-file={own}", *account, *loading, target=target)
        shutil.rmtree(folder)
        target.sql("SET GLOBAL innodb_fast_shutdown = 1", "SHUTDOWN")
        while target.config.socket.exists():
            time.sleep(0.05)
        process.sync_filesystem(target.folder)
        return {}

    def quietly(self, *command: str, target: Partition) -> None:
        """Run a program whose words matter only when it fails. Raises AssertionError."""
        log = target.folder / f"{command[0]}.log"
        with log.open("wb") as words:
            code = subprocess.run(command, stdout=words, stderr=words).returncode
        assert code == 0, f"{command[0]} ended with {code}: {process.last_words(log.read_bytes())}"

    def sent(self) -> int:
        return self.bytes_sent() - self.sent_before


PROGRAMS = ("mydumper", "myloader")


def of(primary: Primary) -> list[Way]:
    """Every way for which the programs are there; the limit first, as its file tells how much a live copy sends."""
    ways = [Limit, Live, Stored, Dump] if missing() else [Limit, Live, Stored, Dump, MyDumper]
    return [way(primary) for way in ways]


def missing() -> list[str]:
    """What to say of programs that are not there."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    words = " and ".join(absent)
    return [f"mydumper and myloader: left out, {words} missing: install the Debian package mydumper"] if absent else []
