# SPDX-License-Identifier: GPL-2.0-or-later
"""Switchover between whole partitions, under a writer; killed at each place, on either side: the table of the README."""

from collections.abc import Iterator

import pytest

from tests.service.role_fixtures import Instance, Writer, instances
from tests.service.servers import wait_for

TOKENS = ("a" * 32, "b" * 32)


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Instance]]:
    """Two partitions: which one is the primary changes from test to test."""
    with instances(
        lambda: Instance("P", TOKENS[0]), lambda primary: Instance("R", TOKENS[1], primary)
    ) as found:
        yield found


@pytest.fixture
def roles(pair) -> tuple[Instance, Instance]:
    """The primary and its replica, both well."""
    wait_for(lambda: any(one.is_primary() for one in pair), "a primary")
    primary, replica = sorted(pair, key=lambda one: not one.is_primary())
    wait_for(lambda: replica.follows(primary), "the replica")
    return primary, replica


def test_under_load_and_back(roles):
    primary, replica = roles
    with Writer(primary, replica) as writer:
        said = replica.acted("switchover", control_url=primary.takeover_url)
        writer.goes_on(replica)
        print(said, writer.outage())
        back = primary.acted("switchover", control_url=replica.takeover_url)
        writer.goes_on(primary)
        print(back, writer.outage())
    writer.assert_kept(primary, replica)
