# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk space: how much is free, and how much the next logical backup is going to take."""

import os
from collections.abc import Iterable
from pathlib import Path

from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.manifest import Entry

GROWTH = 1.25
"""The next backup against the last one; retention removes the old ones only afterwards."""
SHARE = 1 / 3
"""A first backup, compressed, against the tables as they lie in the data directory."""
LEAST = 1 << 20


def needed(entries: Iterable[Entry], tables: int) -> int:
    """Bytes that the next backup takes, from the last one or else from `tables`, the bytes of the tables."""
    newest = manifest.newest(entries)
    return max(LEAST, round(newest.size * GROWTH if newest else tables * SHARE))


def tables_size(data_directory: Path) -> int:
    """Bytes of the tables in a data directory: redo logs, binary logs and temporary tables lie beside, uncounted."""
    top = _sizes(path for path in _list(data_directory) if path.name.startswith("ibdata") or ".mrn" in path.name)
    return top + sum(_sizes(_list(Path(folder))) for folder in _list(data_directory) if folder.is_dir())


def free(folder: Path) -> int:
    """Bytes that we may still write into `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def device(folder: Path) -> int:
    """The file system on which `folder` lies."""
    return folder.stat().st_dev


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _sizes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # a table that was dropped meanwhile
            continue
    return total
