# SPDX-License-Identifier: GPL-2.0-or-later
"""Retention: only what is too old goes, and the newest backup never does."""

from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import retention
from slapos.recipe.erp5.mariadb.manifest import Entry
from tests.unit.mariadb import partition

NOW = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)


def entry(age: timedelta) -> Entry:
    start = NOW - age
    return Entry(
        name=f"{start:%Y%m%dT%H%M%SZ}.sql.zst",
        kind="logical",
        size=1,
        sha256="0" * 64,
        gtid="0-1-1",
        start=times.text(start),
        end=times.text(start + timedelta(minutes=10)),
        server_version="10.11.19-MariaDB",
    )


HOURS = [entry(timedelta(hours=hours)) for hours in (1, 25, 47, 48, 49, 800)]


@pytest.mark.parametrize(
    ("days", "gone"),
    [
        (365, []),
        (2, HOURS[4:]),  # exactly 48 hours old is not older than two days
        (1, HOURS[1:]),
        (0, HOURS[1:]),
    ],
)
def test_only_what_is_older_goes(days, gone):
    assert retention.expired(HOURS, NOW, days) == tuple(gone)
    assert set(retention.expired(reversed(HOURS), NOW, days)) == set(gone)


def test_the_newest_stays_however_old_it_is():
    old = [entry(timedelta(days=days)) for days in (400, 300)]
    assert retention.expired(old, NOW, 7) == (old[0],)
    assert retention.expired(old[1:], NOW, 0) == ()


def test_nothing_of_nothing():
    assert retention.expired([], NOW, 0) == ()


def test_a_backup_from_the_future_is_newest_and_stays():
    future = entry(timedelta(days=-3))
    assert retention.expired([future, *HOURS], NOW, 1) == tuple(HOURS[1:])


# ---- chains: of 1 to 3, 4 to 6 and 7 to 9 November

CHAINS = tuple(partition.chain(day, 2) for day in (1, 4, 7))
ALL = tuple(entry for members in CHAINS for entry in members)


@pytest.mark.parametrize(
    ("day", "gone"),
    [
        (3, ()),
        (9, ()),  # of the first chain the last one is no older than 7 days
        (11, CHAINS[0]),
        (13, CHAINS[0]),
        (14, (*CHAINS[0], *CHAINS[1])),
        (30, (*CHAINS[0], *CHAINS[1])),  # the last one stays, however old it is
    ],
)
def test_a_chain_goes_whole(day, gone):
    expired = retention.expired_chains(ALL, datetime(2026, 11, day, tzinfo=UTC), 7)
    assert sorted(entry.name for entry in expired) == sorted(entry.name for entry in gone)


def test_a_chain_goes_from_its_end():
    expired = retention.expired_chains(ALL, datetime(2026, 11, 30, tzinfo=UTC), 7)
    for members in CHAINS[:2]:
        places = [expired.index(entry) for entry in members]
        assert places == sorted(places, reverse=True)


def test_of_a_broken_chain_nothing_goes():
    assert retention.expired_chains((*CHAINS[0][1:], *CHAINS[2]), NOW, 7) == ()
