# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node does for its cluster, without any process of NEO: files that move, and transactions that are listed."""

import json
import sqlite3
import time

import pytest

from slapos.recipe.erp5.errors import Refused, ServerError
from slapos.recipe.erp5.neo import node_actions, node_role
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.node_actions import do
from tests.unit.neo import partition

FOLLOW = {"id": "20261122T010000Z", "cluster": "new", "masters": "127.0.0.1:30100", "reset": "yes"}
FENCE = {"by": "its backup new", "reason": "takeover of new"}


@pytest.fixture
def config(tmp_path):
    found = partition.node(tmp_path, partitions=2)
    for number, name in enumerate(("storage-0", "storage-1")):
        with sqlite3.connect(found.database(name)) as connection:
            connection.execute("CREATE TABLE config (name TEXT, value TEXT)")
            for table in ("trans", "ttrans"):
                connection.execute(f"CREATE TABLE {table} (partition INTEGER, tid INTEGER)")
            rows = [(0, 10 + number), (1, 20 + number), (1, 30)]
            connection.executemany("INSERT INTO trans VALUES (?, ?)", rows)
            connection.executemany("INSERT INTO ttrans VALUES (?, ?)", [(0, 40 + number), (1, None)])
            connection.execute("INSERT INTO config VALUES ('backup_tid', ?)", ("x" if number else None,))
        found.set_up(name).touch()
    return found


def names(config):
    return sorted(path.name for path in config.path("srv", "neo").iterdir())


def test_transactions_of_all_storages_and_partitions_ascending_and_each_once(config):
    def listed(after, limit):
        return [tids.parse(one) for one in do(config, "tids", {"after": tids.text(after), "limit": limit})["tids"]]

    assert listed(0, "100") == [10, 11, 20, 21, 30, 40, 41]
    assert listed(11, "3") == [20, 21, 30]
    assert listed(41, "3") == []


def test_a_database_that_is_gone_is_no_empty_one(config):
    config.database("storage-1").unlink()
    with pytest.raises(ServerError, match=r"storage-1.sqlite is not there, expected the storage's database$"):
        do(config, "tids", {"after": tids.text(0), "limit": "1"})


def test_a_limit_that_is_none(config):
    with pytest.raises(Refused, match="limit is no number"):
        do(config, "tids", {"after": tids.text(0), "limit": "many"})


def test_how_many_storages_know_that_they_are_a_backups(config):
    assert do(config, "status", {}) == {
        "node": "a node",
        "cluster": "copy",
        "fenced": "",
        "followed": "",
        "storages": 2,
        "backups": 1,
    }


def test_what_is_followed_changes_only_while_it_is_fenced(config):
    with pytest.raises(Refused, match="the master of this node is not fenced, expected it to be, while what it foll"):
        do(config, "follow", FOLLOW)
    assert len(names(config)) == 4


def test_a_reset_puts_the_databases_aside_once(config):
    do(config, "fence", FENCE)
    assert do(config, "follow", FOLLOW) == {"follows": "new"}
    kept = [f"storage-{number}.sqlite.replaced-20261122T010000Z" for number in (0, 1)]
    assert names(config) == ["new", *kept, "upstream.json"]
    upstream = json.loads(config.upstream_file.read_text())
    assert upstream == {"upstream": {"cluster": "new", "masters": "127.0.0.1:30100"}}
    config.database("storage-0").touch()  # as its storage has made it anew
    do(config, "follow", FOLLOW)
    assert names(config) == ["new", "storage-0.sqlite", *kept, "upstream.json"]


def test_a_reset_that_was_killed_goes_on_where_it_was(config, monkeypatch):
    do(config, "fence", FENCE)
    monkeypatch.setattr(node_actions, "_note", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        do(config, "follow", FOLLOW)
    config.database("storage-0").touch()
    monkeypatch.undo()
    do(config, "follow", FOLLOW)
    assert names(config)[:2] == ["new", "storage-0.sqlite"]
    assert sum("replaced" in name for name in names(config)) == 2


def test_without_a_reset_the_databases_stay_and_nobody_is_let_in(config):
    do(config, "fence", FENCE)
    do(config, "follow", FOLLOW | {"reset": "no"})
    storages = [name for number in (0, 1) for name in (f"storage-{number}.set-up", f"storage-{number}.sqlite")]
    assert names(config) == ["closed", *storages, "upstream.json"]
    do(config, "open", {})
    assert names(config) == [*storages, "upstream.json"]


def test_clients_are_kept_out_for_a_while(config):
    before = time.time()
    assert do(config, "close", {"seconds": "60"}) == {"closed": True}
    assert before + 59 <= float(node_actions.closed(config).read_text()) <= time.time() + 61
    with pytest.raises(Refused, match="seconds is no number"):
        do(config, "close", {"seconds": "-1"})


def test_a_fence_lasts_until_it_is_resumed_and_the_first_reason_stays(config):
    do(config, "fence", FENCE)
    do(config, "fence", {"by": "page", "reason": "another"})
    fenced = node_role.of(config).load().fenced
    assert fenced and (fenced.by, fenced.reason) == ("its backup new", "takeover of new")
    assert do(config, "status", {})["fenced"] == "takeover of new"
    do(config, "resume", {})
    assert node_role.of(config).load().fenced is None
