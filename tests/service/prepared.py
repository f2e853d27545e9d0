# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition of a test gets cheaply, as production's way to it takes longer than most tests: keys, time zones."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.tls.files import Files

TIME_ZONES = ("UTC", "Asia/Tokyo", "Europe/Paris")
_made: dict[tuple[str, ...], list[tuple[Path, tuple[str, ...]]]] = {}
"""For each server name with its addresses: the folders that have got placeholders, and these."""


def placeholders(folder: Path, server_name: str, ips: Iterable[str]) -> None:
    """As files.ensure(), with the keys of a folder that is gone, if there is one: no two trust the same authority."""
    ips, where = tuple(ips), Files(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = (where.ca, where.crl, where.server, where.client)
    if all(path.exists() for path in wanted):
        return
    made = _made.setdefault((server_name, *ips), [])
    gone = [entry for entry in made if not entry[0].exists()]
    contents = gone[0][1] if gone else files.placeholders(server_name, ips, times.now())
    made[:] = [entry for entry in made if entry not in gone[:1]] + [(folder, contents)]
    for path, content in zip(wanted, contents, strict=True):
        process.write_atomically(path, content)


def few_time_zones(folder: Path, release: Path) -> str:
    """A few of the release's time zones in `folder`, whose path is returned: all of them take seconds to load."""
    for name in TIME_ZONES:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(release / name, folder / name)
    return str(folder)
