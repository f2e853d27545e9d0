# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-caucased: a cluster's own certificate authority, and the exchange of certificates for a secret."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.tls import caucased


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 it cannot serve (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog="neo-caucased", description="Run the cluster's certificate authority.")
    parser.add_argument("--config", required=True, help="the cluster's etc/neo.json")
    path = Path(parser.parse_args(arguments).config).absolute()
    return process.program(lambda: caucased.run(path, tls.load, with_exchange=True))


if __name__ == "__main__":
    raise SystemExit(main())
