# SPDX-License-Identifier: GPL-2.0-or-later
"""An old primary comes back as a replica of the new one: clean, diverged, made anew; killed at each place."""

import gzip
import subprocess

import pytest

from tests.service.acting import ended
from tests.service.role_fixtures import Instance, pair, published, roles
from tests.service.servers import wait_for

__all__ = ["pair", "roles"]


@pytest.fixture
def parted(roles) -> tuple[Instance, Instance]:
    """An old primary that was stopped while its replica took over, and runs again; and the new primary."""
    old, new = roles
    write(old)
    wait_for(lambda: position(new) == position(old), "the rows")
    old.service.end()
    new.acted("takeover", force=True)
    assert new.is_primary()
    write(new)
    old.service.run()
    assert old.role() == (False, True)  # nobody has told it, as no token was given
    return old, new


def position(instance: Instance) -> str:
    return instance.query("SELECT @@gtid_current_pos")[0][0]


def write(instance: Instance) -> None:
    instance.query("INSERT INTO erp5.numbered SELECT COALESCE(MAX(a), 0) + 1, %s FROM erp5.numbered", instance.name)


def rows(instance: Instance) -> list[tuple]:
    return sorted(instance.query("SELECT a, b FROM erp5.numbered"))


def backups(instance: Instance) -> str:
    """The replication-bootstrap-url."""
    network, secrets = instance.config.network, instance.config.secrets
    return f"https://127.0.0.1:{network.backup_port}/{secrets.backup_token}/#live"


def assert_replicates(old: Instance, new: Instance) -> None:
    wait_for(lambda: old.follows(new), "the old primary to follow")
    write(new)
    wait_for(lambda: rows(old) == rows(new), "the rows")
    assert old.role() == (True, False)
    assert old.state.fenced is None
    assert old.state.upstream is not None


def test_a_history_that_has_not_diverged(parted):
    old, new = parted
    dry = ended(old.act("rejoin", "--dry-run", primary_url=published(new)))
    assert dry[0] == 0
    said = old.acted("rejoin", primary_url=published(new))
    assert said == f"this database is a replica of {new.address} again, with all that it had"
    assert_replicates(old, new)
    assert old.acted("rejoin", primary_url=published(new)) == said


def test_without_a_url_it_says_what_to_give(parted):
    old, new = parted
    assert old.refused("rejoin") == (
        "nobody has said who the primary is now: give the replication-primary-url that it publishes (option"
        " primary-url)"
    )
    old.acted("rejoin", primary_url=published(new))
    assert_replicates(old, new)


def diverge(old: Instance) -> str:
    """Two transactions that only the old primary has, and the sentence about them."""
    old.query("INSERT INTO erp5.numbered VALUES (900001, 'lost'), (900002, 'lost')")
    old.query("INSERT INTO erp5.numbered VALUES (900003, 'lost')")
    (last,) = old.query("SELECT @@gtid_binlog_pos")[0]
    return last


def test_a_diverged_history_is_refused_saved_and_made_anew(parted, tmp_path):
    old, new = parted
    last = diverge(old)
    sentence = (
        f"this database has 2 transactions that {new.address} does not have, up to {last}, expected none: save them"
        " (option save), and make it anew (option rebuild)"
    )
    said = old.refused("rejoin", primary_url=published(new))
    assert said == f"{sentence}; it refuses writes, and stays as it is"
    assert old.role() == (False, False)
    assert old.state.fenced is not None
    assert ended(old.act("rejoin", "--dry-run", primary_url=published(new)))[0] == 1
    # The page lets people press the button for what a dry run does not refuse: this saves, and then refuses.
    assert ended(old.act("rejoin", "--dry-run", primary_url=published(new), save=True))[0] == 0
    said = old.refused("rejoin", primary_url=published(new), save=True)
    (saved,) = old.config.path("srv", "role").glob("diverged-*.sql.gz")
    assert said == f"{sentence}; they are saved as {saved}; it refuses writes, and stays as it is"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert_holds(old, saved)
    assert old.refused("rejoin", primary_url=published(new), rebuild=True) == (
        "a database is made anew from a backup of the new primary, and nobody has said where those are: give the"
        " replication-bootstrap-url that it publishes (option bootstrap-url)"
    )
    said = old.acted("rejoin", primary_url=published(new), rebuild=True, bootstrap_url=backups(new))
    (kept,) = old.config.path("srv").glob("mariadb.diverged-*")
    assert said == f"this database was made anew and is a replica of {new.address}; the old one is {kept}"
    assert (kept / "ibdata1").exists()
    assert not {row for row in rows(old) if row[1] == "lost"}
    assert_replicates(old, new)


def assert_holds(old: Instance, saved) -> None:
    """The file has what only the old one has, and nothing else: executed, it brings exactly those rows."""
    content = gzip.decompress(saved.read_bytes())
    before = rows(old)
    command = [old.config.program("mariadb"), f"--defaults-file={old.config.defaults_file}"]
    prepared = b"SET SESSION sql_log_bin = 0;\nDELETE FROM erp5.numbered WHERE b = 'lost';\n"
    done = subprocess.run(command, input=prepared + content, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert rows(old) == before


CLEAN = [
    "after:mariadb.fence:fence",
    "before:mariadb.sql_role:set_slave_position",
    "before:mariadb.sql_replication:change_primary",
    "after:mariadb.sql_replication:change_primary",
    "before:mariadb.demote:finish",
    "after:mariadb.demote:finish",
]


@pytest.mark.parametrize("place", CLEAN)
def test_killed_it_is_in_turn(parted, place):
    old, new = parted
    before = rows(old)
    assert ended(old.act("rejoin", place=place, primary_url=published(new)))[0] == -9
    assert old.role()[1] is False
    old.service.restart()
    assert old.role()[1] is False
    assert set(before) <= set(rows(old))
    old.acted("rejoin", primary_url=published(new))
    assert_replicates(old, new)


@pytest.mark.parametrize(
    "place",
    [
        "after:mariadb.fence:fence",
        "before:mariadb.sql_replication:change_primary",
        "after:mariadb.sql_replication:change_primary",
    ],
)
def test_the_server_is_killed_meanwhile(parted, place):
    old, new = parted
    before = rows(old)
    code, said = ended(old.act("rejoin", place=place, victim=str(old.pid_file), primary_url=published(new)))
    assert code == 1, said
    wait_for(old.answers, "the server, which its supervisor starts again")
    assert old.role()[1] is False
    assert set(before) <= set(rows(old))
    old.acted("rejoin", primary_url=published(new))
    assert_replicates(old, new)


REBUILD = [
    "before:mariadb.bootstrap:make",
    "after:mariadb.bootstrap:make",
    "after:mariadb.create:create",
    "after:supervisor:stop",
    "after:mariadb.swap:exchange",
    "after:mariadb.rebuild:put_aside",
    "before:mariadb.demote:finish",
    "before:supervisor:start",
]


@pytest.mark.parametrize("place", REBUILD)
def test_killed_while_it_is_made_anew(parted, place):
    old, new = parted
    diverge(old)
    before, kept_before = rows(old), kept(old)
    options = {"primary_url": published(new), "rebuild": True, "bootstrap_url": backups(new)}
    assert ended(old.act("rejoin", place=place, **options))[0] == -9
    wait_for(old.answers, "the server, which its supervisor starts again")
    assert old.role()[1] is False
    old.acted("rejoin", **options)
    assert_replicates(old, new)
    (now,) = kept(old) - kept_before
    assert (now / "ibdata1").exists()
    assert not {row for row in rows(old) if row[1] == "lost"} and {row for row in before if row[1] == "lost"}


def kept(instance: Instance) -> set:
    return set(instance.config.path("srv").glob("mariadb.diverged-*"))
