# SPDX-License-Identifier: GPL-2.0-or-later
"""ZEO at run time: the server of a partition, its backups by repozo, and what its promises and its page tell."""
