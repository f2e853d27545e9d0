# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounts and grants of a replica are its primary's, to the last character, and what it publishes works."""

import contextlib

import pymysql
import pytest

from tests.cluster.node import connect
from tests.cluster.replicas import APPLICATION, accounts, replica


@pytest.mark.parametrize("kind", ["live", "physical", "dump"])
def test_accounts_are_the_primarys(node, source, kind):
    with replica(node, f"same-{kind}", source, kind, more={"database-list": [APPLICATION]}) as copy:
        assert accounts(copy) == accounts(source)
        (url,) = copy.published["database-list"]
        with contextlib.closing(connect(url)) as db, pytest.raises(pymysql.err.OperationalError, match="1290"):
            db.cursor().execute("CREATE TABLE errant (i INT)")
        # An account that is changed on the primary is changed here, and nothing of it was made here.
        source.sql("ALTER USER someone@localhost IDENTIFIED BY 'another'")
        copy.wait_for_row_of(source)
        assert accounts(copy) == accounts(source)
        assert copy.sql("SELECT @@gtid_binlog_pos = @@gtid_slave_pos") == ((1,),)
