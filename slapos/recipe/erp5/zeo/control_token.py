# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zeo-control-token: shows the URL of the control page, and replaces its token."""

import sys

from slapos.recipe.erp5.control import token
from slapos.recipe.erp5.zeo.service import SERVICE


def main() -> int:
    """Shows, or replaces."""
    return token.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
