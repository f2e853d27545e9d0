# SPDX-License-Identifier: GPL-2.0-or-later
"""Two ERP5 instances on one node, the second a replica of the first by `replica-of` alone: it stands by until its NEO
is taken over, and then it serves what was written on the first, by itself."""

import re
from collections.abc import Iterator

import pytest

from slapos.recipe.erp5.zope.standby_decide import SERVING, WAITING
from tests import zope_pages
from tests.cluster.erp5 import Erp5, deploy, destroyed_at_the_end
from tests.cluster.node import Node, eventually

FIRST, SECOND = "erp5-first", "erp5-second"
SMALL = {"innodb-buffer-pool-size": 64 << 20}
LENIENT = {"mariadb": {**SMALL, "replication": {"seconds-behind-master-threshold": 60}}}
"""A busy test machine may lag for a moment."""


@pytest.fixture(scope="module")
def pair(node: Node) -> Iterator[tuple[Erp5, Erp5]]:
    with destroyed_at_the_end(node, SECOND, FIRST):
        first = deploy(node, FIRST, mariadb=SMALL, inituser_login="boss", zodb={"neo": {"partitions": 6}})
        first.zopes().wait(SERVING, "default-0")
        first.zopes().write("written on the first", "default-0")
        second = deploy(node, SECOND, **LENIENT, replica_of=first.published)
        yield first, second


@pytest.fixture
def first(pair: tuple[Erp5, Erp5]) -> Erp5:
    return pair[0]


@pytest.fixture
def second(pair: tuple[Erp5, Erp5]) -> Erp5:
    return pair[1]


def test_both_are_well_and_each_balancer_says_what_it_is(first: Erp5, second: Erp5):
    first.wait_until_green()
    second.wait_until_green()
    page = first.get()
    assert (page.status, page.state, page.body) == (200, "", "written on the first")
    page = second.get()
    assert (page.status, page.state, page.headers["Retry-After"]) == (503, WAITING, "5")
    cluster = second.neo().config.cluster
    assert f"the NEO cluster {cluster} is BACKINGUP, a replica that serves nobody until it is taken over" in page.body
    assert first.promise("", "erp5-instance") == (
        False,
        f"{FIRST}-mariadb, {FIRST}-neo, {FIRST}-zope-1 and {FIRST}-balancer are there; their own promises say how they"
        " are",
    )
    assert second.promise("balancer", "balancer") == (False, "family default: 0 of 1 Zope serves, 1 stands by")
    assert first.promise("balancer", "balancer") == (False, "family default: 1 of 1 Zope serves")


def test_parameters_reach_the_children_and_a_replica_has_its_originals(first: Erp5, second: Erp5):
    published, copied = first.published, second.published
    for key in ("site-id", "inituser-login", "inituser-password", "neo-partitions"):
        assert copied[key] == published[key]
    assert (published["site-id"], published["inituser-login"], published["neo-partitions"]) == ("erp5", "boss", 6)
    assert first.zopes().config.inituser.name == "boss"
    assert second.neo().config.partitions == 6
    ((size,),) = first.mariadb().sql("SELECT @@innodb_buffer_pool_size")
    assert size == SMALL["innodb-buffer-pool-size"]
    # The databases' passwords are the original's, too.
    (url,), (copy,) = published["mysql-url-list"], copied["mysql-url-list"]
    assert re.sub("@[^/]*/", "@/", url) == re.sub("@[^/]*/", "@/", copy) and url != copy
    assert first.zopes().config.mysql_urls == (url,) and second.zopes().config.mysql_urls == (copy,)
    second.mariadb().wait_for_row_of(first.mariadb())


def test_more_zopes_are_in_the_balancer_and_what_is_not_asked_for_any_more_stays(node: Node, first: Erp5):
    """Nothing is deleted, and the promise says so."""
    before = first.published["family-default-url"]
    first.request({**first.parameters, "zope-partition-dict": {"1": {"families": {"default": {}, "batch": {}}}}})

    def offered() -> bool:
        node.slapos("instance", "--only-cp", ",".join(first.all()))
        return "family-batch-url" in first.published

    eventually(offered, "the family batch is offered")
    first.zopes().wait(SERVING, "batch-0")
    eventually(lambda: first.get(family="batch").status == 200, "the balancer has loaded it")
    assert first.published["family-default-url"] == before
    assert first.get(family="batch").body == "written on the first"


def test_replica_of_that_comes_later_is_refused_in_one_sentence_and_nothing_changes(
    node: Node, first: Erp5, second: Erp5
):
    parameters, published = dict(first.parameters), first.published
    for given, sentence in (
        (
            second.published,
            "it is given, but this ERP5 instance was created without, and has data of its own; ",
        ),
        (published, "it is what this ERP5 instance publishes itself, expected what another one does; "),
        (
            {"neo-cluster": "x"},
            "it lacks mariadb-replication-primary-url, mariadb-replication-bootstrap-url, ",
        ),
    ):
        first.request({**parameters, "replica-of": given})
        refused = node.slapos("instance", "--only-cp", first.path.name)
        assert refused.returncode != 0 and f"replica-of: {sentence}" in refused.stdout
        assert published["inituser-password"] not in refused.stdout
    first.request(parameters)
    first.process()
    assert first.published == published and first.get().status == 200


def test_through_a_takeover_of_neo_nobody_sees_anything_but_503_and_then_200(first: Erp5, second: Erp5):
    """By requests every 50 ms to the replica's balancer; what is served is what was written on the first last."""
    first.zopes().write("written last", "default-0")
    url = second.published["family-default-url"]
    neo = second.neo()
    last = first.neo().status().last_tid
    assert last
    neo.wait_until_copied(last)
    parameters = dict(second.parameters)
    with zope_pages.watching(lambda: zope_pages.fetch(url)) as watcher:
        eventually(lambda: len(watcher.seen) > 20, "answers before")
        taken = neo.program("neo-takeover")
        assert taken.returncode == 0, taken.stdout
        eventually(lambda: watcher.seen[-1].page and watcher.seen[-1].page.status == 200, "the replica serves")
        seen = len(watcher.seen)
        eventually(lambda: len(watcher.seen) > seen + 60, "answers after")
    pages = [one.page for one in watcher.seen]
    assert [one.error for one in watcher.seen if one.error] == []
    statuses = [page.status for page in pages if page]
    first_good = statuses.index(200)
    assert set(statuses[:first_good]) == {503} and set(statuses[first_good:]) == {200}
    assert all(page.state and "This Zope is <b>" in page.body for page in pages[:first_good] if page)
    assert {page.body for page in pages[first_good:] if page} == {"written last"}
    # The old one stands by: its NEO is fenced.
    eventually(lambda: first.get().status == 503, "the first serves no more")
    second.process()
    assert second.parameters == parameters
    eventually(lambda: not second.promise("zope-1", "zope-standby")[0], "the Zopes of the replica are well")
    assert second.promise("balancer", "balancer") == (False, "family default: 1 of 1 Zope serves")


def test_when_replica_of_is_left_out_after_it_nothing_changes(second: Erp5):
    published = second.published
    second.request({key: value for key, value in second.parameters.items() if key != "replica-of"})
    second.process()
    assert second.published == published
    assert second.get().body == "written last"
    assert second.zopes().wait(SERVING, "default-0")
