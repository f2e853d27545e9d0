# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions on Zopes, all of a partition or one family: hold, release, restart; and what runs them for the page."""

import sys

from slapos.recipe.erp5.control import actions
from slapos.recipe.erp5.control.actions import Action, Option
from slapos.recipe.erp5.zope.service import SERVICE

_PACKAGE = "slapos.recipe.erp5.zope"
_FAMILY = Option("family", "Family", "text", "one family of Zopes; all of them when it is empty")

ACTIONS: dict[str, Action] = {
    one.name: one
    for one in (
        Action(
            "hold",
            "Hold",
            "end Zopes, over restarts too, until they are released; their ports answer 503",
            True,
            (_FAMILY,),
            f"{_PACKAGE}.hold",
        ),
        Action(
            "release",
            "Release",
            "let Zopes that are held back serve again, when their database does",
            False,
            (_FAMILY,),
            f"{_PACKAGE}.release",
        ),
        Action(
            "restart",
            "Restart",
            "end Zopes once their requests are answered, and start them again",
            True,
            (_FAMILY,),
            f"{_PACKAGE}.restart",
        ),
    )
}


def main() -> int:
    """Runs an action, or tells what it would do."""
    return actions.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
