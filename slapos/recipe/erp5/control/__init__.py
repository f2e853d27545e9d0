# SPDX-License-Identifier: GPL-2.0-or-later
"""The one Python process that a partition keeps: its scheduler (later the control page and the signer as well)."""
