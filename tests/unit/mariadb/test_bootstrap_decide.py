# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ways to make a replica are tried, and why not the others."""

import dataclasses

import pytest

from slapos.recipe.erp5.mariadb import bootstrap_decide
from slapos.recipe.erp5.mariadb.bootstrap_decide import Way, World, plan, ways
from slapos.recipe.erp5.mariadb.source import Method, parse_bootstrap_url
from tests.unit.mariadb import partition

URL = "http://10.0.0.1:22000/TOKEN/"
DUMPS = (partition.entry(1), partition.entry(20))
CHAIN = partition.chain(10, 2)
OLDER = partition.chain(5, 1)
LISTED = (*DUMPS, *OLDER, *CHAIN)
LIVE, PHYSICAL, DUMP = Way(Method.LIVE), Way(Method.PHYSICAL, CHAIN), Way(Method.DUMP, DUMPS[1:])
OURS = "10.11.19-MariaDB-0+deb12u1"
GONE = "Could not find GTID state requested by slave in any binlog files. (1236)"


def offered(fragment="", listed=LISTED):
    return ways(parse_bootstrap_url(URL + fragment), listed)


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", (LIVE, PHYSICAL, DUMP)),
        ("#live", (LIVE,)),
        ("#physical", (PHYSICAL,)),
        ("#dump", (DUMP,)),
        (CHAIN[1].name, (Way(Method.PHYSICAL, CHAIN[:2]),)),
        (OLDER[0].name, (Way(Method.PHYSICAL, OLDER[:1]),)),
        (DUMPS[0].name, (Way(Method.DUMP, DUMPS[:1]),)),
        ("20200101T000000Z.full.zst", ()),
    ],
)
def test_best_first(fragment, expected):
    assert offered(fragment) == expected


def test_each_way_has_one_name_and_words_for_people():
    assert [(way.value, way.words) for way in Method] == [
        ("live", "live physical"),
        ("physical", "stored physical"),
        ("dump", "dump"),
        ("logs", "binary logs"),
    ]
    assert [str(way) for way in (LIVE, PHYSICAL, Way(Method.DUMP))] == [
        "live physical",
        f"stored physical {CHAIN[2].name}",
        "dump",
    ]


def test_what_a_list_has():
    assert offered(listed=()) == (LIVE,)
    assert offered(listed=DUMPS) == (LIVE, DUMP)
    assert offered(listed=CHAIN) == (LIVE, PHYSICAL)
    # A chain without its beginning is none.
    assert offered("#physical", (*OLDER, *CHAIN[1:])) == (Way(Method.PHYSICAL, OLDER),)


def test_a_plain_dump_and_no_url():
    assert ways(parse_bootstrap_url("http://h/x.sql.gz")) == (Way(Method.DUMP),)
    assert ways(None) == (Way(Method.LOGS),)


def test_where_replication_would_begin():
    assert [way.gtid for way in (LIVE, PHYSICAL, DUMP, Way(Method.DUMP), Way(Method.LOGS))] == [
        None,
        "0-7-12",
        "0-7-20",
        None,
        "",
    ]


def world(given, url=URL, **changes) -> World:
    source = parse_bootstrap_url(url) if url else None
    made = World("10.0.0.1:20000", "10.11.20-MariaDB", OURS, source, given, primary_gtid="0-7-20")
    return dataclasses.replace(made, **changes)


def test_all_that_nothing_is_known_against():
    assert plan(world((LIVE, PHYSICAL, DUMP, Way(Method.DUMP), Way(Method.LOGS)))) == bootstrap_decide.Plan(
        (LIVE, PHYSICAL, DUMP, Way(Method.DUMP), Way(Method.LOGS))
    )


def test_a_purged_position_leaves_that_way_out():
    decided = plan(world((LIVE, PHYSICAL, DUMP), refused={"0-7-12": GONE}))
    assert decided.ways == (LIVE, DUMP)
    assert decided.left_out == (
        f"10.0.0.1:20000 cannot be followed from stored physical {CHAIN[2].name}, whose GTID position is 0-7-12"
        f" ({GONE})",
    )
    assert decided.refusal == ""


@pytest.mark.parametrize("theirs", ["0-7-19", "1-7-20", ""])
def test_a_backup_that_is_ahead_of_the_primary_is_left_out(theirs):
    """Of another domain MariaDB itself says nothing."""
    assert plan(world((LIVE, DUMP), primary_gtid=theirs)) == bootstrap_decide.Plan(
        (LIVE,),
        (
            f"dump {DUMPS[1].name} has the GTID position 0-7-20, which is ahead of 10.0.0.1:20000 at"
            f" {theirs or 'no position'}, expected what that primary, or a replica of it, has made",
        ),
    )


@pytest.mark.parametrize("theirs", ["0-7-20", "0-9-21", "0-7-20,3-9-1"])
def test_a_primary_may_be_further(theirs):
    assert plan(world((DUMP,), primary_gtid=theirs)).ways == (DUMP,)


def of_version(way, version):
    return Way(way.method, tuple(dataclasses.replace(entry, server_version=version) for entry in way.entries))


def test_a_newer_server_s_backups_are_refused():
    newer = "11.4.2-MariaDB"
    given = (LIVE, of_version(PHYSICAL, newer), of_version(DUMP, newer))
    decided = plan(world(given, primary_version=newer))
    name = CHAIN[2].name
    reasons = [
        f"{way} is of MariaDB {newer} and this is {OURS}, which cannot read it: install a release with that"
        " version or a newer one"
        for way in ("live physical", f"stored physical {name}", f"dump {DUMPS[1].name}")
    ]
    assert decided == bootstrap_decide.Plan(
        (),
        tuple(reasons),
        f"nothing that http://10.0.0.1:22000 offers can be used, {'; '.join(reasons)}: make a new backup there, or"
        " give another replication.bootstrap-url",
    )


def test_an_older_server_s_dump_is_taken_and_its_files_are_not():
    older = "10.6.20-MariaDB"
    given = (LIVE, of_version(PHYSICAL, older), of_version(DUMP, older))
    decided = plan(world(given, primary_version=older))
    assert decided.ways == given[2:]
    assert decided.left_out[0] == (
        f"live physical is of MariaDB {older}, which this {OURS} cannot take as it is: make the replica of a dump"
    )


def test_binary_logs_that_are_no_longer_all_there():
    assert plan(world((Way(Method.LOGS),), url="", refused={"": GONE})).refusal == (
        f"the binary logs of 10.0.0.1:20000 do not begin where its database did ({GONE}): give"
        " replication.bootstrap-url, so that the replica begins with a backup"
    )


def test_a_dump_of_a_server_that_never_wrote():
    empty = Way(Method.DUMP, (dataclasses.replace(DUMPS[0], gtid=""),))
    assert plan(world((empty,))).left_out == (
        f"dump {DUMPS[0].name} has an empty GTID position: leave replication.bootstrap-url out, the binary logs have"
        " all",
    )


@pytest.mark.parametrize(
    ("fragment", "what"),
    [("#physical", "whole physical backup"), ("#dump", "dump"), (CHAIN[0].name, CHAIN[0].name)],
)
def test_nothing_of_the_kind(fragment, what):
    assert plan(world((), url=URL + fragment)).refusal == (
        f"http://10.0.0.1:22000 offers no {what}: make one there, or give another replication.bootstrap-url"
    )


def test_a_live_copy_may_be_had_where_there_is_no_list():
    decided = plan(world(offered(listed=()), no_list="http://10.0.0.1:22000 has no manifest.json"))
    assert decided == bootstrap_decide.Plan((LIVE,), ("http://10.0.0.1:22000 has no manifest.json",))


def test_transactions_of_our_own_would_be_passed_over():
    """An old primary that is to become a replica from a backup that is older than its end."""
    made = world((LIVE, PHYSICAL, DUMP, Way(Method.LOGS)), primary_state="0-7-15,0-9-20", server_id=7)
    decided = plan(made)
    assert decided.ways == (LIVE, DUMP)
    assert decided.left_out == (
        f"stored physical {CHAIN[2].name} begins before 0-7-15, which 10.0.0.1:20000 has from server id 7, and that is"
        " ours, so that it would be passed over: give another server-id, or take a newer backup",
        "binary logs begins before 0-7-15, which 10.0.0.1:20000 has from server id 7, and that is ours, so that it"
        " would be passed over: give another server-id, or take a newer backup",
    )
    assert plan(dataclasses.replace(made, server_id=9)).ways == (LIVE, DUMP)
    assert plan(dataclasses.replace(made, server_id=3)).left_out == ()
