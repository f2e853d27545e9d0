# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zeo-control: the one Python process of a ZEO partition, which makes backups and answers on a socket."""

import sys

from slapos.recipe.erp5.control import main as control
from slapos.recipe.erp5.zeo.service import SERVICE


def main() -> int:
    """Runs until SIGTERM."""
    return control.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
