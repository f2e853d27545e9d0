# SPDX-License-Identifier: GPL-2.0-or-later
"""What another instance may ask of a MariaDB partition, when it proves to know its token: fence, hand over, follow."""

from typing import Any

from slapos.recipe.erp5.control.peer import Peers, Question
from slapos.recipe.erp5.mariadb.config import Config


def _asks(*parameters: str, optional: tuple[str, ...] = (), by_its_own_secret: bool = False) -> Question:
    return Question(frozenset(parameters), frozenset(optional), by_its_own_secret)


def _do(config: Config, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    from slapos.recipe.erp5.mariadb import peer_actions  # with all that changes roles

    return peer_actions.do(config, name, parameters)


def _secret_of(config: Config, public_name: str) -> str:
    """The secret of a hand-over that was begun here; empty when there is none of that name."""
    from slapos.recipe.erp5.mariadb import hand_over

    return hand_over.secret_of(config, public_name)


PEERS = Peers(
    {
        "status": _asks(),
        "fence": _asks("address", "by", "new-primary", "reason"),
        "prepare-hand-over": _asks("primary-url"),
        "hand-over": _asks("id", "control", "primary-url"),
        "cancel": _asks("id"),
        "complete": _asks("id"),
        "follow": _asks("primary-url", optional=("control-url",)),
        "hand-over-state": _asks("id", by_its_own_secret=True),
    },
    _do,
    _secret_of,
)
