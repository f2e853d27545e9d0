# SPDX-License-Identifier: GPL-2.0-or-later
"""The custom_install hook, program mariadb-install: makes an empty database, or a replica's, however long it takes.

It never ends because something failed: the service would end with it, and be processed again, which mends nothing.
"""

import argparse
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import bootstrap, create, new_database, replica
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.bootstrap import Outside
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.progress import Progress

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds between two attempts; each pause is twice as long as the one before."""


def install(
    path: Path, directory: Path, outside: Callable[[], Outside], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Make the new database `directory` as the partition's JSON file `path` says at each attempt; a replica's complete.

    `outside` is called at each attempt, for a replica alone. Raises ConfigurationError for a file that cannot be used
    from the beginning, and whatever the making of an empty database does.
    """
    os.umask(0o077)
    config = replica.effective(configuration.load(path))
    progress, pause = Progress(config.bootstrap_state), FIRST_PAUSE
    while config.replication:
        bootstrap.discard(directory)
        progress.attempt()
        try:
            bootstrap.make(config, directory, progress, outside())
            # Here and not in on_creation: there a failure ends the service, and all begins again at once.
            progress.begin("complete the replica")
            create.create(config, directory)
            progress.complete()
            return
        except Exception as error:  # whatever it is, ending would bring the same again, and sooner
            sentence = process.describe(error)
        bootstrap.discard(directory)
        process.log(f"error: {sentence}")
        process.log(f"the next attempt is in {pause:g} s; what {path} says by then counts")
        progress.failed(sentence)
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        config = _again(path, config)
    bootstrap.discard(directory)
    new_database.initialise(config, directory)
    config.bootstrap_state.unlink(missing_ok=True)


def _again(path: Path, before: Config) -> Config:
    """What the file says now; what it said before while it cannot be used."""
    try:
        return replica.effective(configuration.load(path))
    except ConfigurationError as error:
        process.log(f"error: {error}; what it said before counts")
        return before


@functools.cache
def _real() -> Outside:
    # Here, as an empty database needs none of it.
    from slapos.recipe.erp5.mariadb.bootstrap_outside import Real

    return Real()


def main() -> int:
    """The program `mariadb-install`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path, help="etc/mariadb.json")
    parser.add_argument("--data-directory", required=True, type=Path, help="the new database; nothing else is there")
    arguments = parser.parse_args()
    return process.program(lambda: install(arguments.config, arguments.data_directory, _real))


if __name__ == "__main__":
    raise SystemExit(main())
