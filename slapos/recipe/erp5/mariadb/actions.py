# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions that change a database's role, and the program mariadb-action."""

import sys

from slapos.recipe.erp5.control import actions
from slapos.recipe.erp5.control.actions import Action, Option
from slapos.recipe.erp5.mariadb.service import SERVICE

_PACKAGE = "slapos.recipe.erp5.mariadb"
_FORCE = Option("force", "Force", "flag", "accept what the preflight says would be lost")
_CONTROL = Option(
    "control-url",
    "Primary's takeover-url",
    "secret-url",
    "the takeover-url that the primary publishes, so that it can be told what to do; else replication.control-url",
)
_PRIMARY = Option(
    "primary-url",
    "New primary's replication-primary-url",
    "secret-url",
    "the replication-primary-url that the new primary publishes; user:password@ may be left out",
)

_BOOTSTRAP = Option(
    "bootstrap-url",
    "New primary's replication-bootstrap-url",
    "secret-url",
    "for rebuild: the replication-bootstrap-url that the new primary publishes",
)

ACTIONS: dict[str, Action] = {
    one.name: one
    for one in (
        Action(
            "takeover",
            "Take over",
            "become the primary now; all that was received is applied first, and a primary that is reachable is fenced",
            True,
            (_FORCE, _CONTROL),
            f"{_PACKAGE}.takeover",
        ),
        Action(
            "switchover",
            "Switch over",
            "exchange the roles with the primary, both being up; nothing is lost",
            True,
            (_CONTROL,),
            f"{_PACKAGE}.switchover",
        ),
        Action(
            "rejoin",
            "Rejoin",
            "come back as a replica of the new primary",
            True,
            (
                _PRIMARY,
                Option("save", "Save", "flag", "save what only this database has as SQL, in srv/role"),
                Option("rebuild", "Rebuild", "flag", "make the database anew from a backup; the old one is kept"),
                _BOOTSTRAP,
            ),
            f"{_PACKAGE}.rejoin",
        ),
        Action(
            "detach",
            "Detach",
            "stop following for good, and be writable, without touching the primary: the first step of a clone",
            True,
            (_FORCE,),
            f"{_PACKAGE}.detach",
        ),
        Action(
            "follow",
            "Follow",
            "replicate from another primary, which has all that this replica has",
            False,
            (_PRIMARY, _CONTROL),
            f"{_PACKAGE}.follow",
        ),
        Action("fence", "Fence", "refuse all writes, over restarts too, until resumed", True, (), f"{_PACKAGE}.fence"),
        Action("resume", "Resume", "take the fence away: writable again", True, (_FORCE,), f"{_PACKAGE}.resume"),
    )
}


def main() -> int:
    """Runs an action, or tells what it would do."""
    return actions.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
