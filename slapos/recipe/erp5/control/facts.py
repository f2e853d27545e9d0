# SPDX-License-Identifier: GPL-2.0-or-later
"""What the page, status.json and the metrics tell of a partition of any service; nobody is asked, files are read."""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.action import Running
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.journal import Entry
from slapos.recipe.erp5.control.sampler import Look
from slapos.recipe.erp5.verdict import Verdict

OLD = 60
"""Seconds after which what was seen last is no news any more."""


@dataclass(frozen=True)
class Promise:
    """What a promise said at `at`."""

    name: str
    failed: bool
    sentence: str
    at: str


@dataclass(frozen=True)
class Facts:
    """What all services tell; each has a dataclass that adds to it. `at` is the moment of the last look, or empty.

    `problems` are sentences that tell what to do, the gravest first; `notes` are what is worth knowing; `actions` are
    the journal's last ones, the newest first.
    """

    instance: str
    at: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    running: Running | None
    actions: tuple[Entry, ...]
    promises: tuple[Promise, ...]
    now: datetime


# ---- gather


def promises(config: Configuration) -> Iterator[Promise]:
    """What the partition's promises said last, by what slapos keeps of it."""
    for path in sorted(Path(config.partition).glob(".slapgrid/promise/result/*.status.json")):
        content = _json(path)
        result = content.get("result")
        if isinstance(result, dict):
            yield Promise(
                str(content.get("title", path.name)),
                bool(result.get("failed")),
                " ".join(str(result.get("message", "")).split()),
                times.text(datetime.fromtimestamp(path.stat().st_mtime, UTC)),
            )


def _json(path: Path) -> dict[str, Any]:
    """What somebody else wrote there; empty when it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# ---- decide


def problems(
    look: Look | None, judged: Verdict | None, promises: Iterable[Promise], now: datetime, prefix: str, own: str
) -> Iterator[str]:
    """All problems: what was `judged` of the last look takes the place of what the promise `own` said last."""
    yield from old(look, now, prefix)
    if judged and not judged.good:
        yield from judged.sentences
    yield from failing(promises, (own,))


def old(look: Look | None, now: datetime, prefix: str) -> Iterator[str]:
    """The problem that the last look is no news any more, if so."""
    if look and (now - look.at).total_seconds() > OLD:
        yield (
            f"this page shows what was seen at {times.text(look.at)}, expected a look every few seconds: read the log "
            f"of the service {prefix}-control"
        )


def failing(promises: Iterable[Promise], but: Collection[str] = ()) -> Iterator[str]:
    """The problems that promises tell; `but` are those whose judgement is made anew here."""
    return (f"{one.name}: {one.sentence}" for one in promises if one.failed and one.name not in but)
