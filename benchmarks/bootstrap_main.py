# SPDX-License-Identifier: GPL-2.0-or-later
"""benchmarks/bootstrap, once it runs in the right Python: prepare, warm up, measure round after round, print."""

import contextlib
import os
import shutil
import signal
import statistics
import sys
from pathlib import Path

from benchmarks import bootstrap_ways, bootstrap_writers
from benchmarks.bootstrap_measure import Sample, measure
from benchmarks.bootstrap_primary import Primary
from slapos.recipe.erp5.words import size_text
from tests.service.backup_fixtures import Partition

LARGE = 3_500_000_000
"""Bytes from which the start of a copy no longer counts."""


def main() -> int:
    """The arguments are a folder for everything, GB of data, rounds, names of ways, and transactions a second."""
    folder, size, rounds, ways, writes = sys.argv[1:]
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(Primary(Path(folder, "p"), round(float(size) * 1e9)))
        wanted = [way for way in bootstrap_ways.of(primary) if way.name in ways.split(",")]
        for way in wanted:
            print(f"prepare: {way.title}", flush=True)
            way.prepare()
        samples: dict[str, list[Sample]] = {way.name: [] for way in wanted}
        for number in range(int(rounds) + 1):
            for way in wanted:
                sample = once(Path(folder, "r"), primary, way)
                load = f"load average {os.getloadavg()[0]:.1f}"
                print(
                    f"{f'round {number}' if number else 'warm-up'}: {way.title}: {sample.seconds:.1f} s, {load}",
                    flush=True,
                )
                if number:
                    samples[way.name].append(sample)
        report(primary, wanted, samples)
        if "writers" in ways.split(","):
            bootstrap_writers.report(primary, Path(folder, "r"), int(writes))
    return 0


def once(folder: Path, primary: Primary, way: bootstrap_ways.Way) -> Sample:
    """One measurement, into a partition that is thrown away."""
    folder.mkdir()
    target = Partition(folder)
    try:
        way.begin(target)
        os.sync()  # what was written before is nobody's here
        return measure(lambda: way.run(target), target, primary)
    finally:
        target.stop()
        shutil.rmtree(folder)


def report(primary: Primary, ways: list[bootstrap_ways.Way], samples: dict[str, list[Sample]]) -> None:
    """Print what was measured as a table, with the ratio to the limit where that was measured too."""
    limit = statistics.median(sample.seconds for sample in samples["limit"]) if samples.get("limit") else None
    print(f"\n{size_text(primary.size)} of tables, medians of {len(next(iter(samples.values())))} rounds (range)\n")
    print(
        f"{'':44}{'seconds':>24}{'prepare':>9}{'bytes sent':>12}{'extra disk':>12}{'memory':>22}{'ratio to limit':>24}"
    )
    print(f"{'':92}{'':12}{'sender, receiver':>23}{'(without prepare)':>25}")
    for way in ways:
        print(line(way, samples[way.name], limit))
    for missing in bootstrap_ways.missing():
        print(missing)
    if limit and samples.get("live"):
        net = statistics.median(one.seconds - one.prepare for one in samples["live"]) / limit
        print("\n" + goal(primary.size, net))


def goal(size: int, ratio: float) -> str:
    """Whether a live copy of so many bytes comes near enough to the limit, in so many times its seconds."""
    bound = 1.25 if size >= LARGE else 2.0
    verdict = "met" if ratio <= bound else "MISSED"
    return f"goal: a live copy without its prepare within {bound:g} times the limit: {ratio:.2f}, {verdict}"


def line(way: bootstrap_ways.Way, samples: list[Sample], limit: float | None) -> str:
    """One way of the table: medians of its samples."""

    def median(value) -> float:
        return statistics.median(value(sample) for sample in samples)

    seconds, prepare = median(lambda one: one.seconds), median(lambda one: one.prepare)
    low, high = min(one.seconds for one in samples), max(one.seconds for one in samples)
    memory = ", ".join(
        size_text(median(value)) for value in (lambda one: one.sender_memory, lambda one: one.receiver_memory)
    )
    net, disk = median(lambda one: one.seconds - one.prepare), size_text(median(lambda one: one.extra_disk))
    ratio = f"{seconds / limit:.2f} ({net / limit:.2f})" if limit else ""
    return (
        f"{way.title:44}{f'{seconds:.1f} ({low:.1f}-{high:.1f})':>24}{prepare:9.1f}"
        f"{size_text(way.sent()):>12}{disk:>12}{memory:>22}{ratio:>24}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
