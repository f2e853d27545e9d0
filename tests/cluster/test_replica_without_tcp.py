# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica that listens on its socket alone, for as long as it is one."""

import socket
from urllib.parse import urlsplit

import pytest

from tests.cluster.replicas import replica


def test_nobody_listens_and_every_promise_is_green(node, source):
    with replica(node, "silent", source, "live", allow_tcp_connections_on_replica=False) as copy:
        url = urlsplit(copy.published["replication-primary-url"])
        assert copy.sql("SELECT @@skip_networking") == ((1,),)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.hostname, url.port))
        copy.wait_for_row_of(source)
        # Without the parameter TCP is on, whatever the database is: that needs another start, and processing gives it.
        pid = copy.pid()
        copy.request({key: value for key, value in copy.parameters.items() if key != "replication"})
        node.process()
        copy.wait_for_row_of(source)
        assert copy.pid() != pid
        assert copy.sql("SELECT @@skip_networking, @@read_only") == ((0, 1),)
        socket.create_connection((url.hostname, url.port)).close()
