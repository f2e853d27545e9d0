# SPDX-License-Identifier: GPL-2.0-or-later
"""Global transaction ids as MariaDB writes them, `domain-server-sequence`, and how positions compare."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from slapos.recipe.erp5.errors import ServerError


@dataclass(frozen=True, order=True)
class Gtid:
    """One transaction: the `sequence`-th of a replication `domain`, first executed by the server with id `server`."""

    domain: int
    server: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"


def parse(text: str) -> tuple[Gtid, ...]:
    """The GTIDs of a list such as `0-1-27,3-2-5`, sorted; an empty text is an empty list. Raises ServerError."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    for word in words:
        if not re.fullmatch(r"\d{1,10}-\d{1,10}-\d{1,20}", word):
            raise ServerError(f"{word[:60]!r} is no GTID, expected domain-server-sequence such as 0-1-27")
    return tuple(sorted(Gtid(*map(int, word.split("-"))) for word in words))


def text(gtids: Iterable[Gtid]) -> str:
    """What parse() reads."""
    return ",".join(map(str, sorted(gtids)))


def position(gtids: Iterable[Gtid]) -> dict[int, int]:
    """How far each domain is: its highest sequence."""
    highest: dict[int, int] = {}
    for one in gtids:
        highest[one.domain] = max(one.sequence, highest.get(one.domain, 0))
    return highest


def furthest(gtids: Iterable[Gtid]) -> tuple[Gtid, ...]:
    """The last one of each domain."""
    return tuple(sorted({one.domain: one for one in sorted(gtids, key=lambda one: one.sequence)}.values()))


def contains(state: Iterable[Gtid], other: Iterable[Gtid]) -> bool:
    """Whether a server in `state` has got, in each domain, at least as far as `other`."""
    reached = position(state)
    return all(reached.get(domain, 0) >= sequence for domain, sequence in position(other).items())


def count(ahead: Iterable[Gtid], behind: Iterable[Gtid]) -> int:
    """How many transactions `ahead` has beyond `behind`: both are positions, in one history."""
    reached = position(behind)
    return sum(max(0, sequence - reached.get(domain, 0)) for domain, sequence in position(ahead).items())


def is_ahead(of_ours: Iterable[Gtid], theirs: Iterable[Gtid]) -> bool:
    """Whether ours has something that theirs has not: it is further in a domain, or has one that theirs does not."""
    return not contains(theirs, of_ours)


def missing(state: Iterable[Gtid], known: Iterable[Gtid]) -> tuple[Gtid, ...]:
    """Those in `state`, the last of each server in each domain, that `known`, a state too, does not reach.

    Sequences alone do not tell: two servers that wrote after they parted have the same ones for other transactions.
    """
    reached = _last_of_each(known)
    return tuple(sorted({one for one in state if one.sequence > reached.get((one.domain, one.server), 0)}))


def common(state: Iterable[Gtid], other: Iterable[Gtid]) -> tuple[Gtid, ...]:
    """In each domain the last transaction that two states both have: the same server wrote it into both."""
    ours, theirs = _last_of_each(state), _last_of_each(other)
    return furthest(Gtid(*key, min(ours[key], theirs[key])) for key in ours.keys() & theirs.keys())


def only_in(state: Iterable[Gtid], other: Iterable[Gtid]) -> tuple[Gtid, ...]:
    """Those in `state` that came after the histories of both parted: missing(), but what is older than that.

    The state of a server that was made from a backup begins with one GTID per domain, and does not name who wrote
    before it. Sequences grow within a domain (gtid_strict_mode): all up to a transaction that both have is in both.
    """
    state, other = tuple(state), tuple(other)
    shared = position(common(state, other))
    return tuple(one for one in missing(state, other) if one.sequence > shared.get(one.domain, 0))


def never_reaches(replica: Iterable[Gtid], primary: Iterable[Gtid]) -> tuple[Gtid, ...]:
    """What `primary` has and its `replica` lacks though it is further: the rest it has yet to receive."""
    replica = tuple(replica)
    return tuple(one for one in only_in(primary, replica) if contains(replica, (one,)))


def _last_of_each(state: Iterable[Gtid]) -> dict[tuple[int, int], int]:
    """The highest sequence of each server in each domain."""
    last: dict[tuple[int, int], int] = {}
    for one in state:
        key = (one.domain, one.server)
        last[key] = max(one.sequence, last.get(key, 0))
    return last


def errant(state: Iterable[Gtid], server: int, known: Iterable[Gtid]) -> tuple[Gtid, ...]:
    """What a replica with the id `server` has executed by itself, beyond what is `known` from when it was made."""
    return tuple(one for one in missing(state, known) if one.server == server)
