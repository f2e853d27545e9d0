# SPDX-License-Identifier: GPL-2.0-or-later
"""What was done to an instance's role, when and by whom: `srv/role/journal.jsonl`, which only grows, no secrets."""

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control.configuration import Configuration

OUTCOMES = ("done", "refused", "failed", "cancelled")
LONGEST = 1 << 16
"""Bytes at the journal's end that are read for the last entries."""


@dataclass(frozen=True)
class Entry:
    """`at` is a moment (times.py); `outcome` is one of OUTCOMES; `details` are plain values."""

    at: str
    action: str
    by: str
    outcome: str
    sentence: str
    details: dict[str, Any] = field(default_factory=dict)


def folder(config: Configuration) -> Path:
    """`srv/role`, made when it is missing."""
    path = config.path("srv", "role")
    if not path.is_dir():
        path.mkdir(mode=0o700, exist_ok=True)
        process.sync_directory(path.parent)
    return path


def _path(config: Configuration) -> Path:
    return config.path("srv", "role", "journal.jsonl")


def append(config: Configuration, entry: Entry) -> None:
    """Add an entry, as one line, durably. Raises OSError."""
    folder(config)
    line = json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n"
    with process.attempting(f"write {_path(config)}"):
        descriptor = os.open(_path(config), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # A line that was cut by a power cut stays a line of its own, which nobody can read.
            size = os.fstat(descriptor).st_size
            cut = size and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, ("\n" * bool(cut) + line).encode("utf-8"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def last(config: Configuration, count: int = 20) -> tuple[Entry, ...]:
    """The newest entries, the newest first; what cannot be read is left out."""
    try:
        with _path(config).open("rb") as file:
            file.seek(max(0, _path(config).stat().st_size - LONGEST))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ()
    found = []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError):
            found.append(Entry(**json.loads(line)))
        if len(found) == count:
            break
    return tuple(found)
