# SPDX-License-Identifier: GPL-2.0-or-later
"""Roles that the parameters do not know of outlive stops, starts and a restart of the node, in whatever order."""

import pytest

from tests.cluster.node import Instance, Node, eventually
from tests.cluster.roles import act, follow_the_promise, pair, wait_for_role


@pytest.fixture(scope="module")
def exchanged(node):
    """A pair after a switchover: the parameters still say what it was before."""
    with pair(node, "restarts") as (first, second):
        act(second, "switchover")
        yield second, first


def assert_as_before(primary: Instance, copy: Instance) -> None:
    wait_for_role(primary, "primary")
    wait_for_role(copy, "replica")
    copy.wait_for_row_of(primary)


def change(node: Node, instance: Instance, state: str) -> None:
    instance.request(state=state)
    node.process_only(instance)


@pytest.mark.parametrize("first_stopped", [0, 1])
@pytest.mark.parametrize("first_started", [0, 1])
def test_stopped_and_started(node, exchanged, first_stopped, first_started):
    for number in (first_stopped, 1 - first_stopped):
        change(node, exchanged[number], "stopped")
    eventually(lambda: not any(one.processes() for one in exchanged), "nothing of them runs")
    for number in (first_started, 1 - first_started):
        change(node, exchanged[number], "started")
    assert_as_before(*exchanged)


def test_the_node_is_started_again(node, exchanged):
    with node.slap.instance_supervisor_rpc as supervisor:
        supervisor.stopAllProcesses()
        eventually(lambda: not any(one.processes() for one in exchanged), "nothing of them runs")
        supervisor.startAllProcesses(False)
    assert_as_before(*exchanged)


def test_parameters_that_say_so_make_all_green(node, exchanged):
    primary, copy = exchanged
    follow_the_promise(node, primary, [copy])
