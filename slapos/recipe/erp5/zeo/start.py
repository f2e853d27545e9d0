# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zeo-start: becomes the ZEO server of a partition, once each storage has its file, which is made once."""

import argparse
import os
from collections.abc import Sequence

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo.config import Config

NEW = "import sys; from ZODB.FileStorage import FileStorage; FileStorage(sys.argv[1]).close()"
"""What ZODB's Python makes an empty database with."""


def is_to_be_made(config: Config, storage: str) -> bool:
    """Whether a storage's file has to be made. Raises Refused where it is gone: an empty one is not the same."""
    exists, mark = config.has_database(storage), config.set_up(storage)
    if mark.exists() and not exists:
        raise Refused(
            f"{config.database(storage)} is not there, expected the database that was made once: bring it back, for"
            f" instance by bin/zeo-restore; or, to have an empty one in its place, remove {mark}"
        )
    return not exists


def prepare(config: Config) -> None:
    """Make what never was made. Raises Refused, CommandError."""
    for storage in config.storages:
        database = config.database(storage)
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_to_be_made(config, storage):
            with process.step(f"make {database}"):
                process.run([config.software.program("python"), "-c", NEW, database], f"make {database}")
        mark_as_made(config, storage)


def mark_as_made(config: Config, storage: str) -> None:
    """Note that a storage has its file, so that a missing one is noticed."""
    mark = config.set_up(storage)
    if not mark.exists():
        process.sync_directory(mark.parent)
        process.write_atomically(mark, times.text(times.now()) + "\n")


def become(config: Config) -> None:
    """Replace this program by the server. Raises Error, OSError."""
    os.umask(0o077)
    prepare(config)
    command = (config.software.program("runzeo"), "-C", str(config.conf))
    with process.attempting(f"start {command[0]}"):
        os.execve(command[0], command, process.environment())


def main(arguments: Sequence[str] | None = None) -> int:
    """The program's exit code, 1 with a sentence on stderr, where it does not become the server."""
    parser = argparse.ArgumentParser(prog="zeo-start", description="Become the ZEO server of a partition.")
    parser.add_argument("--config", required=True, help="the partition's etc/zeo.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: become(configuration.load(path)))


if __name__ == "__main__":
    raise SystemExit(main())
