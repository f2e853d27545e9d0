# SPDX-License-Identifier: GPL-2.0-or-later
"""Chains: what is made next and why, what a restore needs, and which backups lack what they continue."""

import dataclasses

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import chain
from slapos.recipe.erp5.mariadb.chain import Next, Server
from tests.unit.mariadb import partition

FULL, ONE, TWO = CHAIN = partition.chain(1, 2)
SERVER = Server(version="10.11.19-MariaDB", database="D", lsn=5000)


@pytest.mark.parametrize(
    ("entries", "server", "full", "expected"),
    [
        ((), SERVER, False, Next(None, "there is no backup to build on")),
        ((FULL,), SERVER, False, Next(FULL)),
        ((FULL, ONE), SERVER, False, Next(ONE)),
        (CHAIN, SERVER, False, Next(None, "backup.physical.incrementals is 2")),
        ((FULL,), SERVER, True, Next(None, "it was asked for")),
        (
            (FULL,),
            dataclasses.replace(SERVER, version="10.11.20-MariaDB"),
            False,
            Next(None, f"the server is 10.11.20-MariaDB, that of {FULL.name} was 10.11.19-MariaDB"),
        ),
        (
            (FULL,),
            dataclasses.replace(SERVER, database="E"),
            False,
            Next(None, f"the database is not the one of {FULL.name}"),
        ),
        # A data directory that was put back to an earlier state.
        (
            (FULL,),
            dataclasses.replace(SERVER, lsn=999),
            False,
            Next(None, f"the database is not the one of {FULL.name}"),
        ),
        ((FULL,), dataclasses.replace(SERVER, lsn=1000), False, Next(FULL)),
    ],
)
def test_what_comes_next(entries, server, full, expected):
    assert chain.decide(entries, server, 2, full) == expected


def test_no_incrementals_are_full_backups_only():
    assert chain.decide((FULL,), SERVER, 0) == Next(None, "backup.physical.incrementals is 0")


def test_what_a_restore_needs():
    other = partition.chain(10, 1)
    for number in range(3):
        assert chain.of(CHAIN[number], (*other, *CHAIN)) == CHAIN[: number + 1]
    assert chain.of(partition.entry(1), ()) == (partition.entry(1),)


def test_a_base_that_is_missing():
    with pytest.raises(BackupError) as caught:
        chain.of(TWO, (FULL, TWO))
    assert str(caught.value) == f"{TWO.name} needs {ONE.name}, which is not listed"


def test_a_chain_in_a_circle_is_none():
    one = dataclasses.replace(ONE, physical=dataclasses.replace(ONE.physical, base=TWO.name))
    assert chain.whole((one, TWO)) == ()


def test_only_what_is_whole():
    dump = partition.entry(20)
    assert chain.whole((dump, *CHAIN)) == (dump, *CHAIN)
    assert chain.whole((dump, FULL, TWO)) == (dump, FULL)
    assert chain.whole((ONE, TWO)) == ()
