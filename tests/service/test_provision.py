# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters that come later create what is new; what people changed, removed or made by other means stays theirs."""

import dataclasses
import subprocess
from typing import Any

import pytest

from slapos.recipe.erp5.mariadb import sql, sql_memory
from slapos.recipe.erp5.mariadb.config import Config, Database
from slapos.recipe.erp5.mariadb.start import STATE
from tests.service import servers
from tests.service.servers import Service

NEW = Database("new_database", "new_user", "new secret")


def process_again(service: Service, *more: Database, **changes: Any) -> Config:
    """What processing the partition with other parameters does: its files are written anew."""
    databases = (*service.config.databases, *more)
    service.config = dataclasses.replace(service.config, databases=databases, **changes)
    servers.write_config(service.config)
    return service.config


def provision(config: Config, *options: str) -> tuple[int, list[str]]:
    """Run the program; its exit code, and what it said, without times."""
    command = [str(config.path("bin", "mariadb-provision")), "--config", str(config.path("etc", "mariadb.json"))]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    return done.returncode, [line.split(" ", 2)[2] for line in done.stderr.splitlines()]


def people_change(config: Config) -> None:
    """What administrators do in SQL over the years."""
    for statement in (
        "SET PASSWORD FOR erp5_user@localhost = PASSWORD('changed by people')",
        "SET PASSWORD FOR erp5_user@'%.%.%.%' = PASSWORD('changed by people')",
        "DROP USER testuser_0@localhost, testuser_0@'%.%.%.%'",
        "GRANT SELECT ON mysql.* TO erp5_user@localhost",
        "REVOKE PROCESS ON *.* FROM erp5_user@'%.%.%.%'",
        "CREATE USER extra@localhost IDENTIFIED BY 'extra'",
        "CREATE DATABASE extra",
        "DROP DATABASE erp5_test_0",
        "ALTER DATABASE erp5 CHARACTER SET latin1",
    ):
        servers.query(config, statement)


def everything(config: Config) -> tuple:
    """All accounts with their grants, and all databases."""
    schemata = "SELECT schema_name, default_collation_name FROM information_schema.schemata ORDER BY 1"
    return servers.accounts(config), servers.query(config, schemata)


# ---- people's changes


def test_what_people_changed_survives_restarts_provision_and_new_parameters(complete):
    complete.run()
    people_change(complete.config)
    changed = everything(complete.config)
    complete.restart()
    assert provision(complete.config)[0] == 0
    assert everything(complete.config) == changed
    config = process_again(complete, NEW)
    complete.restart()
    accounts, schemata = everything(config)
    assert ("new_database", "utf8mb4_general_ci") in schemata
    assert {name for name in accounts if name not in changed[0]} == {"new_user@localhost", "new_user@%.%.%.%"}
    assert changed[0].items() <= accounts.items()
    assert set(changed[1]) <= set(schemata)
    servers.login(config, "erp5_user", "changed by people", "erp5").close()
    servers.login(config, "new_user", "new secret", "new_database").close()


def test_another_password_in_the_parameters_changes_nothing(complete):
    complete.run()
    before = everything(complete.config)
    (first,) = complete.config.databases
    complete.config = dataclasses.replace(complete.config, databases=())
    process_again(complete, dataclasses.replace(first, password="another"))
    complete.restart()
    assert provision(complete.config) == (0, ["provision: nothing to create"])
    assert everything(complete.config) == before


def test_removed_things_are_named_and_come_back_only_when_asked(complete):
    complete.run()
    original = everything(complete.config)
    for statement in (
        "DROP USER testuser_0@localhost, testuser_0@'%.%.%.%'",
        "DROP DATABASE erp5_test_0",
        "REVOKE PROCESS ON *.* FROM erp5_user@'%.%.%.%'",
    ):
        servers.query(complete.config, statement)
    assert provision(complete.config) == (
        0,
        [
            "provision: left alone, as it is known here and people may have removed it: grant PROCESS TO"
            " erp5_user@%.%.%.%, database erp5_test_0, account testuser_0@localhost, account testuser_0@%.%.%.%"
            " (bin/mariadb-provision --include-removed creates it)"
        ],
    )
    code, lines = provision(complete.config, "--include-removed")
    assert (code, lines[0], len(lines)) == (0, "step: provision: created grant PROCESS TO erp5_user@%.%.%.%", 6)
    assert everything(complete.config) == original
    servers.login(complete.config, "testuser_0", "test-secret-0", "erp5_test_0").close()


# ---- new entries


def test_the_program_creates_what_is_new_without_a_restart(complete):
    complete.run()
    before = servers.query(complete.config, "SELECT @@gtid_binlog_pos")
    config = process_again(complete, NEW)
    code, lines = provision(config)
    assert code == 0
    assert lines == [
        "step: provision: created database new_database",
        "step: provision: created account new_user@localhost",
        "step: provision: created grant ALL ON new_database TO new_user@localhost",
        "step: provision: created account new_user@%.%.%.%",
        "step: provision: created grant ALL ON new_database TO new_user@%.%.%.%",
    ]
    assert servers.query(config, "SELECT @@gtid_binlog_pos") != before  # replicas get it too
    assert provision(config) == (0, ["provision: nothing to create"])


def test_a_new_database_for_a_known_user_gets_the_grant_alone(complete):
    complete.run()
    servers.query(complete.config, "SET PASSWORD FOR erp5_user@'%.%.%.%' = PASSWORD('changed by people')")
    config = process_again(complete, Database("second", "erp5_user", servers.NASTY_PASSWORD))
    complete.restart()
    servers.login(config, "erp5_user", "changed by people", "second").close()


def test_a_new_database_for_a_dropped_user_does_not_bring_the_user_back(complete):
    complete.run()
    servers.query(complete.config, "DROP USER testuser_0@localhost, testuser_0@'%.%.%.%'")
    config = process_again(complete, Database("second", "testuser_0", "test-secret-0"))
    complete.restart()
    assert ("second",) in servers.query(config, "SHOW DATABASES")
    assert not [name for name in servers.accounts(config) if name.startswith("testuser_0")]
    assert "warning" not in complete.log()


def test_ipv6_asked_for_later_gives_users_an_account_with_their_present_password(complete):
    complete.run()
    servers.query(complete.config, "SET PASSWORD FOR erp5_user@'%.%.%.%' = PASSWORD('changed by people')")
    old = complete.config.network
    config = process_again(complete, network=dataclasses.replace(old, ipv6="::1"))
    complete.restart()
    accounts = servers.accounts(config)
    assert "REQUIRE SSL" in accounts["erp5_user@%:%"]
    assert sql.password_hash("changed by people") in accounts["erp5_user@%:%"]
    assert sql.password_hash("test-secret-0") in accounts["testuser_0@%:%"]


def test_what_exists_already_is_known_from_then_on(complete):
    """A database that people made before it got into the parameters: used, and not made again when they drop it."""
    complete.run()
    servers.query(complete.config, "CREATE DATABASE new_database CHARACTER SET latin1")
    config = process_again(complete, NEW)
    complete.restart()
    servers.login(config, "new_user", "new secret", "new_database").close()
    servers.query(config, "DROP DATABASE new_database")
    code, (line,) = provision(config)
    assert (code, "people may have removed it: database new_database (bin" in line) == (0, True)


def test_interrupted_between_account_and_grant_it_is_completed(complete):
    """The memory knows each grant of its own."""
    complete.run()
    config = process_again(complete, NEW)
    with servers.administrator(config) as connection:
        sql.create_database(connection, "new_database", "utf8mb4", "utf8mb4_general_ci")
        sql.create_account(connection, sql.Account("new_user", "localhost"), sql.password_hash("new secret"), False)
    assert provision(config)[0] == 0
    for host in ("localhost", ""):
        servers.login(config, "new_user", "new secret", "new_database", host).close()


# ---- where it does nothing


def test_without_a_server_it_says_what_to_do(complete):
    code, (line,) = provision(complete.config)
    assert code == 1
    assert line == (
        "error: cannot connect to MariaDB: Can't connect to MySQL server on 'localhost' ([Errno 2] No such file or"
        " directory) (2003): start the mariadbd service, which provisions by itself, or try again once it answers"
    )


@pytest.mark.parametrize(
    "statement",
    ["SET GLOBAL read_only = ON", "CHANGE MASTER TO master_host = '127.0.0.1', master_port = 1, master_user = 'x'"],
)
def test_on_anything_but_a_writable_primary_it_changes_nothing(complete, statement):
    complete.run()
    servers.query(complete.config, statement)
    before = servers.query(complete.config, "SELECT @@gtid_binlog_pos")
    config = process_again(complete, NEW)
    message = "provision: nothing is created here: a replica gets databases and users from its primary"
    assert provision(config, "--include-removed") == (0, [message])
    assert servers.query(config, "SELECT @@gtid_binlog_pos") == before


def test_a_promoted_replica_creates_what_was_asked_for_meanwhile(complete):
    complete.run()
    change = "CHANGE MASTER TO master_host = '127.0.0.1', master_port = 1, master_user = 'x'"
    servers.query(complete.config, change)
    config = process_again(complete, NEW)
    complete.restart()
    assert ("new_database",) not in servers.query(config, "SHOW DATABASES")
    servers.query(config, "STOP SLAVE")
    servers.query(config, "RESET SLAVE ALL")
    complete.restart()
    assert ("new_database",) in servers.query(config, "SHOW DATABASES")


def test_two_at_once_are_refused(complete):
    complete.run()
    with servers.administrator(complete.config) as connection, sql_memory.provisioning(connection) as held:
        assert held
        code, lines = provision(complete.config)
    assert (code, lines) == (1, ["error: another provision is running on this server: wait for its end"])


def test_a_failing_provision_does_not_keep_production_down(complete):
    complete.run()
    process_again(complete, Database("x" * 64, "u" * 80, "p"), Database("y", "v" * 80, "p"))
    complete.config = dataclasses.replace(complete.config, collation="latin1_bin")
    servers.write_json(complete.config)
    complete.restart()
    assert (
        "warning: MariaDB refused CREATE DATABASE: COLLATION 'latin1_bin' is not valid for CHARACTER SET 'utf8mb4'"
        " (1253); the service starts without it, and the next start tries again"
    ) in complete.log()
    complete.config = dataclasses.replace(complete.config, collation="utf8mb4_bin")
    servers.write_json(complete.config)
    complete.restart()
    assert ("y",) in servers.query(complete.config, "SHOW DATABASES")


def test_a_list_that_cannot_be_served_does_not_keep_production_down(complete):
    """Processing refuses it first; whatever gets past that is a warning, not an outage."""
    process_again(complete, complete.config.databases[0])
    complete.run()
    assert (
        "warning: database-list has the database 'erp5' twice: give each entry a name of its own; the service starts"
        " without it, and the next start tries again"
    ) in complete.log()


# ---- databases made by other means


def without_ours(state: tuple) -> tuple:
    """All but the administration account and the memory, which adoption adds."""
    accounts, schemata = state
    kept = {name: grants for name, grants in accounts.items() if not name.startswith("slapos_administrator@")}
    return kept, [row for row in schemata if row[0] != "slapos"]


def test_a_plain_database_is_not_touched(service):
    """mariadb-install-db alone, with its anonymous accounts and test database, and things of its owner."""
    config = servers.install_plainly(service.config)
    seed = config.path("etc", "seed.sql")
    seed.write_text(
        "CREATE DATABASE owned;\nCREATE TABLE owned.t (a INT);\nINSERT INTO owned.t VALUES (42);\n"
        "CREATE USER owner@'%' IDENTIFIED BY 'owner secret';\nGRANT ALL ON owned.* TO owner@'%';\n"
        "CREATE USER watcher@localhost IDENTIFIED BY 'watcher secret';\nGRANT ALL ON *.* TO watcher@localhost;\n"
    )
    service.arguments = (f"--init-file={seed}",)
    service.run()
    service.arguments = ()
    with servers.login(config, "owner", "owner secret") as connection:
        assert sql.execute(connection, "SELECT a FROM owned.t") == [(42,)]
    before = without_ours(everything(config))
    assert "@localhost" in before[0]
    assert ("test", "utf8mb4_general_ci") in before[1] or ("test", "latin1_swedish_ci") in before[1]
    assert not [name for name in before[0] if name.startswith(("erp5_user", "replication_user"))]
    service.restart()
    process_again(service, NEW)
    service.restart()
    accounts, schemata = without_ours(everything(config))
    assert before[0].items() <= accounts.items()
    assert set(accounts) - set(before[0]) == {"new_user@localhost", "new_user@%.%.%.%"}  # asked for since: created
    assert set(schemata) - set(before[1]) == {("new_database", "utf8mb4_general_ci")}
    assert "provision: this database was made by other means: what is requested now counts as known" in service.log()
    assert "left alone, as it is known here and people may have removed it: account replication_user@" in service.log()
    assert provision(service.config, "--include-removed")[0] == 0
    servers.login(config, "erp5_user", servers.NASTY_PASSWORD, "erp5").close()


def test_a_complete_database_without_any_mark_is_not_touched(complete):
    complete.run()
    people_change(complete.config)
    before = without_ours(everything(complete.config))
    servers.query(complete.config, "DROP DATABASE slapos")
    config = complete.config
    complete.end()
    for path in (config.data_directory / STATE, config.data_directory / "mysql_upgrade_info"):
        path.unlink()
    config.path("srv", "mariadb.lock").unlink()
    for leftover in config.path("var", "run").rglob("*"):
        if leftover.is_file():
            leftover.unlink()
    complete.run()
    assert without_ours(everything(config)) == before
    assert "step: initialise" not in complete.log()
    assert "step: on_creation" not in complete.log()
