# SPDX-License-Identifier: GPL-2.0-or-later
"""benchmarks/takeover, once it runs in the right Python: kill and take over, exchange the roles, print."""

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.takeover_pair import Machine, Pair
from benchmarks.takeover_writer import CREATE, TABLE, Writer
from slapos.recipe.erp5.mariadb import gtid
from tests.service import servers
from tests.service.servers import wait_for

LOAD = 1.5
"""Seconds for which the writer is at it before anything happens."""
AFTERWARDS = 100
"""Rows on the new primary after which a run ends."""
GOAL = 0.5
"""Seconds that the median write outage of a switchover is to stay below."""
TITLES = {
    "takeover": "takeover, primary killed",
    "semi-sync": "takeover, the same with semi-sync",
    "switchover": "switchover",
}


@dataclass(frozen=True)
class Sample:
    """One run: seconds from the program's start to the first new row, and between the last old row and that one.

    Of the `acknowledged` rows `lost` are not on the new primary; `received_lost` are rows, acknowledged or not, that
    the replica had received when its primary was killed. `forced`: the preflight had refused.
    """

    click: float
    outage: float
    acknowledged: int
    lost: int
    received_lost: int
    forced: bool = False


def main() -> int:
    """The arguments are a folder for everything, the number of runs, kinds, and writes a second."""
    folder, runs, kinds, rate = sys.argv[1:]
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wanted = [kind for kind in TITLES if kind in kinds.split(",")]
    pair = Pair(Path(folder))
    try:
        servers.query(pair.primary.config, CREATE)
        pair.wait()
        pair.keep()
        samples = {kind: measure(pair, kind, int(runs), int(rate)) for kind in wanted}
    finally:
        pair.stop()
    return 0 if report(samples) else 1


def measure(pair: Pair, kind: str, runs: int, rate: int) -> list[Sample]:
    """All runs of a kind."""
    once: Callable[[Pair, int], Sample] = switch_over if kind == "switchover" else take_over
    samples = []
    for number in range(runs):
        if kind != "switchover" or number == 0:
            pair.restore(semi_sync=kind == "semi-sync")
        samples.append(once(pair, rate))
        one = samples[-1]
        print(
            f"{TITLES[kind]}, run {number + 1}: first row after {one.click:.2f} s, outage {one.outage:.2f} s, "
            f"{one.lost} of {one.acknowledged} rows lost" + (", forced" if one.forced else ""),
            flush=True,
        )
    return samples


# ---- a run


def take_over(pair: Pair, rate: int) -> Sample:
    """Kill the primary under load, and let the replica take over."""
    old, new = pair.machines
    began = sequence(old.position())
    writer = Writer([old.config, new.config], rate)
    try:
        wait_for(lambda: writer.count(old.config) > rate * LOAD, "the load")
        old.kill()
        received = sequence(new.sources()[0].gtid_io_pos) - began
        click = time.monotonic()
        forced = act(new, "takeover", force=True)
        wait_for(lambda: writer.count(new.config) >= AFTERWARDS, "rows on the new primary")
    finally:
        writer.end()
    ((there,),) = servers.query(new.config, f"SELECT COUNT(*) FROM {TABLE} WHERE server = {old.config.server_id}")
    return sample(writer, old, new, click, writer.lost(new.config), max(received - there, 0), forced)


def switch_over(pair: Pair, rate: int) -> Sample:
    """Let both exchange their roles under load; the next run brings them back."""
    old, new = pair.machines
    writer = Writer([old.config, new.config], rate)
    try:
        wait_for(lambda: writer.count(old.config) > rate * LOAD, "the load")
        url = old.takeover_url
        click = time.monotonic()
        act(new, "switchover", control_url=url)
        wait_for(lambda: writer.count(new.config) >= AFTERWARDS, "rows on the new primary")
    finally:
        writer.end()
    pair.turn()
    pair.wait()
    return sample(writer, old, new, click, writer.lost(new.config) + writer.lost(old.config), 0)


def act(machine: Machine, name: str, force: bool = False, **options: str) -> bool:
    """Run an action; whether it had to be forced. Raises AssertionError, with its last line, when it fails."""
    code, said = machine.act(name, **options)
    if code and force:
        print(f"forced, as: {said}", flush=True)
        assert machine.act(name, force=True)[0] == 0
        return True
    assert code == 0, f"{name}: {said}; see {machine.log}"
    return False


def sequence(position: str) -> int:
    """The sequence number of a position in the one domain that there is: each row is a transaction."""
    return max((one.sequence for one in gtid.parse(position)), default=0)


def sample(
    writer: Writer, old: Machine, new: Machine, click: float, lost: int, received_lost: int, forced: bool = False
) -> Sample:
    first = min(writer.moments(new.config))
    last = max(moment for moment in writer.moments(old.config) if moment < first)
    return Sample(first - click, first - last, len(writer.acknowledged), lost, received_lost, forced)


# ---- what is printed


def report(samples: dict[str, list[Sample]]) -> bool:
    """Print medians and the worst of each kind, and the goals; returns whether all of them are met."""
    print(f"\n{'median (worst) of':44}{'click to first row':>22}{'write outage':>20}{'rows lost':>22}{'forced':>8}")
    for kind, found in samples.items():
        print(line(kind, found))
    told = [goal for kind, found in samples.items() for goal in goals(kind, found)]
    print("\n".join(told))
    return not any(goal.endswith(met(False)) for goal in told)


def line(kind: str, found: list[Sample]) -> str:
    click, outage = (spread([value(one) for one in found]) for value in (lambda one: one.click, lambda one: one.outage))
    lost, all_of = sum(one.lost for one in found), sum(one.acknowledged for one in found)
    title = f"{TITLES[kind]}, {len(found)} runs"
    return f"{title:44}{click:>22}{outage:>20}{f'{lost} of {all_of}':>22}{sum(one.forced for one in found):>8}"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({max(values):.2f}) s"


def goals(kind: str, found: list[Sample]) -> list[str]:
    """What a kind is measured by."""
    lost = sum(one.lost for one in found)
    if kind == "takeover":
        left = sum(one.received_lost for one in found)
        return [f"goal: takeover loses nothing that the replica had received: {left} lost, {met(left == 0)}"]
    said = [f"goal: {TITLES[kind]} loses nothing that was acknowledged: {lost} lost, {met(lost == 0)}"]
    if kind == "switchover":
        median = statistics.median(one.outage for one in found)
        said.append(f"goal: switchover's write outage below {GOAL:g} s, median: {median:.2f} s, {met(median < GOAL)}")
    return said


def met(is_so: bool) -> str:
    return "met" if is_so else "MISSED"


if __name__ == "__main__":
    raise SystemExit(main())
