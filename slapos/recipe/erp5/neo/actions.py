# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions that change a NEO cluster's role, and the program neo-action."""

import sys

from slapos.recipe.erp5.control import actions
from slapos.recipe.erp5.control.actions import Action, Option
from slapos.recipe.erp5.neo.service import SERVICE

_PACKAGE = "slapos.recipe.erp5.neo"
_FORCE = Option("force", "Force", "flag", "accept what the preflight says would be lost")
_CONTROL = Option(
    "control-url",
    "Upstream's takeover-url",
    "secret-url",
    "the takeover-url that the upstream publishes, so that it can be fenced; else upstream-control-url",
)

ACTIONS: dict[str, Action] = {
    one.name: one
    for one in (
        Action(
            "takeover",
            "Take over",
            "become the primary now; an upstream that is reachable is fenced first, which stops its masters",
            True,
            (_FORCE, _CONTROL),
            f"{_PACKAGE}.takeover",
        ),
        Action(
            "rejoin",
            "Rejoin",
            "become a backup of the new primary, or of another cluster",
            True,
            (
                Option(
                    "upstream-cluster",
                    "Upstream's neo-cluster",
                    "text",
                    "its name, as it publishes it; else the cluster that fenced this one, or the parameter",
                ),
                Option("upstream-masters", "Upstream's neo-masters", "text", "their addresses, as it publishes them"),
                Option("reset", "Reset", "flag", "copy all anew; the old storages are put aside, and kept"),
                _CONTROL,
            ),
            f"{_PACKAGE}.rejoin",
        ),
        Action(
            "detach",
            "Detach",
            "stop following for good, and take writes, without touching the upstream: the first step of a clone",
            True,
            (_FORCE,),
            f"{_PACKAGE}.detach",
        ),
        Action("fence", "Fence", "stop the masters, over restarts too, until resumed", True, (), f"{_PACKAGE}.fence"),
        Action("resume", "Resume", "take the fence away: the masters run again", True, (_FORCE,), f"{_PACKAGE}.resume"),
    )
}


def main() -> int:
    """Runs an action, or tells what it would do."""
    return actions.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
