# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tables a backup lacks, from what the server had before and after it, and from mariadb-backup's own words."""

import pytest

from slapos.recipe.erp5.mariadb import tablespaces

SYSTEM = {(0, "innodb_system"), (4294967294, "innodb_temporary"), (1, "innodb_undo001")}
A, B = (5, "e/a"), (6, "e/b")
NOTHING: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("before", "after", "received", "ignored", "missing"),
    [
        ({A, B}, {A, B}, {"e/a", "e/b"}, NOTHING, ()),
        ({A, B}, {A, B}, {"e/a"}, NOTHING, ("e/b",)),
        ({A, B}, {A, B}, set(), NOTHING, ("e/a", "e/b")),
        # Dropped meanwhile, before or after it was copied.
        ({A, B}, {A}, {"e/a"}, NOTHING, ()),
        ({A, B}, {A}, {"e/a", "e/b"}, NOTHING, ()),
        ({A, B}, {A}, {"e/a"}, {"e/b"}, ()),
        # Created meanwhile, before or after the backup's end.
        ({A}, {A, B}, {"e/a"}, NOTHING, ()),
        ({A}, {A, B}, {"e/a", "e/b"}, NOTHING, ()),
        # Renamed meanwhile, before or after the backup's end; the third time lost.
        ({A}, {(5, "e/new")}, {"e/new"}, NOTHING, ()),
        ({A}, {(5, "e/new")}, {"e/a"}, NOTHING, ()),
        ({A}, {(5, "e/new")}, set(), NOTHING, ("e/new",)),
        # Truncated or rebuilt meanwhile: another number.
        ({A}, {(9, "e/a")}, {"e/a"}, NOTHING, ()),
        ({A}, {(9, "e/a")}, set(), NOTHING, ("e/a",)),
        # Renamed away, and another one made of that name.
        ({A}, {(5, "e/old"), (9, "e/a")}, {"e/a"}, NOTHING, ()),
        ({A}, {(5, "e/old"), (9, "e/a")}, {"e/old", "e/a"}, NOTHING, ()),
        ({A}, {(5, "e/old"), (9, "e/a")}, {"e/old"}, NOTHING, ("e/a",)),
        # Taken for dropped, and there all the same: imported meanwhile.
        ({A}, {A, (9, "e/i")}, {"e/a"}, {"e/i"}, ("e/i",)),
        ({A}, {A, (9, "e/i")}, {"e/a", "e/i"}, {"e/i"}, ()),
        # What a statement is building is nobody's table.
        ({A, (7, "e/#sql-alter-1")}, {A, (7, "e/#sql-alter-1")}, {"e/a"}, NOTHING, ()),
    ],
)
def test_missing(before, after, received, ignored, missing):
    assert tablespaces.missing(before | SYSTEM, after | SYSTEM, frozenset(received), frozenset(ignored)) == missing


LEFT_OUT = (
    b"[00] 2026-11-22 23:51:56 Warning: We assume the  table was dropped during xtrabackup execution and ignore the"
)


def test_what_was_left_out():
    said = b"[00] copying\n" + LEFT_OUT + b" tablespace ./e/imp.ibd\n" + LEFT_OUT + b" file ./e/p#P#p0.ibd\n[00] done\n"
    assert tablespaces.left_out(said) == (frozenset({"e/imp", "e/p#P#p0"}), True)


def test_a_table_that_is_not_named_is_known_of():
    assert tablespaces.left_out(LEFT_OUT + b"\n" + LEFT_OUT + b" tablespace ./e/a.ibd\n") == (frozenset({"e/a"}), False)
    assert tablespaces.left_out(b"[00] nothing of the kind\n") == (frozenset(), True)


@pytest.mark.parametrize(
    ("said", "completed"),
    [
        (b"[00] 2026-11-22 23:51:56 completed OK!\n", True),
        (b"[00] 2026-11-22 23:51:56 completed OK!", True),
        (b"[00] completed OK!\nError: something else\n", False),
        (b"", False),
    ],
)
def test_completed(said, completed):
    assert tablespaces.is_completed(said) is completed


def test_what_is_complained_of_is_told_without_what_was_copied():
    copied = b"[00] 2026-11-24 23:36:22 aria table file ./mysql/error.MAD is copied successfully.\n"
    fatal = b"[00] FATAL ERROR: 2026-11-24 23:36:22 failed to execute query BACKUP LOCK `a`.`b`: Server has gone away"
    innodb = b"2026-11-24 23:36:22 0 [ERROR] InnoDB: cannot read"
    assert tablespaces.complaint(copied + innodb + b"\n" + copied + fatal + b"\n") == innodb + b"\n" + fatal
    assert tablespaces.complaint(copied) == copied
