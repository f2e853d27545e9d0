# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-caucased: the partition's own certificate authority, or with an external one a process that waits."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.mariadb import config
from slapos.recipe.erp5.tls import caucased


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 it cannot serve (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog="mariadb-caucased", description="Run the partition's certificate authority.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = Path(parser.parse_args(arguments).config).absolute()
    return process.program(lambda: caucased.run(path, config.load))


if __name__ == "__main__":
    raise SystemExit(main())
