# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-revoke-certificate: nobody gets into the cluster any more with a certificate of its authority."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.tls import revoke


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 it is revoked, 1 it is not (one sentence on stderr), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="neo-revoke-certificate", description="Revoke a certificate.")
    parser.add_argument("--config", required=True, help="the cluster's etc/neo.json")
    parser.add_argument(
        "certificate", help="its serial number, as the log of neo-caucased has it, or a PEM file that holds it"
    )
    options = parser.parse_args(arguments)
    service = tls.Certificates
    return process.program(lambda: revoke.revoke(service(tls.load(Path(options.config))), options.certificate))


if __name__ == "__main__":
    raise SystemExit(main())
