# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO clusters: their programs' arguments, how they stand, and what may be done with them."""
