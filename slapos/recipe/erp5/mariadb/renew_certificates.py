# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-renew-certificates: gets, renews and loads the partition's certificates; the scheduler runs it."""

import argparse
from collections.abc import Sequence

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.mariadb import config, replica
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import renew


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all is as it should be, 1 something is not (each in one sentence), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="mariadb-renew-certificates", description="Renew what is due, now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: renew.one_at_a_time(Certificates(replica.effective(config.load(path)))))


if __name__ == "__main__":
    raise SystemExit(main())
