# SPDX-License-Identifier: GPL-2.0-or-later
"""Zopes under the standby supervisor on real clusters of NEO: who answers, with what, whatever the cluster does."""

import dataclasses
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.promise import zope_standby
from slapos.recipe.erp5.zope import standby_state, verdict
from slapos.recipe.erp5.zope.config import User, Zeo
from slapos.recipe.erp5.zope.standby_decide import FAILING, HELD, SERVING, WAITING
from tests import zope_pages
from tests.service import zeo_fixtures
from tests.service.neo_fixtures import Cluster, Clusters, follow
from tests.service.servers import PATIENCE, wait_for
from tests.service.zope_fixtures import USER, Zopes, judged, make_config, neo_of, read_json, software, watching
from tests.zope_pages import Seen

MEMORY = 20 << 10
"""KiB of resident memory that the supervisor, or the program that asks, must not exceed: 13 and 16 MiB in 2026."""
BACKUP = "the NEO cluster copy is BACKINGUP, a replica that serves nobody until it is taken over"


@pytest.fixture
def zopes(partition: Path) -> Iterator[Callable[..., Zopes]]:
    """A function that starts the Zopes of one more partition; nothing of them is left afterwards."""
    made: list[Zopes] = []

    def make(cluster: Cluster | Zeo, *families: str, **changes: Any) -> Zopes:
        folder = partition / f"p{len(made)}"
        made.append(Zopes(make_config(folder, cluster, families or ("web",), **changes)))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.kill_all()


@pytest.fixture
def running(clusters: Clusters) -> Cluster:
    cluster = clusters("main")
    cluster.start()
    cluster.wait("RUNNING")
    return cluster


@pytest.fixture
def replicated(clusters: Clusters, zopes: Callable[..., Zopes]) -> tuple[Cluster, Cluster, Zopes]:
    """(upstream, its backup, the Zopes of the upstream that serve "fresh" as /page); the backup has all of it."""
    main, copy = follow(clusters)
    first = zopes(main)
    first.wait(SERVING)
    first.write("old")
    first.write("fresh")
    copy.wait_for_tid(main.status().last_tid or 0)
    return main, copy, first


def take_over(cluster: Cluster) -> None:
    with cluster.asker() as asker:
        asker.set_state("STOPPING_BACKUP")


def make_backup_anew(cluster: Cluster) -> None:
    """As rejoin does: storages begin empty, and the masters start as those of a new backup."""
    cluster.kill()
    for storage in cluster.nodes("storage"):
        (cluster.folder / f"{storage}.sqlite").unlink()
    for master in cluster.nodes("master"):
        cluster.flag(master).write_text("{}")
    cluster.start()


# A cluster that serves


def test_zopes_on_a_running_cluster_serve_and_none_of_them_fails(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running, "web", "web", "jobs")
    for name in ("zope-0", "zope-1", "zope-2"):
        made.wait(SERVING, name)
    made.write("kept", "zope-1")
    assert made.read("zope-2") == "kept"
    standing = made.standing()
    assert standing and [zope.ends for zope in standing.zopes] == [()] * 3
    made.end()
    assert "was killed" not in made.log()


def test_products_of_an_application_are_initialised(running: Cluster, zopes: Callable[..., Zopes], partition: Path):
    product = partition / "products" / "Some"
    product.mkdir(parents=True)
    (product / "__init__.py").write_text(
        "import os\n\ndef initialize(context):\n    open(os.environ['INSTANCE_HOME'] + '/' + __name__, 'w').close()\n"
    )
    made = zopes(running, products=(str(product.parent),))
    made.wait(SERVING)
    assert (made.config.home("zope-0") / "Products.Some").exists()


def test_requests_that_run_are_completed_when_a_zope_is_restarted(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    made.wait(SERVING)
    made.write("kept")
    with watching(made) as watcher:
        before = made.zope().child_pid
        wait_for(lambda: watcher.seen and is_served(watcher.seen[-1]), "a page")
        standby_state.restart(made.config.run, "web")
        made.wait(SERVING)
        restarted = len(watcher.seen) + 1
        wait_for(lambda: len(watcher.seen) > restarted and is_served(watcher.seen[-1]), "a page")
        assert made.zope().child_pid != before
    assert [one.error for one in watcher.stop() if one.error] == []
    assert {one.page.status for one in watcher.seen if one.page} == {200, 503}


def is_served(seen: Seen) -> bool:
    return bool(seen.page) and seen.page.status == 200


# A backup, and its takeover


def test_on_a_backup_it_waits_and_says_why(replicated: tuple[Cluster, Cluster, Zopes], zopes: Callable[..., Zopes]):
    _, copy, _ = replicated
    made = zopes(copy)
    wait_for(lambda: made.get("/page").body.count(BACKUP), "the reason")
    page = made.get("/page")
    assert (page.status, page.state, page.headers["Retry-After"]) == (503, WAITING, "5")
    assert f"This Zope is <b>waiting</b>: {BACKUP}." in page.body
    zope = made.zope()
    assert (zope.state, zope.reason, zope.child_pid) == (WAITING, BACKUP, 0)
    assert made.seen == set()
    assert f"supervisor of zope-0: waiting: {BACKUP}" in made.log()


def test_through_a_takeover_there_is_never_an_old_page(
    replicated: tuple[Cluster, Cluster, Zopes], zopes: Callable[..., Zopes]
):
    main, copy, first = replicated
    made = zopes(copy)
    wait_for(lambda: made.zope().reason == BACKUP, "the reason")
    with watching(made) as watcher:
        wait_for(lambda: len(watcher.seen) > 10, "requests before")
        first.kill_all()
        main.kill()
        take_over(copy)
        made.wait(SERVING)
        served = len(watcher.seen)
        wait_for(lambda: len(watcher.seen) > served + 20, "requests after")
    seen = watcher.stop()
    assert [one.error for one in seen if one.error] == []
    pages = [one.page for one in seen if one.page]
    statuses = [page.status for page in pages]
    border = statuses.index(200)
    assert set(statuses[:border]) == {503} and set(statuses[border:]) == {200}
    assert {page.body for page in pages[border:]} == {"fresh"}
    assert all("This Zope is <b>" in page.body and page.headers["Retry-After"] for page in pages[:border])
    assert any(BACKUP in page.body for page in pages[:border])
    made.write("written after the takeover")
    assert made.read() == "written after the takeover"


def test_a_cluster_that_becomes_a_backup_again_is_waited_for(
    replicated: tuple[Cluster, Cluster, Zopes], zopes: Callable[..., Zopes]
):
    main, copy, first = replicated
    take_over(copy)
    copy.wait("RUNNING")
    made = zopes(copy)
    made.wait(SERVING)
    assert made.read() == "fresh"
    with watching(made) as watcher:
        wait_for(lambda: watcher.seen and is_served(watcher.seen[-1]), "a page")
        first.write("fresher")
        make_backup_anew(copy)
        copy.wait("BACKINGUP")
        wait_for(lambda: made.zope().reason == BACKUP and not made.zope().child_pid, "it to stand by")
        border = len(watcher.seen) + 1
        wait_for(lambda: len(watcher.seen) > border + 10, "requests")
    seen = watcher.stop()
    assert {one.page.body for one in seen[:border] if one.page and one.page.status == 200} == {"fresh"}
    assert {(one.page.status, one.page.state) for one in seen[border:] if one.page} == {(503, WAITING)}
    assert [one.error for one in seen[border:] if one.error] == []
    copy.wait_for_tid(main.status().last_tid or 0)
    copy.check()
    take_over(copy)
    made.wait(SERVING)
    assert made.read() == "fresher"


def test_held_zopes_let_a_cluster_become_a_backup(
    replicated: tuple[Cluster, Cluster, Zopes], zopes: Callable[..., Zopes]
):
    """NEO refuses that as long as there is a client."""
    _, copy, _ = replicated
    take_over(copy)
    made = zopes(copy)
    made.wait(SERVING)
    assert hold(made).returncode == 0
    with copy.asker() as asker:
        asker.set_state("STARTING_BACKUP")
    copy.wait("BACKINGUP")
    assert hold(made, "--release").returncode == 0
    assert made.wait(WAITING).reason == BACKUP
    copy.check()


def test_a_zope_itself_refuses_a_backup(replicated: tuple[Cluster, Cluster, Zopes], zopes: Callable[..., Zopes]):
    """Whatever the supervisor believes: here, that the cluster is the one that serves."""
    main, copy, _ = replicated
    neo = neo_of(copy)
    made = zopes(main, neo=type(neo)(copy.name, neo.masters, tuple(main.of("admin"))))
    wait_for(lambda: "ended by itself, as its NEO cluster is a backup" in made.log(), "its end")
    assert "zope_serve.py: the NEO cluster is a backup, whose pages would be old: Zope ends" in made.log()
    zope = made.zope()
    assert zope.ends == () and zope.state != SERVING
    # It does so for ever: the promise must tell.
    wait_for(lambda: made.zope().ends, "an end that counts")
    (said,) = verdict.standby(made.config, made.standing(), times.now()).sentences
    assert "found its NEO cluster to be a backup, though the admins tell that it serves (are they another's?)," in said
    copy.check()


def test_what_waits_takes_little_memory(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    made.wait(SERVING)
    assert made.process
    folder = Path(f"/proc/{made.process.pid}")
    children = [int(pid) for pid in (folder / f"task/{made.process.pid}/children").read_text().split()]
    (asking,) = [pid for pid in children if pid != made.zope().child_pid]
    assert [memory_of(pid) < MEMORY for pid in (made.process.pid, asking)] == [True, True]


def memory_of(pid: int) -> int:
    """KiB of resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


# The initial user


def test_the_initial_user_is_not_lost_by_waiting(clusters: Clusters, zopes: Callable[..., Zopes]):
    cluster = clusters("main", storages=2)
    cluster.start("master-0", "admin-0", "storage-0")
    cluster.wait("RECOVERING")
    made = zopes(cluster)
    wait_for(lambda: "RECOVERING, expected RUNNING" in made.zope().reason, "the reason")
    cluster.start()
    made.wait(SERVING)
    made.write("by the initial user")
    assert not (made.config.home("zope-0") / "inituser").exists()


def test_the_user_of_a_database_is_not_replaced(
    replicated: tuple[Cluster, Cluster, Zopes], zopes: Callable[..., Zopes]
):
    _, copy, _ = replicated
    made = zopes(copy, inituser=User("somebody", "else"))
    take_over(copy)
    made.wait(SERVING)
    as_before = dataclasses.replace(made.config, inituser=USER)
    zope_pages.write(as_before, "by the user that was there", "zope-0")


# What goes wrong


def test_a_cluster_that_is_down_is_waited_for(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    made.wait(SERVING)
    made.write("kept")
    running.kill()
    zope = made.wait(WAITING)
    assert zope.reason == "the NEO cluster main does not answer"
    wait_for(lambda: made.get("/page").state == WAITING, "an answer of the supervisor")
    running.start()
    made.wait(SERVING)
    assert made.read() == "kept"
    assert made.zope().ends == ()


def test_a_short_absence_of_the_cluster_restarts_nothing(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    before = made.wait(SERVING)
    made.write("kept")
    running.kill("master-0")
    wait_for(lambda: "its requests wait for that" in made.zope().reason, "it to be noticed")
    running.start("master-0")
    wait_for(lambda: made.zope().reason == "its database serves", "the cluster")
    assert made.read() == "kept"
    assert made.zope().child_pid == before.child_pid


def test_admins_that_are_down_are_done_without(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    before = made.wait(SERVING)
    made.write("kept")
    running.kill("admin-0")
    wait_for(lambda: "it is left alone, as masters are there" in made.zope().reason, "it to be noticed")
    assert made.read() == "kept"
    running.start("admin-0")
    wait_for(lambda: made.zope().reason == "its database serves", "the admin")
    assert made.zope().child_pid == before.child_pid


def test_a_zope_that_dies_is_started_again_and_that_is_told(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    before = made.wait(SERVING)
    subprocess.run(["/bin/kill", "-KILL", str(before.child_pid)], check=True)
    wait_for(lambda: made.zope().ends, "its end to be noticed")
    assert "failing: it was killed by SIGKILL and starts again in a moment" in made.log()
    zope = made.wait(SERVING)
    assert zope.child_pid != before.child_pid
    assert [end.how for end in zope.ends] == ["was killed by SIGKILL"]


def test_a_zope_that_cannot_start_is_tried_less_and_less_often(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running, software=software(zope_serve="/dev/null/nothing"))
    zope = made.wait(FAILING)
    wait_for(lambda: len(made.zope().ends) >= 3, "three ends")
    assert {end.how for end in made.zope().ends} == {"ended with status 2"}
    page = made.get("/")
    assert page.status == 503 and page.state in (FAILING, "starting")
    assert zope.next_start


def test_the_program_that_asks_is_started_again(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running, software=software(neo="/bin/false"))
    wait_for(lambda: made.standing() and made.standing().database.detail, "the reason")  # type: ignore[union-attr]
    assert made.zope().state == WAITING
    assert made.get("/").body.count("the NEO cluster main does not answer")


def test_a_supervisor_that_is_killed_leaves_no_zope(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    made.wait(SERVING)
    made.write("kept")
    made.end(signal.SIGKILL)
    made.start()
    made.wait(SERVING)
    assert made.read() == "kept"


# Hold and release


def hold(zopes: Zopes, *words: str) -> subprocess.CompletedProcess:
    program = [zopes.config.path("bin", "zope-hold"), "--config", zopes.config.path("etc", "zope.json")]
    return subprocess.run([*program, *words], capture_output=True, text=True, timeout=PATIENCE)


def test_one_family_is_held_back_and_released(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running, "web", "jobs")
    for name in ("zope-0", "zope-1"):
        made.wait(SERVING, name)
    assert hold(made, "jobs").returncode == 0
    zope = made.wait(HELD, "zope-1")
    assert (zope.child_pid, zope.reason) == (0, "it is held back until somebody releases it")
    assert made.get("/", "zope-1").state == HELD and made.get("/").status == 200
    made.end()
    made.start()
    made.wait(SERVING)
    made.wait(HELD, "zope-1")
    assert hold(made, "--release").returncode == 0
    made.wait(SERVING, "zope-1")


def test_a_family_that_is_not_there(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running)
    made.wait(SERVING)
    result = hold(made, "jobs")
    assert result.returncode == 1
    assert "error: there is no family jobs in this partition, expected one of web" in result.stderr


def test_held_from_the_beginning_until_released_and_not_again(running: Cluster, zopes: Callable[..., Zopes]):
    made = zopes(running, hold=("*",))
    made.wait(HELD)
    assert read_json(made.config.path("srv", "zope-held.json")) == ["*"]
    assert hold(made, "--release").returncode == 0
    made.wait(SERVING)
    made.end()
    made.start()
    made.wait(SERVING)


# ZEO


@pytest.fixture
def server(partition: Path) -> Iterator[zeo_fixtures.Server]:
    """A ZEO server that does not run."""
    server = zeo_fixtures.Server(zeo_fixtures.make_config(partition / "zeo"))
    yield server
    server.end()


def test_zopes_on_a_zeo_server(server: zeo_fixtures.Server, zopes: Callable[..., Zopes]):
    made = zopes(Zeo(server.config.address, "root"), "web", "web")
    wait_for(lambda: made.zope().reason == "the ZEO server does not answer", "the reason")
    assert made.get("/").state == WAITING
    server.start()
    for name in ("zope-0", "zope-1"):
        made.wait(SERVING, name)
    made.write("kept")
    assert made.read("zope-1") == "kept"
    server.kill()
    wait_for(lambda: made.get("/page", "zope-1").body == "kept", "the page of a server that was restarted")
    assert [zope.ends for zope in (made.zope(), made.zope("zope-1"))] == [(), ()]
    assert judged(zope_standby.RunPromise, made.config) == (True, ("zope-0, zope-1 are serving: its database serves",))
    # What is in memory is shown on, so that each port still answers.
    server.end()
    assert made.read() == "kept"
    good, (said,) = judged(zope_standby.RunPromise, made.config)
    assert not good and said.startswith("the ZEO server does not answer (Connection refused), and zope-0, zope-1 can ")
