# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-revoke-certificate: shuts out whoever has a certificate of our authority, connected or not."""

import argparse
from collections.abc import Sequence

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.mariadb import config
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import revoke


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 it is revoked and in force, 1 it is not (one sentence on stderr), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="mariadb-revoke-certificate", description="Revoke a replica's certificate.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    parser.add_argument(
        "certificate", help="its serial number, as the log of mariadb-control has it, or a PEM file that holds it"
    )
    options = parser.parse_args(arguments)
    return process.program(lambda: revoke.revoke(Certificates(config.load(options.config)), options.certificate))


if __name__ == "__main__":
    raise SystemExit(main())
