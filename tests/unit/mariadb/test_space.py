# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk space: what is counted, and what the next backup is expected to take."""

import dataclasses

from slapos.recipe.erp5.mariadb import space
from slapos.recipe.erp5.mariadb.manifest import Entry

MIB = 1 << 20
LAST = Entry("20261122T000000Z.sql.zst", "logical", 80 * MIB, "0" * 64, "", "2026-11-22T00:00:00Z", "", "10.11")
BEFORE = dataclasses.replace(LAST, size=1, start="2026-11-21T00:00:00Z")


def test_the_next_backup_is_the_last_one_and_a_quarter():
    assert space.needed((LAST, BEFORE), 10_000 * MIB) == 100 * MIB


def test_a_first_backup_is_a_third_of_the_tables():
    assert space.needed((), 300 * MIB) == 100 * MIB


def test_a_tiny_one_still_takes_something():
    assert space.needed((), 0) == MIB


def test_only_tables_count(tmp_path):
    for name, size in {
        "ibdata1": 1000,
        "erp5/t.ibd": 200,
        "erp5.mrn.0000100": 30,
        "mysql/user.MAD": 4,
        "ib_logfile0": 10**5,
        "binlog.000001": 10**5,
        "ibtmp1": 10**5,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert space.tables_size(tmp_path) == 1234


def test_no_data_directory_has_no_tables(tmp_path):
    assert space.tables_size(tmp_path / "none") == 0
