# SPDX-License-Identifier: GPL-2.0-or-later
"""Zope: its configuration, its start, and what answers in its place while its database does not serve."""
