# SPDX-License-Identifier: GPL-2.0-or-later
"""Two replicas made at once, and one of a replica: certificates, backups and rows come down the chain."""

import contextlib

from tests.cluster.node import Instance
from tests.cluster.replicas import assert_same_data, replica, wait_until_made


@contextlib.contextmanager
def two_at_once(node, source):
    copies = [node.instance("left"), node.instance("right")]
    for copy in copies:
        copy.request(copy.replica_of(source, ""))
    node.process()
    try:
        for copy in copies:
            wait_until_made(copy)
        yield copies
    finally:
        for copy in copies:
            node.destroy(copy)


def test_two_replicas_at_once_and_a_chain_of_three(node, source):
    with two_at_once(node, source) as (left, right):
        # Neither the first primary's authority nor its endpoint is needed by who follows another one.
        stop_authority(node, source)
        with replica(node, "grandchild", left, "live") as last:
            assert last.bootstrapped()["method"] == "live"
            assert follows(last, left) and follows(left, source) and follows(right, source)
            last.wait_for_row_of(source)
            assert_same_data(last, source)
        right.wait_for_row_of(source)
        node.process("--all")
        source.wait_until_green()


def stop_authority(node, instance):
    """Stop the service caucased of an instance; processing starts it again."""
    words = node.slapos("supervisorctl", "status").stdout.split()
    program = next(word for word in words if word.startswith(f"{instance.path.name}:caucased"))
    assert node.slapos("supervisorctl", "stop", program).returncode == 0


def follows(copy: Instance, primary: Instance) -> bool:
    return copy.slave_status()["Master_Port"] == primary.sql("SELECT @@port")[0][0]


def test_a_backup_of_a_replica_makes_another_replica(node, source):
    with replica(node, "middle", source, "live") as middle:
        middle.backup()
        with replica(node, "another", middle, "dump") as last:
            assert last.bootstrapped()["method"] == "dump"
            last.wait_for_row_of(source)
            assert_same_data(last, source)
