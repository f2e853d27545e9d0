# SPDX-License-Identifier: GPL-2.0-or-later
"""A ZEO server by one request: objects stay, backups are made and restored, parameters reach it; and a Zope on it."""

import json
import os
import re
import signal
from collections.abc import Iterator

import pytest

from slapos.recipe.erp5 import supervisor
from slapos.recipe.erp5.zeo import repository
from slapos.recipe.erp5.zope.standby_decide import SERVING
from tests.cluster import zope
from tests.cluster.node import Node, eventually
from tests.cluster.test_control_page import ask, status
from tests.cluster.test_promises import assert_runs_do_nothing
from tests.cluster.zeo import Zeo


@pytest.fixture(scope="module")
def made(node: Node) -> Iterator[Zeo]:
    zeo = Zeo(node, "zeo-one")
    zeo.request({})
    zeo.process()
    zeo.wait_until_green()
    yield zeo
    node.destroy(zeo)


@pytest.fixture
def zeo(made: Zeo) -> Zeo:
    return made


def forget_ends(zeo: Zeo) -> None:
    """Scenarios that come later want green promises, and not in a quarter of an hour."""
    group = f"{zeo.path.name}:*"
    assert zeo.node.slapos("supervisorctl", "stop", group).returncode == 0
    zeo.config.service.state.unlink()
    assert zeo.node.slapos("supervisorctl", "start", group).returncode == 0


def test_what_is_published_is_all_that_a_client_needs(zeo: Zeo):
    published = zeo.published
    assert (published["zeo-address"], published["zeo-storages"]) == (zeo.config.address, ["root"])
    assert zeo.client("write", "first", "written-by-a-client") == "first=written-by-a-client"
    failed, said = zeo.promises()["zeo"]
    assert not failed
    assert re.fullmatch(rf"ZEO answers at {re.escape(zeo.config.address)} and serves root \([0-9.]+ \w+\)", said)


def test_objects_survive_a_kill_a_restart_and_a_forced_processing(node: Node, zeo: Zeo):
    supervised = supervisor.status(zeo.config.service)
    assert supervised
    os.kill(supervised.child_pid, signal.SIGKILL)
    assert zeo.client("read") == "first=written-by-a-client"
    assert zeo.promises()["zeo"][1].startswith("the service zeo was killed by SIGKILL at ")
    forget_ends(zeo)
    assert node.slapos("supervisorctl", "restart", f"{zeo.path.name}:*").returncode == 0
    node.process("--only-cp", zeo.path.name, "--force")
    assert zeo.client("read") == "first=written-by-a-client"
    zeo.wait_until_green()


def test_more_runs_do_nothing(node: Node, zeo: Zeo):
    assert_runs_do_nothing(node, zeo, lambda: zeo.client("read") == "first=written-by-a-client")


def test_backups_are_made_by_themselves_and_by_hand_and_restored(zeo: Zeo):
    """The scheduler makes the first one as soon as there is a database."""
    folder = zeo.config.backups("root")
    eventually(lambda: repository.chains(folder), "the first backup")
    zeo.back_up()
    zeo.client("write", "second", "written-after-that")
    zeo.back_up()
    (chain,) = repository.chains(folder)
    assert [piece.path.suffix for piece in chain.pieces][:2] == [".fsz", ".deltafsz"]
    failed, said = zeo.promises()["zeo-backup"]
    assert not failed and said.startswith("root was last backed up at "), said

    zeo.client("write", "third", "a-mistake")
    refused = zeo.program("zeo-restore", "--replace")
    assert refused.returncode == 1 and "expected it to be stopped" in refused.stdout
    supervisor.stop(zeo.config.service)
    restored = zeo.program("zeo-restore", "--replace")
    assert restored.returncode == 0, restored.stdout
    supervisor.start(zeo.config.service)
    assert zeo.client("read") == "first=written-by-a-client second=written-after-that"
    zeo.wait_until_green()


def test_the_page_tells_the_same(zeo: Zeo):
    (told,) = status(zeo)["backups"]
    assert (told["storage"], told["chains"]) == ("root", 1)
    eventually(lambda: status(zeo)["answers"], "a look at the server")
    metrics = ask(zeo.published["monitor-url"])
    assert "zeo_up 1.0" in metrics and 'zeo_backup_timestamp_seconds{storage="root"}' in metrics


def test_a_schedule_restarts_nothing_and_another_storage_does(node: Node, zeo: Zeo):
    before, service = supervisor.status(zeo.config.service), zeo.service()
    zeo.request({"backup": {"periodicity": "hourly", "retention-days": 2}})
    zeo.process()
    assert supervisor.status(zeo.config.service) == before and zeo.service() == service
    state = zeo.config.scheduler_state
    eventually(
        lambda: any(job["next-run"].endswith(":00:00Z") for job in json.loads(state.read_text())["jobs"]),
        "the schedule",
    )
    zeo.request({"storages": ["root", "more"]})
    zeo.process()
    assert zeo.service() != service
    assert zeo.client("write", "x", "in-another-one", storage="more") == "x=in-another-one"
    assert zeo.client("read") == "first=written-by-a-client second=written-after-that"
    zeo.back_up()
    zeo.wait_until_green()
    zeo.request({"storages": ["root"]})
    zeo.process()
    zeo.wait_until_green()
    assert zeo.promises()["zeo"][1].endswith("; it does not serve more, which stays as it is")
    zeo.request({"storages": ["root", "more"]})
    zeo.process()
    assert zeo.client("read", storage="more") == "x=in-another-one"
    zeo.wait_until_green()


def test_a_zope_on_it(node: Node, zeo: Zeo):
    """Whatever becomes of the server: the Zope serves again by itself."""
    zodb = {"type": "zeo", "zeo-address": zeo.published["zeo-address"], "zeo-storage": "more"}
    zopes = zope.deploy(node, "zope-on-zeo", zodb)
    try:
        (name,) = (one.name for one in zopes.config.zopes)
        zopes.wait(SERVING, name)
        zopes.write("written by a Zope", name)
        zopes.wait_until_green()
        assert node.slapos("supervisorctl", "stop", f"{zeo.path.name}:*").returncode == 0
        assert node.slapos("supervisorctl", "start", f"{zeo.path.name}:*").returncode == 0
        eventually(lambda: zopes.get("/page", name).body == "written by a Zope", "the page is back")
        zeo.wait_until_green()
    finally:
        node.destroy(zopes)
