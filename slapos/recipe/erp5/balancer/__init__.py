# SPDX-License-Identifier: GPL-2.0-or-later
"""haproxy in front of the Zopes: how it runs, takes over a new configuration, and stands."""
