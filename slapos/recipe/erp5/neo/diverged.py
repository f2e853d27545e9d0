# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the transactions of two clusters by their ids: equal last ones prove nothing, only the sets do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HERE, THERE = 2000, 20000
"""Ids that are asked for at once: of our own nodes (each answers with at most 64 KiB), and of the upstream."""
SHOWN = 5
"""Ids that a sentence names."""

Tids = Callable[[int, int], Sequence[int]]
"""Of a cluster: the first so many ids (second argument) above one (the first), ascending; fewer at the end alone."""


@dataclass(frozen=True)
class Comparison:
    """What only this cluster has, of all above `since`: `count` transactions, the first ones being `only_here`.

    `compared` is how many of its own there were.
    """

    since: int
    count: int
    only_here: tuple[int, ...]
    compared: int


def compare(here: Tids, there: Tids, since: int, step: Callable[[int], object] = lambda _: None) -> Comparison:
    """Look for each transaction above `since` that is here whether it is there; `step` hears how far that is.

    Both are read a page at a time, so that neither has to fit into the memory. Raises what they raise.
    """
    count, compared, only_here = 0, 0, list[int]()
    upstream = _Window(_all(there, since, THERE))
    for tid in _all(here, since, HERE):
        compared += 1
        if compared % HERE == 0:
            step(tid)
        if not upstream.has(tid):
            count += 1
            if len(only_here) < SHOWN:
                only_here.append(tid)
    return Comparison(since, count, tuple(only_here), compared)


def _all(tids: Tids, since: int, size: int) -> Iterator[int]:
    while True:
        page = tids(since, size)
        yield from page
        if len(page) < size:
            return
        since = page[-1]


class _Window:
    """The ids of one cluster, looked up in ascending order."""

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._next = next(ids, None)

    def has(self, tid: int) -> bool:
        while self._next is not None and self._next < tid:
            self._next = next(self._ids, None)
        return self._next == tid
