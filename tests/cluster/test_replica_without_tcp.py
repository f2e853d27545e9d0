# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica that listens on its socket alone, as long as it is one, and that is asked for."""

import contextlib
import json
import socket
from urllib.parse import urlsplit

import pymysql
import pytest

from tests.cluster.node import eventually
from tests.cluster.replicas import replica


def test_nobody_listens_and_every_promise_is_green(node, source):
    with replica(node, "silent", source, "live", allow_tcp_connections_on_replica=False) as copy:
        url = urlsplit(copy.published["replication-primary-url"])
        assert copy.sql("SELECT @@skip_networking") == ((1,),)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.hostname, url.port))
        copy.wait_for_row_of(source)
        services = service_names(copy)
        # The other way round and back: mariadb-control asks the supervisor for another start; no service is renamed.
        replication = copy.parameters["replication"]
        for allowed in (True, False):
            changed = {"replication": replication | {"allow-tcp-connections-on-replica": allowed}}
            restarted(node, copy, copy.parameters | changed, allowed)
            copy.wait_for_row_of(source)
        # Without the parameter TCP is on, whatever the database is.
        without = {key: value for key, value in copy.parameters.items() if key != "replication"}
        restarted(node, copy, without, True)
        copy.wait_for_row_of(source)
        assert copy.sql("SELECT @@read_only") == ((1,),)
        socket.create_connection((url.hostname, url.port)).close()
        assert service_names(copy) == services


def restarted(node, instance, parameters, with_tcp):
    """Ask for `parameters`, and wait until mariadbd runs anew, with TCP or without, by itself."""
    pid = instance.pid()
    instance.request(parameters)
    node.process_only(instance)

    def is_another():
        with contextlib.suppress(pymysql.MySQLError, FileNotFoundError):
            return instance.sql("SELECT @@skip_networking") == ((int(not with_tcp),),) and instance.pid() != pid
        return False

    eventually(is_another, f"another mariadbd {'with' if with_tcp else 'without'} TCP")
    mine = json.loads((instance.path / "var/run/mariadb.supervisor.json").read_text())
    assert (mine["state"], mine["child-pid"], mine["ends"]) == ("running", instance.pid(), [])


def service_names(instance):
    return sorted(path.name for path in (instance.path / "etc/service").iterdir())
