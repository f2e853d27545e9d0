# SPDX-License-Identifier: GPL-2.0-or-later
"""What the primary's writers lose while a live copy is made of it, without a limit and with backup.max-rate."""

import os
import shutil
import threading
import time
from pathlib import Path

import pymysql

from benchmarks import bootstrap_ways
from benchmarks.bootstrap_measure import measure
from benchmarks.bootstrap_primary import Primary
from slapos.recipe.erp5.words import size_text
from tests.service.backup_fixtures import Partition

THREADS = 4
ALONE = 10.0
"""Seconds for which the writers are watched while nothing else happens."""


class Writers:
    """Offers `rate` transactions a second, each of one row and synced."""

    def __init__(self, primary: Primary, rate: int) -> None:
        self.primary, self.pause, self.done, self.stop = primary, THREADS / rate, [0] * THREADS, threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(THREADS)]
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()

    def write(self, number: int) -> None:
        """One thread: a transaction whenever one is due, until the end."""
        connection: pymysql.connections.Connection = self.primary.connect()
        with connection, connection.cursor() as cursor:
            due = time.monotonic()
            while not self.stop.is_set():
                cursor.execute("INSERT INTO bench.written VALUES (1)")
                self.done[number] += 1
                # What was not written in time is lost: nobody catches up.
                due = max(due + self.pause, time.monotonic())
                self.stop.wait(due - time.monotonic())

    def end(self) -> float:
        """Transactions a second since the beginning."""
        seconds = time.monotonic() - self.began
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return sum(self.done) / seconds


def report(primary: Primary, folder: Path, offered: int) -> None:
    """Print how many transactions are written alone, beside a live copy, and beside one with a limit."""
    writers = Writers(primary, offered)
    writers.stop.wait(ALONE)
    alone = writers.end()
    print(f"\nthe primary's writers, {offered}/s offered, on the same {os.cpu_count()} processors as both ends\n")
    print(f"{'nothing else':44}{alone:8.0f}/s")
    rate, seconds = beside(primary, folder, offered, 0)
    print(f"{'live copy, no limit':44}{rate:8.0f}/s, {lost(rate, alone)}, {seconds:.1f} s")
    limit = round(primary.size / seconds / 3)
    rate, seconds = beside(primary, folder, offered, limit)
    words = f"live copy, max-rate {size_text(limit)}/s"
    print(f"{words:44}{rate:8.0f}/s, {lost(rate, alone)}, {seconds:.1f} s")


def lost(rate: float, alone: float) -> str:
    """How much less `rate` is than `alone`, in words."""
    return f"{100 * (1 - rate / alone):.0f} % lost"


def beside(primary: Primary, folder: Path, offered: int, limit: int) -> tuple[float, float]:
    """Transactions a second while a live copy is made at `limit` bytes a second, and the copy's seconds."""
    primary.max_rate = limit
    primary.write_configuration()
    folder.mkdir()
    target = Partition(folder)
    try:
        writers = Writers(primary, offered)
        sample = measure(lambda: bootstrap_ways.Live(primary).run(target), target, primary)
        return writers.end(), sample.seconds
    finally:
        shutil.rmtree(folder)
