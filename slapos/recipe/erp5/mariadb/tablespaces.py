# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a physical backup has every table: mariadb-backup can end with success and leave some out (measured).

Pure functions. A tablespace is known by its number, which is never given twice, and by its name, such as erp5/catalog.
"""

import re
from collections.abc import Iterable

from slapos.recipe.erp5.mariadb.xbstream import is_table

# "Warning: We assume the  table was dropped during xtrabackup execution and ignore the tablespace ./erp5/catalog.ibd"
_LEFT_OUT = re.compile(rb"We assume the\s.*?ignore the \S+ (?:\./)?(\S.*?)(?:\.ibd)?\s*$", re.MULTILINE)
_ANY_LEFT_OUT = re.compile(rb"We assume the\s")
_COMPLETED = b"completed OK!"
# "[00] FATAL ERROR: 2026-11-24 23:36:22 failed to execute query ...", "2026-11-24 23:36:22 0 [ERROR] InnoDB: ..."
_COMPLAINT = re.compile(rb"^.*\berror(?:\]|:).*$", re.MULTILINE | re.IGNORECASE)


def left_out(said: bytes) -> tuple[frozenset[str], bool]:
    """The tables that mariadb-backup said it ignored, and whether it named each one of them."""
    named = _LEFT_OUT.findall(said)
    names = frozenset(name.decode("utf-8", "replace") for name in named)
    return names, len(named) == len(_ANY_LEFT_OUT.findall(said))


def is_completed(said: bytes) -> bool:
    """Whether mariadb-backup's last line says that it succeeded."""
    return said.rstrip().endswith(_COMPLETED)


def complaint(said: bytes) -> bytes:
    """What mariadb-backup complained of, without all the files that it had copied; all that it said when of nothing."""
    return b"\n".join(_COMPLAINT.findall(said)) or said


def missing(
    before: Iterable[tuple[int, str]],
    after: Iterable[tuple[int, str]],
    received: frozenset[str],
    ignored: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """The tables that a backup should have and has not: their present names, in order.

    `before` and `after` are what the server has (number and name) just before the backup begins and just after it has
    ended. A number that is in both was there throughout, so the table has to be `received`, under either name when it
    was renamed meanwhile. A name that is in both was rebuilt or truncated meanwhile, which gives a new number: it has
    to be received too. What is in one alone was created or dropped meanwhile, and may be in the backup or not. A table
    that mariadb-backup `ignored` as dropped has to be really gone, or received as a newer one of that name.
    """
    first, last = _tables(before), _tables(after)
    names = set(first.values())
    lost = {name for name in last.values() if name in ignored and name not in received}
    for space, name in last.items():
        possible = {name, first.get(space, name)}
        if (space in first or name in names) and not possible & received:
            lost.add(name)
    return tuple(sorted(lost))


def _tables(spaces: Iterable[tuple[int, str]]) -> dict[int, str]:
    return {space: name for space, name in spaces if is_table(name)}
