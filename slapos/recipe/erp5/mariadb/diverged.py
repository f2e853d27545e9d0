# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves the transactions that only an old primary has as SQL, for people to look through and to apply elsewhere."""

import gzip
import re
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import journal
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import gtid, status
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.demote import Comparison

_OWN = re.compile(rb"/\*M?!\d+ SET @@session\.(gtid_seq_no|server_id)=")
"""Lines that would give a transaction its old identity back, wherever it is executed: it is another one there."""


def save(config: Config, found: Comparison, stamp: str) -> Path:
    """Write srv/role/diverged-<stamp>.sql.gz; returns its path. Raises BackupError, CommandError, OSError.

    `mariadb` executes what is in it, as new transactions; each changed row is a comment as well, as the statements
    themselves are encoded.
    """
    logs = status.binary_log_files(config.data_directory)
    if not logs:
        raise BackupError(
            f"{config.data_directory} has no binary logs, where the transactions would be: nothing is saved"
        )
    path = journal.folder(config) / f"diverged-{stamp}.sql.gz"
    position = gtid.text(found.common)
    command = [config.program("mariadb-binlog"), "--no-defaults", "--verbose"]
    command += [f"--start-position={position}"] if position else []
    partial = path.with_suffix(".partial")
    try:
        with partial.open("xb") as file, gzip.GzipFile(path.stem, "wb", 6, file) as packed:
            _copy([*command, *map(str, logs)], packed)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    process.sync_filesystem(path.parent)
    return path


def _copy(command: list[str], packed: gzip.GzipFile) -> None:
    with process.start(command, stdout=-1, stderr=-1) as child:
        assert child.stdout is not None and child.stderr is not None
        try:
            for line in child.stdout:
                if not _OWN.match(line):
                    packed.write(line)
            words = child.stderr.read()
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code != 0:
        raise process.failure(command, "read the binary logs", code, words)
