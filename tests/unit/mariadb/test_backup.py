# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump program without a server: what it asks mariadb-dump for."""

from slapos.recipe.erp5.mariadb import backup


def test_no_option_carries_a_secret_or_writes_to_the_server():
    allowed = {
        *("--all-databases", "--single-transaction", "--gtid", "--master-data=1", "--routines", "--events"),
        *("--triggers", "--hex-blob", "--flush-privileges", "--default-character-set=utf8mb4"),
        "--max-allowed-packet=1G",
    }
    assert set(backup.OPTIONS) == allowed
