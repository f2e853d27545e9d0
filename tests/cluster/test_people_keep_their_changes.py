# SPDX-License-Identifier: GPL-2.0-or-later
"""What people change in SQL stays as they left it, through restarts, reprocessing and new parameters."""

import contextlib

import pymysql
import pytest

from tests.cluster.node import connect, eventually


def test_changes_made_in_sql_survive_restart_reprocessing_and_a_new_database(node, first):
    parameters = first.parameters
    url = first.published["database-list"][0]
    test_url = first.published["test-database-list"][0]
    first.sql(
        "SET PASSWORD FOR erp5@'%.%.%.%' = PASSWORD('changed by hand')",
        "DROP USER testuser_0@'%.%.%.%', testuser_0@localhost",
        "GRANT SELECT ON mysql.* TO testuser_1@localhost",
    )
    added = {"name": "added", "user": "added"}
    first.request(parameters | {"database-list": [*parameters["database-list"], added]})
    pid = first.pid()
    node.process()
    assert node.slapos("supervisorctl", "restart", f"{first.path.name}:*").returncode == 0
    eventually(lambda: (first.path / "var/run/mariadb.pid").exists() and first.pid() != pid, "mariadbd restarted")
    eventually(
        lambda: only_red(first) == ["mariadb-accounts"], "a promise, and no other, tells of the changed password"
    )
    assert first.program("mariadb-provision").returncode == 0
    node.process("--all")
    failed, message = first.promises()["mariadb-accounts"]
    assert failed and message.startswith("erp5 cannot use erp5 as database-list has it published (Access denied ")

    with pytest.raises(pymysql.err.OperationalError, match="1045"):
        connect(url)
    changed = url.split("@")[0].rsplit(":", 1)[0] + ":changed%20by%20hand@" + url.split("@")[1]
    connect(changed).close()
    with pytest.raises(pymysql.err.OperationalError, match="1045"):
        connect(test_url)
    assert first.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'testuser_0'") == ((0,),)
    grants = [row[0] for row in first.sql("SHOW GRANTS FOR testuser_1@localhost")]
    assert any("SELECT ON `mysql`.*" in grant for grant in grants)
    with contextlib.closing(connect(first.published["database-list"][1])) as db:
        db.cursor().execute("CREATE TABLE IF NOT EXISTS proof (x INT)")

    # Put things back, for the scenarios that share this instance: what was removed comes back only on purpose.
    assert first.program("mariadb-provision", "--include-removed").returncode == 0
    first.sql(f"SET PASSWORD FOR erp5@'%.%.%.%' = PASSWORD({quoted_password(first)})")
    connect(url).close()
    connect(test_url).close()
    first.wait_until_green()


def only_red(instance):
    return [title for title, (failed, _) in instance.promises().items() if failed]


def quoted_password(instance):
    return pymysql.converters.escape_string(instance.parameters["database-list"][0]["password"]).join("''")
