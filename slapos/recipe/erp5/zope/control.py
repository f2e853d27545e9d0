# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zope-control: the one Python process of a partition of Zopes that answers on a socket, and rotates logs."""

import sys

from slapos.recipe.erp5.control import main as control
from slapos.recipe.erp5.zope.service import SERVICE


def main() -> int:
    """Runs until SIGTERM."""
    return control.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
