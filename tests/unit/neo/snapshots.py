# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at a backup cluster, as actions have them before they begin; changed for each test."""

import dataclasses
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Node, Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.preflight import Snapshot
from slapos.recipe.erp5.neo.role_state import RoleState

AT = "2026-11-22T01:00:00Z"
NOW = times.parse(AT)
LAST = tids.from_time(NOW.timestamp())
LAST_TEXT = f"{tids.text(LAST)} (2026-11-22 01:00:00.000 UTC)"
UPSTREAM = Upstream("old", "127.0.0.1:30000 127.0.0.2:30000")
URL = "https://127.0.0.1:28000/#" + "0" * 32
STORAGES = tuple(Node("STORAGE", f"S{number}", f"127.0.0.1:3100{number}", "RUNNING") for number in (1, 2))
MASTER = Node("MASTER", "M1", "127.0.0.1:30001", "RUNNING")


def later(seconds: float) -> int:
    """A tid so many seconds after LAST, or before it."""
    return tids.from_time(NOW.timestamp() + seconds)


def status(**changes: Any) -> Status:
    """Of a backup that has all, unless it is changed."""
    found = Status("BACKINGUP", "M1", 12, 0, LAST, LAST, 5, None, 0, (MASTER, *STORAGES))
    return dataclasses.replace(found, **changes)


def snapshot(judged: Status | None = None, **changes: Any) -> Snapshot:
    """Of a backup that has all of an upstream that is dead, unless it is changed."""
    values = {"now": NOW, "status": judged or status(), "role": RoleState(), "upstream": UPSTREAM, "error": "timed out"}
    return Snapshot(**values | changes)
