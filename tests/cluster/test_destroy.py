# SPDX-License-Identifier: GPL-2.0-or-later
"""A destroyed instance leaves no process and no file; the others do not notice."""

from tests.cluster.node import connect, eventually


def test_nothing_is_left(node, first):
    instance = node.instance("short-lived")
    instance.request({})
    node.process_only(instance)
    instance.wait_until_green()
    assert any("mariadbd" in process.name() for process in instance.processes())
    node.destroy(instance)
    eventually(lambda: not instance.processes(), "no process of the destroyed instance")
    assert list(instance.path.iterdir()) == []
    connect(first.published["database-list"][0]).close()
