# SPDX-License-Identifier: GPL-2.0-or-later
"""benchmarks/neo, once it runs in the right Python: load without and with a backup, kill, take over, print."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.takeover_main import spread
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker
from tests.service.neo_role_fixtures import Site, Sites
from tests.service.role_fixtures import ended
from tests.service.servers import wait_for

LOOK_EVERY = 0.05
"""Seconds between two looks at both clusters."""
WARM = 100
"""Transactions after which a load counts."""


@dataclass(frozen=True)
class Sample:
    """One run: transactions a second, the backup's lags in seconds under load, and the takeover.

    `click` are the seconds from the program's start to the first new transaction; of the `acknowledged` transactions
    `lost` are later than where the takeover cut.
    """

    alone: float
    attached: float
    lags: tuple[float, ...]
    click: float
    acknowledged: int
    lost: int


class Load:
    """Clients of a cluster that commit as fast as it lets them; each transaction is (moment, tid)."""

    def __init__(self, site: Site, clients: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="load-", dir=site.base)
        self._files = [Path(self._folder.name, f"{number}.log") for number in range(clients)]
        self._children = []
        for number, path in enumerate(self._files):
            with path.open("wb") as output:
                command = site.client("load", first=(number + 1) << 32)
                self._children.append(subprocess.Popen(command, env={}, stdout=output, stderr=output))

    def all(self) -> list[tuple[float, int]]:
        """What was acknowledged, by all of them, in order."""
        lines = [line for path in self._files for line in path.read_text().splitlines(keepends=True)]
        whole = [line for line in lines if line.startswith("[") and line.endswith("]\n")]
        return sorted((moment, tid) for moment, tid in map(json.loads, whole))

    def end(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()

    def remove(self) -> None:
        self.end()
        self._folder.cleanup()


@contextlib.contextmanager
def load(site: Site, clients: int) -> Iterator[Load]:
    """A load that has begun to count, and its end."""
    running = Load(site, clients)
    try:
        wait_for(lambda: len(running.all()) >= WARM, "the load")
        yield running
    finally:
        running.remove()


def main() -> int:
    """The arguments are the number of runs, of seconds, of clients, and of storages."""
    runs, seconds, clients, storages = map(int, sys.argv[1:])
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    samples = []
    for number in range(runs):
        samples.append(measure(seconds, clients, storages))
        one = samples[-1]
        print(
            f"run {number + 1}: {one.alone:.0f} transactions/s without a backup, {one.attached:.0f} with one, lag"
            f" {spread(list(one.lags))}, first transaction {one.click:.2f} s after the click, {one.lost} of"
            f" {one.acknowledged} lost",
            flush=True,
        )
    report(samples)
    return 0


def measure(seconds: int, clients: int, storages: int) -> Sample:
    """One run, with clusters of its own."""
    sites = Sites()
    try:
        old = sites("old", storages=storages).start()
        old.wait("RUNNING")
        with load(old, clients) as running:
            alone = rate(running, seconds)
        new = sites("new", old, storages=storages).start()
        new.wait("BACKINGUP")
        new.wait_for_all_of(old)
        lags: list[float] = []
        with load(old, clients) as running, old.asker() as there, new.asker() as here:
            attached = rate(running, seconds, lambda: lags.append(lag(there, here)))
            click, cut = take_over(old, new)
            running.end()
            acknowledged = [tid for _, tid in running.all()]
        lost = sum(tid > cut for tid in acknowledged)
        return Sample(alone, attached, tuple(lags), click, len(acknowledged), lost)
    finally:
        sites.end()


def rate(running: Load, seconds: int, look: Callable[[], object] = lambda: None) -> float:
    """Transactions a second in so many seconds from now on, while `look` is called regularly."""
    began = time.time()
    while time.time() < began + seconds:
        look()
        time.sleep(LOOK_EVERY)
    return sum(began <= moment < began + seconds for moment, _ in running.all()) / seconds


def lag(upstream: Asker, backup: Asker) -> float:
    """Seconds of the upstream's transactions that the backup lacks; that is asked first, so rather too much."""
    here, there = backup.status().backup_tid, upstream.status().last_tid
    assert here and there
    return max(tids.to_time(there) - tids.to_time(here), 0.0)


def take_over(old: Site, new: Site) -> tuple[float, int]:
    """Kill the upstream and let the backup take over: seconds to the first transaction on it, and where it was cut."""
    for process in processes(old):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    attempts = Load(new, 1)
    try:
        click = time.time()
        code, said = ended(new.act("takeover"))
        assert code == 0, said
        wait_for(attempts.all, "a transaction on the new primary")
        first, _ = attempts.all()[0]
    finally:
        attempts.remove()
    state = new.state
    assert state.last
    return first - click, tids.parse(state.last.tid)


def processes(site: Site) -> list[psutil.Process]:
    """All that run for a cluster, supervisors first, so that nothing is started again."""
    supervisors = [psutil.Process(one.pid) for node in site.nodes for one in node.processes.values()]
    return supervisors + [child for one in supervisors for child in one.children(recursive=True)]


def report(samples: list[Sample]) -> None:
    """Medians and the worst over all runs."""
    alone, attached = (
        statistics.median(values) for values in zip(*((s.alone, s.attached) for s in samples), strict=True)
    )
    lags = [value for one in samples for value in one.lags]
    lost, acknowledged = sum(one.lost for one in samples), sum(one.acknowledged for one in samples)
    print(f"\nmedians (worst) of {len(samples)} runs:")
    print(f"transactions a second: {alone:.0f} without a backup, {attached:.0f} with one: {attached / alone:.2f} of it")
    print(f"the backup's lag under that load: {spread(lags)}, {len(lags)} looks")
    print(f"takeover, from the click to the first transaction: {spread([one.click for one in samples])}")
    print(f"lost, as the copy is asynchronous: {lost} of {acknowledged} acknowledged transactions")


if __name__ == "__main__":
    raise SystemExit(main())
