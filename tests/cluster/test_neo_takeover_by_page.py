# SPDX-License-Identifier: GPL-2.0-or-later
"""The upstream of a NEO backup dies while the Master is down: clicks in a real browser let the backup take over; the
old primary comes back RUNNING by itself, is fenced, and rejoins as a backup of the new one."""

import contextlib
import os
import signal
from pathlib import Path

import psutil

from slapos.recipe.erp5.neo import node_role, role_state
from tests.browser import Browser, browser
from tests.cluster.neo import Cluster, deploy, destroyed_at_the_end
from tests.cluster.node import Node, eventually
from tests.cluster.roles import master_stopped


def processes(*folders: Path) -> list[psutil.Process]:
    """All that have one of these folders, or what is in it, in their command, or as their working directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join([*process.cmdline(), process.cwd()]) + "/"
            if any(f"{folder}/" in words for folder in folders):
                found.append(process)
    return found


def kill(folders: list[Path]) -> None:
    """SIGKILL to all processes of these partitions, of which none notices another's end, as if machines were gone."""
    running = processes(*folders)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, number)
    eventually(lambda: not processes(*folders), f"no process of {folders} is left")


def is_fenced(cluster: Cluster) -> bool:
    """Whether its masters are to stay stopped, and nobody answers."""
    marks = [node_role.of(node).load().fenced for node in cluster.nodes()]
    return role_state.of(cluster.config).load().fenced is not None and all(marks) and not cluster.status().primary


def confirm(page: Browser, cluster: Cluster, action: str) -> None:
    """What people do on an action's page."""
    page.click(action)
    page.wait_for("What would be lost")
    page.fill("Name of the instance", cluster.config.instance)
    page.click(action)


def test_clicks_make_a_backup_the_primary_and_the_old_one_its_backup(node: Node, tmp_path: Path):
    with destroyed_at_the_end(node, "neo-new", "neo-old"), browser(tmp_path / "browser") as page:
        old = deploy(node, "neo-old")
        (tid,) = old.write(before="written to the old primary")
        published = old.published
        new = deploy(
            node,
            "neo-new",
            upstream_cluster=published["neo-cluster"],
            upstream_masters=published["neo-masters"],
            upstream_control_url=published["takeover-url"],
        )
        new.wait_until_copied(tid)
        new.wait_until_green()
        page.open(new.published["takeover-url"])
        page.wait_for("Backup of neo-old")
        partitions = [old.path, *old.partitions()]  # which the Master tells
        with master_stopped(node):
            kill(partitions)
            page.wait_for("its upstream does not answer")
            confirm(page, new, "Take over")
            page.wait_for("Last action: Take over, done")
            page.wait_for("takes writes")
            page.wait_for("The old primary neo-old could not be stopped")
        new.write(after="written to the new primary")
        # Which starts the old one again: it would be RUNNING.
        node.process("--all")
        assert new.wait("RUNNING").primary
        eventually(lambda: is_fenced(old), "the old primary is fenced")
        eventually(lambda: role_state.of(new.config).load().fence_pending is None, "the new one knows")
        failed, said = old.promise()
        assert failed
        assert said.startswith("the masters of this cluster are stopped since ")
        old.process("--force")
        assert is_fenced(old)

        page.open(old.published["takeover-url"])
        page.wait_for("Fenced primary")
        confirm(page, old, "Rejoin")
        page.wait_for("Last action: Rejoin, done")
        page.wait_for("Backup of neo-new")
        (tid,) = new.write(later="written while there is a backup again")
        old.wait_until_copied(tid)
        assert old.read() == new.read()
        assert set(old.read()) == {"before", "after", "later"}
        _, said = old.promise()
        masters = new.published["neo-masters"]
        assert said.endswith(
            f"while upstream-cluster is empty, expected parameters that say what it is: set upstream-cluster to neo-new"
            f" and upstream-masters to {masters}, which restarts nothing"
        )
        pids = old.pids()
        old.request({"upstream-cluster": "neo-new", "upstream-masters": masters})
        new.request({})
        node.process("--all")
        old.wait_until_green()
        new.wait_until_green()
        assert old.pids() == pids
