# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the folder that nginx serves: hard links of exactly the backups that the manifests list, and one manifest."""

import os
from pathlib import Path

from slapos.recipe.erp5.mariadb import chain, manifest
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import Entry


def update(config: Config) -> tuple[Entry, ...]:
    """Make `srv/backup/offered` say what the manifests of all kinds of backups say; return what is offered.

    What is listed is there at any moment: files are linked before the list names them, and removed after it has
    ceased to. A listed file that has vanished is not offered, and neither is what continues it. Raises BackupError and
    OSError.
    """
    folder = config.offered
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sources = (config.dumps, config.physical_backups)
    listed = [(entry, source) for source in sources for entry in manifest.load(source)]
    present = [entry for entry, source in listed if _link(source / entry.name, folder)]
    offered = manifest.in_order(chain.whole(present))
    if manifest.text(offered) != _current(folder):
        manifest.save(folder, offered)
    _clean(folder, {manifest.FILE, *(entry.name for entry in offered)})
    return offered


def _link(source: Path, folder: Path) -> bool:
    """Offer the file `source`; False when there is no such file."""
    target = folder / source.name
    try:
        if target.exists() and not target.samefile(source):
            target.unlink()
        os.link(source, target)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    return True


def _current(folder: Path) -> str:
    """The text of the offered manifest, empty when it has to be written anew."""
    try:
        return (folder / manifest.FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _clean(folder: Path, wanted: set[str]) -> None:
    """Remove every file that is not wanted, left-overs of interrupted writes included."""
    for path in folder.iterdir():
        if path.name not in wanted and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)
