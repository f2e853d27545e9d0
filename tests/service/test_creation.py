# SPDX-License-Identifier: GPL-2.0-or-later
"""What creation makes: accounts that work and no others, databases, and a binary log from which a replica can begin."""

import re
import stat
import subprocess
from pathlib import Path

import pymysql
import pytest

from slapos.recipe.erp5.mariadb import private_server, sql, sql_memory, sql_replication
from slapos.recipe.erp5.mariadb.config import Config, Database, Network
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers
from tests.service.replication_fixtures import address

REFUSED = 1045
DENIED_DATABASE = 1044


def refused(function, *arguments, **options) -> int:
    """The number of the server's error."""
    with pytest.raises(pymysql.MySQLError) as raised:
        function(*arguments, **options)
    return raised.value.args[0]


# ---- accounts


def test_the_accounts_are_these_and_no_others(primary):
    assert set(servers.accounts(primary)) == {
        "erp5_user@%.%.%.%",
        "erp5_user@localhost",
        "mariadb.sys@localhost",
        "replication_user@%.%.%.%",
        "root@localhost",
        "slapos_administrator@localhost",
        "testuser_0@%.%.%.%",
        "testuser_0@localhost",
    }


def test_root_has_the_socket_alone_and_nobody_has_an_empty_password(primary):
    found = servers.accounts(primary)
    assert found["root@localhost"].startswith("CREATE USER `root`@`localhost` IDENTIFIED VIA unix_socket\n")
    for account, statement in found.items():
        assert re.search(r"'\*[0-9A-F]{40}'|unix_socket|ACCOUNT LOCK", statement), account
    for user in ("root", "", "nobody", "erp5_user", "slapos_administrator"):
        # For a user that it does not know the server plays out any of its plugins, unix_socket with its 1698 too.
        assert refused(servers.login, primary, user, "", host="localhost") in (REFUSED, 1698)
        assert refused(servers.login, primary, user, "") in (REFUSED, 1698)


def test_no_role_nor_anonymous_account_nor_test_database_is_left(primary):
    strange = "SELECT User FROM mysql.global_priv WHERE User = '' OR JSON_VALUE(Priv, '$.is_role')"
    assert servers.query(primary, strange) == []
    assert servers.query(primary, "SELECT Db, User FROM mysql.db WHERE User = ''") == []
    names = {name for (name,) in servers.query(primary, "SHOW DATABASES")}
    assert names == {"erp5", "erp5_test_0", "information_schema", "mysql", "performance_schema", "slapos", "sys"}


@pytest.mark.parametrize("host", ["localhost", ""])
def test_the_user_logs_in_with_an_awkward_password_and_owns_its_database(primary, host):
    with servers.login(primary, "erp5_user", servers.NASTY_PASSWORD, "erp5", host) as connection:
        sql.execute(connection, "CREATE TABLE t (a INT)")
        sql.execute(connection, "DROP TABLE t")
        assert sql.execute(connection, "SHOW PROCESSLIST")
        for forbidden in ("USE mysql", "USE erp5_test_0", "CREATE DATABASE other", "USE slapos"):
            with pytest.raises(sql.ServerError, match=rf"\({DENIED_DATABASE}\)"):
                sql.execute(connection, forbidden)


def test_the_real_client_logs_in_with_the_awkward_password(primary, tmp_path):
    password = servers.NASTY_PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    options = tmp_path / "client.cnf"
    options.write_text(
        f'[client]\nuser=erp5_user\npassword="{password}"\nhost=127.0.0.1\nport={primary.network.port}\n'
    )
    command = [primary.program("mariadb"), f"--defaults-file={options}", "-N", "-e", "SELECT CURRENT_USER()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("erp5_user@%.%.%.%\n", 0), done.stderr


def test_a_grant_does_not_match_databases_with_similar_names(primary):
    """`_` and `%` are patterns in GRANT: erp5_test_0 must not be erp5xtest_0 as well."""
    with servers.administrator(primary) as connection:
        sql.create_database(connection, "erp5xtest_0", "utf8mb4", "utf8mb4_general_ci")
        try:
            assert refused(servers.login, primary, "testuser_0", "test-secret-0", "erp5xtest_0") == DENIED_DATABASE
            servers.login(primary, "testuser_0", "test-secret-0", "erp5_test_0").close()
        finally:
            sql.execute(connection, "DROP DATABASE erp5xtest_0")


def test_the_replication_account_can_replicate_and_nothing_else(primary):
    _, *grants = servers.accounts(primary)["replication_user@%.%.%.%"].splitlines()
    assert [grant.partition(" TO ")[0] for grant in grants] == ["GRANT REPLICATION SLAVE ON *.*"]


def test_names_and_passwords_of_all_kinds_are_served(make_partition):
    entries = (
        Database('it`s 100% "odd"_$é', 'o\'dd "user" é %', "p"),
        Database("second", "shared", "pass word"),
        Database("third", "shared", "pass word", with_process_privilege=True),
    )
    config = make_partition(databases=entries, test_databases=())
    with servers.running(config):
        for entry in entries:
            for host in ("localhost", ""):
                servers.login(config, entry.user, entry.password, entry.name, host).close()
        assert refused(servers.login, config, "shared", "pass word", entries[0].name) == DENIED_DATABASE


def test_databases_have_the_requested_character_set(make_partition):
    config = make_partition(character_set="latin1", collation="latin1_german1_ci", test_databases=())
    with servers.running(config):
        statement = "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"
        assert servers.query(config, f"{statement} WHERE schema_name = 'erp5'") == [("latin1", "latin1_german1_ci")]


def test_ipv6_accounts_exist_only_with_ipv6_and_require_tls(make_partition):
    port = servers.free_port()
    others = (servers.free_port() for _ in range(3))
    config = make_partition(network=Network("127.0.0.1", "::1", port, *others))
    with servers.running(config):
        found = servers.accounts(config)
        for account in ("erp5_user@%:%", "testuser_0@%:%"):
            assert "REQUIRE SSL" in found[account]
            assert "REQUIRE" not in found[account.replace("%:%", "%.%.%.%")]
        for host in ("%:%", "%.%.%.%"):
            assert "REQUIRE SUBJECT '/CN=slapos-replication-client'" in found[f"replication_user@{host}"]
        assert refused(servers.login, config, "erp5_user", servers.NASTY_PASSWORD, host="::1") == REFUSED
        servers.login(config, "erp5_user", servers.NASTY_PASSWORD, "erp5").close()


# ---- the binary log


def events(config: Config) -> list[str]:
    """What the first binary log says was executed, one text an event."""
    return [row[5] for row in servers.query(config, "SHOW BINLOG EVENTS IN 'binlog.000001'") if row[2] == "Query"]


def test_the_binary_log_has_what_replicas_need_and_nothing_else(primary):
    found = events(primary)
    assert found[0] == "CREATE DATABASE IF NOT EXISTS slapos CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    assert sum(event.startswith("CREATE DATABASE") for event in found) == 3
    assert sum("CREATE USER" in event for event in found) == 5
    words = ("slapos_administrator", "root", "mroonga", "time_zone", "ALTER USER", "DROP USER")
    assert [event for event in found if any(word in event for word in words)] == []


def test_no_password_is_in_the_binary_log_nor_in_any_other_log_or_argv(config, service):
    """Accounts are made from hashes. The argv of every process is looked at all along."""
    secrets = [
        *(getattr(config.secrets, name).encode() for name in ("administrator_password", "replication_password")),
        *(entry.password.encode() for entry in (*config.databases, *config.test_databases)),
    ]
    service.start()
    seen = set()

    def look() -> bool:
        for pid in service.group():
            try:
                seen.add(Path("/proc", str(pid), "cmdline").read_bytes())
            except OSError:  # it has ended meanwhile
                continue
        return service.answers()

    servers.wait_for(look, "the server")
    service.end()
    assert any(b"mariadb-tzinfo-to-sql" in words or b"install-db" in words for words in seen)
    assert [words for words in seen if any(secret in words for secret in secrets)] == []
    logs = [*config.data_directory.glob("binlog.*"), *config.path("var").rglob("*.log")]
    assert len(logs) >= 4
    for path in logs:
        assert not any(secret in path.read_bytes() for secret in secrets), path


def test_no_file_can_be_read_by_others(primary):
    for path in (primary.data_directory, primary.path("var", "run", "private-mariadb")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not list(primary.path("var", "run").rglob("init.sql"))


def test_a_replica_begins_from_the_binary_log(primary, make_partition):
    """An empty server that replays it ends with the same databases and users, and remembers what was created."""
    replica = make_partition(databases=(), test_databases=())
    with servers.running(servers.install_plainly(replica)), servers.administrator(replica) as connection:
        # The adoption of a plain database wrote its own memory first: begin where the primary does.
        sql.execute(connection, "DROP DATABASE slapos")
        sql.execute(connection, "RESET MASTER")
        sql_replication.change_primary(connection, address(primary), Files(primary.tls))
        sql.execute(connection, "START SLAVE")
        goal = servers.query(primary, "SELECT @@gtid_binlog_pos")
        servers.wait_for(lambda: sql.execute(connection, "SELECT @@gtid_slave_pos") == goal, "the replica")
        (status,) = sql.rows(connection, "SHOW ALL SLAVES STATUS")
        assert (status["Slave_SQL_Running"], status["Last_Error"]) == ("Yes", "")
        own = ("root@localhost", "slapos_administrator@localhost", "mariadb.sys@localhost")
        theirs = {name: grants for name, grants in servers.accounts(primary).items() if name not in own}
        assert theirs.items() <= servers.accounts(replica).items()
        with servers.administrator(primary) as source:
            assert sql_memory.remembered(connection) == sql_memory.remembered(source)
        servers.login(replica, "erp5_user", servers.NASTY_PASSWORD, "erp5").close()


# ---- Mroonga


def test_mroonga_finds_japanese(primary):
    with servers.administrator(primary) as connection:
        sql.execute(connection, "CREATE TABLE erp5_test_0.m (a TEXT, FULLTEXT (a)) ENGINE=Mroonga CHARSET=utf8mb4")
        try:
            sql.execute(connection, "INSERT INTO erp5_test_0.m VALUES ('全文検索エンジン'), ('something else')")
            search = "SELECT a FROM erp5_test_0.m WHERE MATCH (a) AGAINST ('検索' IN BOOLEAN MODE)"
            found = sql.execute(connection, search)
            assert found == [("全文検索エンジン",)]
            assert sql.execute(connection, "SELECT mroonga_escape('a(b')") == [(b"a\\(b",)]
        finally:
            sql.execute(connection, "DROP TABLE erp5_test_0.m")


def test_without_mroonga_there_is_none(make_partition):
    config = make_partition(mroonga=False, test_databases=())
    with servers.running(config), servers.administrator(config) as connection:
        assert not sql.has_mroonga(connection)


# ---- refusals


def test_a_bad_list_is_refused_before_anything_is_done(make_partition):
    twice = (Database("erp5", "a", "1"), Database("erp5", "b", "2"))
    service = servers.Service(make_partition(databases=twice))
    assert service.start().wait(servers.PATIENCE) == 1
    assert "database-list has the database 'erp5' twice: give each entry a name of its own" in service.log()
    assert "private server" not in service.log()


def test_a_private_server_that_cannot_start_says_why(config):
    config.data_directory.mkdir()
    message = r"a private MariaDB server did not start: .*Can't open and lock privilege tables.*; see .*/error.log"
    with pytest.raises(sql.ServerError, match=message), private_server.of(config, config.data_directory):
        pass
