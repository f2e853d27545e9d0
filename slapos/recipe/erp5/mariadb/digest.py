# SPDX-License-Identifier: GPL-2.0-or-later
"""Sums up each rotated log of slow queries by pt-query-digest, once, into a dated report."""

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CommandError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config

KEPT = 90
"""Reports that are kept: with one a day, three months."""
_ROTATED = re.compile(r"-([0-9]{8}-[0-9]{6})(\.zst)?")
_REPORT = re.compile(r"slow-queries-[0-9]{8}-[0-9]{6}\.txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 every rotated log has its report, 1 one could not be made (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog="mariadb-digest-slow-queries", description="Make the missing reports now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: make_pending(configuration.load(path)))


def folder(config: Config) -> Path:
    """Where the reports lie."""
    return config.path("srv", "slow-query-digest")


def make_pending(config: Config) -> None:
    """Make the reports that are missing, and remove those that are too old.

    A log that cannot be summed up keeps no other from its report; raises CommandError, naming all such, at the end.
    """
    os.umask(0o077)  # slow queries hold data
    reports = folder(config)
    reports.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {path.name for path in reports.iterdir()}
    made, failures = [], []
    for name in sorted(rotated(config).keys() - names):
        try:
            _make(config, rotated(config)[name], reports / name)
            made.append(name)
        except CommandError as error:
            failures.append(str(error))
    for name in old(names | set(made)):
        (reports / name).unlink()
    if made or not failures:
        process.log(f"slow-query reports made: {', '.join(made) or 'none'}")
    if failures:
        # One that concerns all, such as a program that is missing, is said once.
        raise CommandError("; ".join(dict.fromkeys(failures)))


def rotated(config: Config) -> dict[str, Path]:
    """The rotated slow logs, by the names of their reports."""
    found = {}
    for path in config.slow_log.parent.glob(f"{config.slow_log.name}-*"):
        stamp = _ROTATED.fullmatch(path.name.removeprefix(config.slow_log.name))
        if stamp:
            found[f"slow-queries-{stamp[1]}.txt"] = path
    return found


def old(names: set[str]) -> list[str]:
    """The reports beyond the newest KEPT ones; other files are not ours."""
    return sorted(filter(_REPORT.fullmatch, names))[:-KEPT]


def _make(config: Config, log: Path, report: Path) -> None:
    # It passes on what is not compressed: the newest rotated log is not.
    unpack = [f"{config.software.zstd}/bin/zstd", "-dcfq", str(log)]
    command = [f"{config.software.percona_toolkit}/bin/pt-query-digest", "--no-version-check"]
    with tempfile.TemporaryFile() as words, process.start(unpack, stdout=subprocess.PIPE, stderr=words) as source:
        assert source.stdout is not None
        with process.start(command, stdin=source.stdout, stdout=subprocess.PIPE, stderr=words) as child:
            source.stdout.close()  # so that zstd ends when its only reader does
            text = child.communicate()[0]
        ends = [(command, child.returncode), (unpack, source.wait())]
        words.seek(0)
        said = words.read()
    for program, code in ends:
        if code != 0:
            raise process.failure(program, f"sum up {log}", code, said)
    process.write_atomically(report, text)


if __name__ == "__main__":
    raise SystemExit(main())
