# SPDX-License-Identifier: GPL-2.0-or-later
"""The node, built once a session, and the two instances that scenarios share and leave healthy."""

from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.cluster.node import PARTITIONS, ROOT, Instance, Node, environment, forget_releases, served_checkout
from tests.cluster.replicas import make_source, make_two_at_once

PASSWORD = 'it\'s "100%" $HOME ${buildout:directory} \\ Ünïcode 日本'


class DemoBeside(LoadScopeScheduling):
    """The demos make a node of their own, so another process may run them; all the rest shares one node."""

    def _split_scope(self, nodeid: str) -> str:
        return "demo" if "test_demo" in nodeid else "node"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DemoBeside:
    return DemoBeside(config, log)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A node with the release built from a URL; slapos.testing's own software checks have passed."""
    with served_checkout() as url:
        environment(url)
        # Imported here, as it reads the environment.
        from slapos.testing.testcase import installSoftwareUrlList, makeModuleSetUpAndTestCaseClass

        _, case = makeModuleSetUpAndTestCaseClass(ROOT / "software" / "erp5" / "software.cfg", software_id="erp5")
        case.request_instance = False
        case.partition_count = PARTITIONS
        # Numbers that the demo's partitions do not have, which may be processed meanwhile: a number chooses the ports.
        case.__partition_reference__ = "p2"
        case._cleanup("before")  # what a killed run left; it stops the node
        forget_releases()
        installSoftwareUrlList(case, [case.getSoftwareURL()], max_retry=0)
        case.formatPartitions()
        yield Node(case)
        case._cleanup("after")


@pytest.fixture(scope="session")
def pair(node: Node) -> tuple[Instance, Instance]:
    """Two primaries, requested together and processed for the first time by one run."""
    first, second = node.instance("first"), node.instance("second")
    first.request(
        {"database-list": [{"name": "erp5", "user": "erp5", "password": PASSWORD}], "test-database-amount": 2}
    )
    second.request({})
    node.process_only(first, second)
    first.wait_until_green()
    second.wait_until_green()
    return first, second


@pytest.fixture
def first(pair: tuple[Instance, Instance]) -> Instance:
    return pair[0]


@pytest.fixture
def second(pair: tuple[Instance, Instance]) -> Instance:
    return pair[1]


@pytest.fixture(scope="session")
def source(node: Node) -> Instance:
    """A primary with data of every kind and backups of every kind, for scenarios that make replicas of it."""
    return make_source(node, "source")


@pytest.fixture(scope="session")
def source_ipv6(node: Node) -> Instance:
    """The same, whose replicas reach it by IPv6."""
    return make_source(node, "source-ipv6", **{"use-ipv6": True})


@pytest.fixture(scope="session")
def two_replicas(node: Node, source: Instance) -> tuple[Instance, Instance]:
    """Two replicas of `source`, made at once, which scenarios leave healthy."""
    return make_two_at_once(node, source)


@pytest.fixture(params=["IPv4", "IPv6"])
def either_source(request: pytest.FixtureRequest) -> Instance:
    """Both, one after the other."""
    return request.getfixturevalue({"IPv4": "source", "IPv6": "source_ipv6"}[request.param])
