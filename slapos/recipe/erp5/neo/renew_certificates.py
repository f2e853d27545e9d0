# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-renew-certificates: renews a cluster's own certificates, and what it trusts of other clusters."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.neo import tls


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all is as it should be, 1 something is not (each in one sentence), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="neo-renew-certificates", description="Renew what is due, now.")
    parser.add_argument("--config", required=True, help="the cluster's etc/neo.json")
    path = Path(parser.parse_args(arguments).config)
    return process.program(lambda: tls.renew_cluster(tls.load(path)))


if __name__ == "__main__":
    raise SystemExit(main())
