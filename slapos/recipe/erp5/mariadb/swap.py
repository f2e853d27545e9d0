# SPDX-License-Identifier: GPL-2.0-or-later
"""A new database that grows beside the present one of a stopped partition, and takes its place in one step.

Every function but `locked` is to be called under `locked`.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Busy, ConfigurationError
from slapos.recipe.erp5.mariadb.config import Config

MARK = "slapos.restoring"
"""In a new database until it has taken its place: tells it from the old one, which has no such file, wherever a run was
killed. Without it a left-over could be either, and removing the old one would be a loss."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>
_libc = ctypes.CDLL(None, use_errno=True)


def growing(config: Config) -> Path:
    """Where the new database grows: beside the present one, on the same filesystem."""
    return config.data_directory.with_name(config.data_directory.name + ".restore")


@contextlib.contextmanager
def locked(config: Config) -> Iterator[None]:
    """Hold the service script's lock: no server runs on the database, and none is started meanwhile. Raises Busy.

    Inheritable: a private server that outlives a killed run keeps the next one out for as long as it writes.
    """
    path = f"{config.data_directory}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.set_inheritable(descriptor, True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            service = f"{Path(config.partition).name}:*"
            raise Busy(
                f"{path} is held, so the service of {config.instance} runs, or another restore: stop it with `slapos"
                f" node stop '{service}'`, restore, and start it with `slapos node start '{service}'`"
            ) from error
        yield
    finally:
        os.close(descriptor)


def settle(config: Config) -> None:
    """Remove what an earlier run left unfinished, or put the old database aside when that is what it left.

    Raises ConfigurationError where the filesystem cannot exchange two folders.
    """
    present, left = config.data_directory, growing(config)
    _check_exchange(present.parent)
    (present / MARK).unlink(missing_ok=True)  # killed right after the exchange
    if not left.exists():
        return
    if (left / MARK).exists() or not (left / "ibdata1").exists():
        with process.step(f"remove {left}, which an earlier run left unfinished"):
            discard(config)
    else:
        process.log(f"step: keep the database that an earlier run had replaced as {_put_aside(config)}")


def begin(config: Config) -> Path:
    """An empty folder for the new database."""
    folder = growing(config)
    folder.mkdir(mode=0o700)
    (folder / MARK).touch(mode=0o600)
    return folder


def discard(config: Config) -> None:
    """Remove the unfinished database; killed meanwhile, what remains of it is still known as unfinished."""
    folder = growing(config)
    (folder / "ibdata1").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def take_over(config: Config) -> Path | None:
    """Make the complete new database the present one; returns where the old one lies now, if there was one."""
    present, new = config.data_directory, growing(config)
    aside = None
    if present.exists():
        # Not two renames: between them there would be none, and a service that starts then would create an empty one.
        exchange(new, present)
        aside = _put_aside(config)
    else:
        new.rename(present)
    (present / MARK).unlink()
    process.sync_directory(present)
    process.sync_directory(present.parent)
    return aside


def _put_aside(config: Config) -> Path:
    stamp = f"{times.now():%Y%m%dT%H%M%SZ}"
    return growing(config).rename(
        config.data_directory.with_name(f"{config.data_directory.name}.before-restore-{stamp}")
    )


def exchange(one: Path, other: Path) -> None:
    """Give each of two existing paths the other's name, in one step (renameat2(2)). Raises OSError."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def _check_exchange(folder: Path) -> None:
    """Raise ConfigurationError now, and not after hours of loading, where `exchange` does not work."""
    with tempfile.TemporaryDirectory(prefix=".exchange-", dir=folder) as probe:
        one, other = Path(probe, "one"), Path(probe, "other")
        one.mkdir()
        other.mkdir()
        try:
            exchange(one, other)
        except OSError as error:
            raise ConfigurationError(
                f"the filesystem of {folder} cannot exchange two folders in one step ({error.strerror}): move the"
                " partition to a local one, such as ext4 or xfs"
            ) from error
