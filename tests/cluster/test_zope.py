# SPDX-License-Identifier: GPL-2.0-or-later
"""Zopes on a NEO cluster and on a backup of it, by parameters alone: the ones serve, the others wait until they may.

One pair for all scenarios, which follow each other: the backup is taken over, the old cluster becomes its backup, and
the new one goes down and comes back.
"""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import promises
from slapos.recipe.erp5.zope.standby_decide import HELD, SERVING, WAITING
from tests.browser import browser
from tests.cluster import neo, zope
from tests.cluster.neo import Cluster, destroyed_at_the_end
from tests.cluster.node import Node, eventually
from tests.cluster.test_control_page import ask, status
from tests.cluster.test_promises import assert_runs_do_nothing
from tests.cluster.zope import Zopes, addresses, zodb_of

BACKUP = "the NEO cluster {} is BACKINGUP, a replica that serves nobody until it is taken over"
HOLDS = "it is held back until somebody releases it"
OLD, NEW = "zope-neo-old", "zope-neo-new"


@pytest.fixture(scope="module")
def clusters(node: Node) -> Iterator[tuple[Cluster, Cluster]]:
    """A cluster, and a backup of it that can fence it."""
    with destroyed_at_the_end(node, NEW, OLD):
        old = neo.deploy(node, OLD)
        published = old.published
        new = neo.deploy(
            node,
            NEW,
            upstream_cluster=published["neo-cluster"],
            upstream_masters=published["neo-masters"],
            upstream_control_url=published["takeover-url"],
        )
        yield old, new


@pytest.fixture
def old(clusters: tuple[Cluster, Cluster]) -> Cluster:
    return clusters[0]


@pytest.fixture
def new(clusters: tuple[Cluster, Cluster]) -> Cluster:
    return clusters[1]


@pytest.fixture(scope="module")
def pair(node: Node, clusters: tuple[Cluster, Cluster]) -> Iterator[tuple[Zopes, Zopes]]:
    """Zopes of the cluster, and others of its backup, of which those of the family jobs are held back from creation."""
    old, new = clusters
    first = zope.deploy(node, "zope-first", zodb_of(old), families={"web": {}})
    first.wait(SERVING)
    first.write("written on the first")
    families = {"web": {"thread-amount": 2}, "jobs": {"hold": True}}
    # The user is in the database, which is copied.
    user = {f"inituser_{word}": first.published[f"inituser-{word}"] for word in ("login", "password")}
    second = zope.deploy(node, "zope-second", zodb_of(new), families=families, expects_backup=True, **user)
    yield first, second
    for zopes in (second, first):
        node.destroy(zopes)


@pytest.fixture
def first(pair: tuple[Zopes, Zopes]) -> Zopes:
    return pair[0]


@pytest.fixture
def second(pair: tuple[Zopes, Zopes]) -> Zopes:
    return pair[1]


def test_zopes_of_a_running_cluster_serve(first: Zopes):
    first.wait_until_green()
    assert first.promises() == {
        "zope-standby": (False, "web-0 is serving: its database serves"),
        "zope-listening": (False, "web-0 answers"),
    }
    published, web = first.published, first.config.zope("web-0")
    assert published["zopes"] == [{"name": "web-0", "family": "web", "address": web.address}]
    assert (published["inituser-login"], published["inituser-password"]) == ("zope", first.config.inituser.password)
    assert first.read() == "written on the first"


def test_zopes_of_a_backup_wait_and_say_why_over_ten_runs(node: Node, new: Cluster, second: Zopes):
    """Nobody of them is a client of the cluster, nothing is processed, and nobody bangs."""
    new.wait("BACKINGUP")
    reason = BACKUP.format(NEW)
    second.wait(WAITING, but=lambda zope: zope.reason == reason)
    page = second.get()
    assert (page.status, page.state, page.headers["Retry-After"]) == (503, WAITING, "5")
    assert f"This Zope is <b>waiting</b>: {reason}." in page.body
    page = second.get(name="jobs-0")
    assert (page.status, page.state) == (503, HELD)
    second.wait_until_green()
    expected = {"zope-standby": (False, f"jobs-0 is held: {HOLDS}; web-0 is waiting: {reason}")}
    assert second.promises() == expected
    clients = addresses(new)

    def is_as_before() -> bool:
        assert not second.peers() & clients
        assert [one.child_pid for one in second.standing().zopes] == [0, 0]
        found = promises.results(second.path)
        return {name: found[name] for name in expected} == expected and "zope-listening" not in found

    assert_runs_do_nothing(node, second, is_as_before)


def test_a_zope_that_is_killed_is_back_and_the_promise_tells(node: Node, first: Zopes):
    pid = first.wait(SERVING).child_pid
    os.kill(pid, signal.SIGKILL)
    first.wait(SERVING, but=lambda zope: zope.child_pid not in (0, pid))
    assert first.read() == "written on the first"
    failed, said = first.promise()
    assert failed
    assert re.fullmatch(
        r"web-0 was killed by SIGKILL at \S+, which nobody had asked for, after [0-9.]+ s, and was started again \(once"
        r" in the last 15 min\), expected no end that nobody asked for: read its logs for the cause; this is said for"
        r" 15 min",
        said,
    )
    forget_ends(node, first)
    first.wait(SERVING)
    first.wait_until_green()


def forget_ends(node: Node, zopes: Zopes) -> None:
    """Scenarios that come later want green promises, and not in a quarter of an hour."""
    group = f"{zopes.path.name}:*"
    assert node.slapos("supervisorctl", "stop", group).returncode == 0
    (zopes.config.run / "zope.standby.json").unlink()
    assert node.slapos("supervisorctl", "start", group).returncode == 0


def test_zopes_are_held_back_and_released_by_programs_and_by_clicks(node: Node, first: Zopes, tmp_path: Path):
    assert "web: held back" in first.do("zope-hold", "web")
    page = first.get()
    assert (page.status, page.state) == (503, HELD)
    assert first.promises() == {
        "zope-standby": (False, f"web-0 is held: {HOLDS}"),
        "zope-listening": (False, "web-0 is held back"),
    }
    # Over restarts, too.
    assert node.slapos("supervisorctl", "restart", f"{first.path.name}:*").returncode == 0
    first.wait(HELD)
    assert first.get().state == HELD
    assert "all: released" in first.do("zope-release")
    pid = first.wait(SERVING).child_pid
    assert "web: ended, to start again" in first.do("zope-restart", "web")
    first.wait(SERVING, but=lambda zope: zope.child_pid != pid)
    with browser(tmp_path / "browser") as shown:
        shown.open(first.published["control-url"])
        for action, role in (("Hold", "Held"), ("Release", "Serving")):
            shown.click(action)
            shown.wait_for("Name of the instance")
            shown.fill("Family", "web")
            shown.fill("Name of the instance", first.config.instance)
            shown.click(action)
            shown.wait_for(f"Last action: {action}, done")
            shown.wait_for(role)
    first.wait(SERVING)
    assert first.read() == "written on the first"
    told = status(first)
    assert [(one["name"], one["state"]) for one in told["zopes"]] == [("web-0", SERVING)]
    metrics = ask(first.published["monitor-url"])
    assert 'zope_state{family="web",state="serving",zope="web-0"} 1.0' in metrics


def test_more_threads_reach_the_zopes_and_ports_stay(first: Zopes):
    before = first.config
    pid = first.wait(SERVING).child_pid
    first.request({**first.parameters, "families": {"added": {}, "web": {"thread-amount": 3}}})
    first.process()
    first.wait(SERVING, but=lambda zope: zope.child_pid != pid)
    assert "threads = 3" in (first.config.home("web-0") / "etc/zope.ini").read_text()
    first.wait(SERVING, "added-0")
    assert first.config.zope("web-0").port == before.zope("web-0").port
    first.request({**first.parameters, "families": {"web": {}}})
    first.process()
    first.wait(SERVING)
    assert [one.name for one in first.standing().zopes] == ["web-0"]
    assert first.config.zope("web-0").port == before.zope("web-0").port
    first.wait_until_green()


def test_after_a_takeover_the_others_serve_by_themselves_and_are_watched(
    node: Node, old: Cluster, new: Cluster, first: Zopes, second: Zopes
):
    """With unchanged parameters."""
    (tid,) = old.write(last="written before the takeover")
    new.wait_until_copied(tid)
    taken = new.program("neo-takeover")
    assert taken.returncode == 0, taken.stdout
    second.wait(SERVING)
    assert second.read() == "written on the first"
    second.write("written on the second")
    eventually(lambda: not second.promise()[0], "the promise of the second")
    assert second.promise()[1] == f"jobs-0 is held: {HOLDS}; web-0 is serving: its database serves"
    os.kill(second.zope().child_pid, signal.SIGKILL)
    second.wait(SERVING, but=lambda zope: len(zope.ends) == 1)
    assert second.promise()[1].startswith("web-0 was killed by SIGKILL at ")
    second.do("zope-release")
    second.wait(SERVING, "jobs-0")
    assert second.read("jobs-0") == "written on the second"
    forget_ends(node, second)
    second.wait(SERVING)
    # The old cluster's masters were stopped, and whoever waits for it says so.
    first.wait(WAITING)
    assert first.get().status == 503
    eventually(lambda: first.promise()[0], "the promise of the first")
    assert re.fullmatch(
        rf"the NEO cluster {OLD} does not answer since \S+ \(.+\), expected it to serve, or to be a replica: start it,"
        r" or look at the network between",
        first.promise()[1],
    )
    failed, said = first.promise("zope-listening")
    assert failed
    assert said.startswith(f"web-0 answers 503 at {first.config.zope('web-0').address} as it is waiting")


def test_a_cluster_that_becomes_a_backup_is_waited_for_again(old: Cluster, new: Cluster, first: Zopes, second: Zopes):
    rejoined = old.program("neo-rejoin")
    assert rejoined.returncode == 0, rejoined.stdout
    old.wait("BACKINGUP")
    reason = BACKUP.format(OLD)
    first.wait(WAITING, but=lambda zope: zope.reason == reason)
    page = first.get()
    assert (page.status, page.state) == (503, WAITING)
    assert first.promise() == (False, f"web-0 is waiting: {reason}")
    assert not first.peers() & addresses(old)
    assert second.read() == "written on the second"


def test_zopes_of_a_cluster_that_is_down_come_back_with_it(node: Node, new: Cluster, second: Zopes):
    groups = [f"{path.name}:*" for path in new.partitions()]
    for group in groups:
        assert node.slapos("supervisorctl", "stop", group).returncode == 0
    second.wait(WAITING, but=lambda zope: "does not answer" in zope.reason)
    second.wait(WAITING, "jobs-0")
    assert second.get().status == 503
    eventually(lambda: second.promise()[0], "the promise tells")
    for group in groups:
        assert node.slapos("supervisorctl", "start", group).returncode == 0
    new.wait("RUNNING")
    second.wait(SERVING)
    assert second.read() == "written on the second"
    eventually(lambda: not second.promise()[0], "the promise is green")
