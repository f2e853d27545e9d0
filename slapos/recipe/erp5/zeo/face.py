# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control page shows of a ZEO server, in words; pure functions of its facts."""

from collections.abc import Iterator

from slapos.recipe.erp5.control.face import Face, Row, moment
from slapos.recipe.erp5.words import size_text
from slapos.recipe.erp5.zeo.facts import Backed, Facts

ROLES = {True: "Serves", False: "Does not answer", None: "Nobody has looked yet"}


def of(facts: Facts) -> Face:
    """All of it."""
    return Face(
        role=ROLES[facts.answers],
        details=tuple(_details(facts)),
        care_title="Promises, backups",
        care=tuple(_backups(facts)),
    )


def _details(facts: Facts) -> Iterator[Row]:
    yield Row("Address", facts.address, code=True)
    for storage in facts.storages:
        yield Row(f"Database {storage.name}", "is gone" if storage.lost else size_text(storage.size))
    for name in facts.unserved:
        yield Row(f"Database {name}", "not served, and kept")


def _backups(facts: Facts) -> Iterator[Row]:
    for one in facts.backups:
        yield Row(f"Last backup of {one.storage}", moment(one.last))
        if one.newest:
            yield Row("Newest file", one.newest, code=True)
            yield Row("In all", _all(one))
    yield Row("Next backup", moment(facts.next_backup) if facts.scheduled and facts.next_backup else "not scheduled")


def _all(one: Backed) -> str:
    return f"{one.chains} full, and what was added to them: {size_text(one.size)}"
