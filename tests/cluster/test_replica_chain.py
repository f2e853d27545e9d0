# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica of a replica: certificates, backups and rows come down the chain, without the first one's authority."""

from tests.cluster.node import only
from tests.cluster.replicas import assert_same_data, follows, replica


def test_a_chain_of_three(node, source, two_replicas):
    middle, beside = two_replicas
    # Neither the first primary's authority nor its endpoint is needed by who follows another one.
    stop_authority(node, source)
    try:
        with replica(node, "grandchild", middle, "live") as last:
            assert last.bootstrapped()["method"] == "live"
            assert follows(last, middle) and follows(middle, source) and follows(beside, source)
            last.wait_for_row_of(source)
            assert_same_data(last, source)
        beside.wait_for_row_of(source)
    finally:
        node.process("--force", *only(source))
    source.wait_until_green()


def stop_authority(node, instance):
    """Stop the service caucased of an instance; processing starts it again."""
    words = node.slapos("supervisorctl", "status").stdout.split()
    program = next(word for word in words if word.startswith(f"{instance.path.name}:caucased"))
    assert node.slapos("supervisorctl", "stop", program).returncode == 0
