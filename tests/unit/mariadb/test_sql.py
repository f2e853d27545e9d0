# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the SQL can be told without a server: quoting, hashing, and errors that give nothing away."""

import pymysql
import pytest

from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.sql import Account


@pytest.mark.parametrize(
    "name, quoted", [("erp5", "`erp5`"), ("a`b", "`a``b`"), ("a'b\"c d", "`a'b\"c d`"), ("50%", "`50%`"), ("", "``")]
)
def test_identifier(name, quoted):
    assert sql.identifier(name) == quoted


def test_pattern_escapes_what_grant_would_match():
    assert sql.pattern("erp5_test_0") == r"`erp5\_test\_0`"
    assert sql.pattern("50%`") == r"`50\%```"
    assert sql._unescaped(sql._escaped("a_b%c")) == "a_b%c"


def test_password_hash():
    """The example of MariaDB's documentation of PASSWORD()."""
    assert sql.password_hash("notagoodpwd") == "*3A70EE9FC6594F88CE9E959CD51C5A1C002DC937"
    assert sql.password_hash("é") == sql.password_hash("\u00e9") != sql.password_hash("e")


class Refusing:
    """A connection whose statements all fail."""

    def __init__(self, *error: object) -> None:
        self.error = pymysql.err.OperationalError(*error)

    def cursor(self, kind):
        raise self.error


def test_an_error_shows_the_statement_s_first_words_only():
    connection = Refusing(1396, "Operation CREATE USER failed")
    with pytest.raises(ServerError) as raised:
        sql.create_account(connection, Account("u", "h"), "*SECRET", "")
    assert str(raised.value) == "MariaDB refused CREATE USER: Operation CREATE USER failed (1396)"
    assert not isinstance(raised.value, sql.AccessDenied)


@pytest.mark.parametrize("number", [1045, 1698, 1820, 1862, 4151])
def test_a_refused_account_is_told_apart(number):
    with pytest.raises(sql.AccessDenied, match=rf"^MariaDB refused SELECT VERSION\(\): no \({number}\)$"):
        sql.version(Refusing(number, "no"))


def test_no_server(tmp_path):
    defaults = tmp_path / "mariadb.cnf"
    defaults.write_text(f"[client]\nuser = x\npassword = secret\nsocket = {tmp_path}/none\n")
    with pytest.raises(ServerError, match=r"^cannot connect to MariaDB: .*No such file.* \(2003\)$"):
        sql.connect(defaults)


def test_a_broken_defaults_file_does_not_show_its_lines(tmp_path):
    defaults = tmp_path / "mariadb.cnf"
    defaults.write_text("[client]\npassword = secret\n[client]\nsecret line\n")
    with pytest.raises(ConfigurationError) as raised:
        sql.connect(defaults)
    assert str(raised.value) == (
        f"{defaults} cannot be read (DuplicateSectionError): process the partition to write it again"
    )


def test_the_init_file_is_unlogged_and_has_one_statement_a_line():
    first, *others = sql.administrator_statements(Account("a", "localhost"), "*HASH").splitlines()
    assert first == "SET SESSION sql_log_bin = 0;"
    assert others == [
        "CREATE OR REPLACE USER 'a'@'localhost' IDENTIFIED BY PASSWORD '*HASH';",
        "GRANT ALL PRIVILEGES ON *.* TO 'a'@'localhost' WITH GRANT OPTION;",
    ]


def test_a_script_is_split_at_line_ends(monkeypatch):
    executed = []
    monkeypatch.setattr(sql, "execute", lambda connection, statement: executed.append(statement))
    sql.execute_script(None, "SET @a = 'x;y';\n\nSELECT\n  1;\nSELECT 2;")
    assert executed == ["SET @a = 'x;y'", "SELECT\n  1", "SELECT 2"]
