# SPDX-License-Identifier: GPL-2.0-or-later
"""Decisions about a database, from snapshots alone."""

import dataclasses

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import decide, sql
from slapos.recipe.erp5.mariadb.config import Config, Database, Network, Replication
from slapos.recipe.erp5.mariadb.decide import Handled, Plan, Snapshot, World
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.tls import files
from tests.unit.mariadb import partition

ERP5 = Database("erp5", "user", "secret", with_process_privilege=True)
TEST = Database("erp5_test_0", "testuser_0", "other")
REPLICATION = {Account("replication_user", host) for host in (decide.IPV4, decide.IPV6)}
NOTHING = World(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


@pytest.fixture
def config(tmp_path) -> Config:
    return dataclasses.replace(partition.config(tmp_path), databases=(ERP5,), test_databases=(TEST,))


def with_ipv6(config: Config) -> Config:
    return dataclasses.replace(config, network=Network("127.0.0.1", "::1", 1, 2, 3, 4))


def names(items) -> list[str]:
    return [str(item) for item in items]


def world(items, remembered=True) -> World:
    """A server that has `items`, and remembers them."""
    grants = [item for item in items if item.kind == "grant"]
    return World(
        databases=frozenset(item.database for item in items if item.kind == "database"),
        accounts=frozenset(item.account for item in items if item.kind == "account"),
        database_grants=frozenset((item.database, item.account) for item in grants if item.database),
        global_grants=frozenset((item.privilege, item.account) for item in grants if not item.database),
        remembered=frozenset(item.key for item in items) if remembered else frozenset(),
    )


def without(world: World, *gone: str) -> World:
    """The same server after people dropped databases, or users with their grants."""
    return World(
        databases=frozenset(name for name in world.databases if name not in gone),
        accounts=frozenset(one for one in world.accounts if one.user not in gone),
        database_grants=frozenset(pair for pair in world.database_grants if pair[1].user not in gone),
        global_grants=frozenset(pair for pair in world.global_grants if pair[1].user not in gone),
        remembered=world.remembered,
    )


# ---- what is requested


def test_what_is_requested_in_the_order_of_creation(config):
    assert names(decide.requested(config)) == [
        "account replication_user@%.%.%.%",
        "grant REPLICATION SLAVE TO replication_user@%.%.%.%",
        "database erp5",
        "account user@localhost",
        "grant ALL ON erp5 TO user@localhost",
        "grant PROCESS TO user@localhost",
        "account user@%.%.%.%",
        "grant ALL ON erp5 TO user@%.%.%.%",
        "grant PROCESS TO user@%.%.%.%",
        "database erp5_test_0",
        "account testuser_0@localhost",
        "grant ALL ON erp5_test_0 TO testuser_0@localhost",
        "account testuser_0@%.%.%.%",
        "grant ALL ON erp5_test_0 TO testuser_0@%.%.%.%",
    ]


def test_with_ipv6_each_user_gets_one_more_account_that_requires_tls(config):
    more = {item for item in decide.requested(with_ipv6(config)) if item not in decide.requested(config)}
    accounts = {str(item.account): item.require for item in more if item.kind == "account"}
    assert accounts == {"user@%:%": "TLS", "testuser_0@%:%": "TLS", "replication_user@%:%": files.CLIENT_SUBJECT}


def test_the_replication_account_needs_a_certificate_of_the_one_subject_unless_told_otherwise(config):
    required = {item.name: item.require for item in decide.requested(config) if item.require}
    assert required == {"replication_user@%.%.%.%": "/CN=slapos-replication-client"}
    private = dataclasses.replace(with_ipv6(config), replicas_use_tls=False)
    required = {item.name: item.require for item in decide.requested(private) if item.account in REPLICATION}
    assert required == {
        "replication_user@%.%.%.%": "",
        "REPLICATION SLAVE TO replication_user@%.%.%.%": "",
        "replication_user@%:%": "/CN=slapos-replication-client",
        "REPLICATION SLAVE TO replication_user@%:%": "",
    }


def test_nothing_is_requested_for_an_entry_whose_password_is_not_known(config):
    """A replica publishes what works: it has databases and users from its primary, and not their passwords."""
    unknown = dataclasses.replace(config, databases=(Database("erp5", "user", ""), Database("more", "other", "")))
    assert not [name for name in names(decide.requested(unknown)) if "erp5 " in name or "more" in name]


def test_a_shared_user_is_requested_once(config):
    second = Database("second", "user", "secret")
    requested = names(decide.requested(dataclasses.replace(config, databases=(ERP5, second))))
    assert requested.count("account user@localhost") == 1
    assert "grant ALL ON second TO user@localhost" in requested
    assert len(requested) == len(set(requested))


def test_no_password_is_in_what_is_shown_or_kept(config):
    for item in decide.requested(config):
        assert "secret" not in repr(item)
        assert sql.password_hash("secret") not in repr(item)


ODD = "which the server keeps for itself or cannot store: choose another name"


@pytest.mark.parametrize(
    "entry, message",
    [
        (Database("erp5", "b", "x"), "database-list has the database 'erp5' twice: give each entry a name of its own"),
        (Database("", "b", "x"), f"database-list has a database named '', {ODD}"),
        (Database("a/b", "b", "x"), f"database-list has a database named 'a/b', {ODD}"),
        (Database("a.b", "b", "x"), f"database-list has a database named 'a.b', {ODD}"),
        (Database("space ", "b", "x"), f"database-list has a database named 'space ', {ODD}"),
        (Database("x" * 65, "b", "x"), f"database-list has a database named '{'x' * 65}', {ODD}"),
        *(
            (Database(name, "b", "x"), f"database-list has a database named {name!r}, {ODD}")
            for name in sorted(decide.RESERVED_DATABASES)
        ),
        *(
            (
                Database("a", user, "x"),
                f"database-list gives 'a' the user {user!r}, which the server keeps for itself or cannot store: choose"
                " another user",
            )
            for user in ("", "x" * 81, *sorted(decide.RESERVED_USERS))
        ),
        (
            Database("a", "user", "another"),
            "database-list gives the user 'user' one password for 'a' and another elsewhere: a user has one password,"
            " so give it once more or choose another user",
        ),
    ],
)
def test_what_cannot_be_served_is_refused(config, entry, message):
    with pytest.raises(ConfigurationError) as raised:
        decide.requested(dataclasses.replace(config, databases=(ERP5, entry)))
    assert str(raised.value) == message


def test_reserved_names_include_all_of_the_server_s_own():
    assert {"mysql", "information_schema", "performance_schema", "sys", "slapos"} == decide.RESERVED_DATABASES
    assert {"root", "mariadb.sys", "slapos_administrator", "replication_user"} <= decide.RESERVED_USERS


# ---- what to create


def test_all_is_created_on_an_empty_server(config):
    items = decide.requested(config)
    assert decide.plan(items, NOTHING) == Plan(create=items)


def test_nothing_is_done_when_all_is_there(config):
    items = decide.requested(config)
    assert decide.plan(items, world(items)) == Plan()


def test_what_exists_and_is_not_remembered_is_remembered_only(config):
    items = decide.requested(config)
    assert decide.plan(items, world(items, remembered=False)) == Plan(remember=items)


def test_what_is_new_is_created(config):
    items = decide.requested(config)
    before = decide.requested(dataclasses.replace(config, test_databases=()))
    plan = decide.plan(items, world(before))
    assert plan.create == items[len(before) :]
    assert plan.removed == plan.remember == ()


def test_what_people_removed_is_named_and_not_created(config):
    items = decide.requested(config)
    plan = decide.plan(items, without(world(items), "erp5_test_0", "user"))
    assert plan.create == ()
    assert names(plan.removed) == ["account user@localhost", "account user@%.%.%.%", "database erp5_test_0"]


def test_a_revoked_grant_is_named_and_not_given(config):
    items = decide.requested(config)
    revoked = dataclasses.replace(world(items), global_grants=frozenset())
    assert names(decide.plan(items, revoked).removed) == [
        "grant REPLICATION SLAVE TO replication_user@%.%.%.%",
        "grant PROCESS TO user@localhost",
        "grant PROCESS TO user@%.%.%.%",
    ]


def test_a_removed_user_does_not_return_by_another_host(config):
    before, items = decide.requested(config), decide.requested(with_ipv6(config))
    plan = decide.plan(items, without(world(before), "user"))
    assert {item.account.user for item in plan.create if item.account} == {"replication_user", "testuser_0"}
    assert "account user@%:%" in names(plan.removed)


def test_a_user_that_lost_one_host_is_still_a_user(config):
    items = decide.requested(config)
    gone = Account("user", "localhost")
    have = world(items)
    have = dataclasses.replace(have, accounts=have.accounts - {gone})
    plan = decide.plan(decide.requested(with_ipv6(config)), have)
    assert "account user@%:%" in names(plan.create)
    assert names(plan.removed) == ["account user@localhost"]


def test_removed_things_are_created_when_asked(config):
    items = decide.requested(config)
    plan = decide.plan(items, without(world(items), "user", "erp5"), include_removed=True)
    assert plan.removed == plan.remember == ()
    assert names(plan.create) == names(items)[2:9]


def test_a_new_account_takes_over_the_password_of_one_that_we_made(config):
    items = decide.requested(config)
    new = next(item for item in decide.requested(with_ipv6(config)) if str(item.account) == "user@%:%")
    assert decide.twin(new, world(items)) == Account("user", "%.%.%.%")
    assert decide.twin(new, world(items, remembered=False)) is None
    assert decide.twin(new, without(world(items), "user")) is None


# ---- starts

FILES = ("global_priv 1 1", "time_zone 1 1", "time_zone_name 1 1")
KNOWN = Handled(administrator="a", requested="r", zoneinfo="z", mroonga=True, replica=False, files=FILES)
SERVER = "10.11.19-MariaDB-0+deb12u1"


def start(data="10.11.19-MariaDB", before: Handled | None = KNOWN, server=SERVER, **now) -> decide.Start:
    return decide.start(Snapshot(server, data, before, dataclasses.replace(KNOWN, **now)))


def test_a_plain_restart_does_nothing():
    assert start() == decide.Start()


@pytest.mark.parametrize("data", ["10.11.2-MariaDB", "10.11.25-MariaDB"])
def test_within_a_series_there_is_nothing_to_upgrade(data):
    assert start(data) == decide.Start()


@pytest.mark.parametrize("data, text", [("10.6.1", "10.6.1"), ("9.9.9", "9.9.9"), ("", "an unknown version")])
def test_an_older_series_is_upgraded_and_its_time_zones_loaded_again(data, text):
    reason = f"MariaDB is {SERVER}, and the data was written by {text}"
    assert start(data) == decide.Start(upgrade=True, time_zones=True, reasons=(reason,))


@pytest.mark.parametrize("data", ["10.12.0-MariaDB", "11.4.2-MariaDB"])
def test_a_newer_series_is_refused(data):
    assert start(data, before=None) == decide.Start(
        f"the data directory is of MariaDB {data} and this is {SERVER}, which cannot read it: install a"
        " release with that version or a newer one"
    )


@pytest.mark.parametrize("theirs", [SERVER, "10.11.99-MariaDB", "10.6.20-MariaDB", ""])
def test_what_is_not_of_a_newer_series_can_be_read(theirs):
    assert decide.too_new("x.sql", theirs, SERVER) == ""


def test_what_is_of_a_newer_series_cannot():
    assert decide.too_new("x.sql", "11.4.2-MariaDB", SERVER) == (
        f"x.sql is of MariaDB 11.4.2-MariaDB and this is {SERVER}, which cannot read it: install a release with that"
        " version or a newer one"
    )


def test_an_unknown_directory_is_looked_at_as_a_whole():
    reason = "nothing is known about this data directory yet"
    assert start(before=None) == decide.Start(time_zones=True, reasons=(reason,))


@pytest.mark.parametrize(
    "change, time_zones",
    [
        ({"administrator": "b"}, False),
        ({"requested": "s"}, False),
        ({"zoneinfo": "y"}, True),
        ({"mroonga": False}, False),
        ({"replica": True}, False),
        ({"files": ("global_priv 1 2", *FILES[1:])}, False),
        ({"files": (FILES[0], "time_zone 0 2", FILES[2])}, True),
    ],
)
def test_each_change_has_its_reason(change, time_zones):
    (field,) = change
    assert start(**change) == decide.Start(time_zones=time_zones, reasons=(decide.REASONS[field],))


def test_a_missing_system_table_is_made_by_an_upgrade():
    lost = start(files=(*FILES[:2], "time_zone_name none"))
    assert lost.upgrade
    assert lost.reasons == ("system tables are missing", decide.REASONS["files"])
    never = dataclasses.replace(KNOWN, files=(*FILES[:2], "time_zone_name none"))
    assert decide.start(Snapshot(SERVER, "10.11.19", never, never)) == decide.Start()


def test_every_field_of_what_was_handled_has_a_reason():
    assert set(decide.REASONS) == {field.name for field in dataclasses.fields(Handled)}


def test_series():
    assert decide.series("10.11.19-MariaDB-log") == (10, 11)
    assert decide.series("10.6.1") < decide.series("10.11.1")
    assert decide.series("") == ()


# ---- static options of the server


REPLICATION_PARAMETER = Replication("mysql://u:p@10.0.0.1:1", "", "", 0, True, True)
SILENT_PARAMETER = dataclasses.replace(REPLICATION_PARAMETER, allow_tcp_connections_on_replica=False)


@pytest.mark.parametrize(
    "parameter, replica, options",
    [
        (None, False, ()),
        (REPLICATION_PARAMETER, False, ()),
        (SILENT_PARAMETER, False, ()),
        (None, True, ("--read-only=ON",)),
        (REPLICATION_PARAMETER, True, ("--read-only=ON",)),
        (SILENT_PARAMETER, True, ("--read-only=ON", "--skip-networking")),
    ],
)
def test_the_network_is_off_only_where_it_is_asked_for_and_the_database_is_a_replica(parameter, replica, options):
    assert decide.server_options(parameter, replica) == options
