# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad parameter is refused by the processing in one sentence that names it; a merely odd one is served."""

import contextlib
import socket

import pytest

from tests.cluster.node import connect, only

DATABASE = {"name": "erp5", "user": "erp5"}
SECRET = "S3cret!"


@pytest.fixture(scope="module")
def careless(node):
    """An instance that is refused again and again, then accepted, and destroyed."""
    instance = node.instance("careless")
    yield instance
    node.destroy(instance)


def refusal(node, instance, parameters):
    """The output of a processing that has to fail, and must leave no server behind."""
    instance.request(parameters)
    finished = node.slapos("instance", *only(instance))
    assert finished.returncode != 0
    assert not (instance.path / "srv/mariadb").exists()
    return finished.stdout


@pytest.mark.parametrize(
    "parameters, sentence",
    [
        (
            {"tcpv4-port": "20000"},
            '  tcpv4-port: "20000", expected an integer or null (The port on which MariaDB listens.',
        ),
        ({"innodb-buffer-pool-size": "64M"}, '  innodb-buffer-pool-size: "64M", expected an integer (Memory in which'),
        (
            {"innodb-buffer-pool-size": 10**15},
            "innodb-buffer-pool-size: 1000000000000000 bytes are more than the machine",
        ),
        ({"innodb-log-file-size": 10**15}, "innodb-log-file-size: 1000000000000000, expected at most 549755813888 ("),
        ({"collation-server": "utf8mb4_generall_ci"}, "such as utf8mb4_general_ci."),
        ({"tcpv4-prot": 1}, "  tcpv4-prot: no such parameter, expected tcpv4-port, perhaps"),
        ({"database-list": DATABASE | {"password": SECRET}}, "  database-list: an object, expected a list (Databases"),
        (
            {"database-list": [DATABASE | {"password": [SECRET]}]},
            "  database-list[0].password: a list, expected a string",
        ),
        (
            {"backup": {"logical": {"periodicity": "now and then"}}},
            "backup.logical.periodicity is 'now and then', which is neither daily nor hourly nor",
        ),
        ({"database-list": [DATABASE, DATABASE]}, "database-list[1].name: "),
        ({"database-list": [{"name": "mysql", "user": "erp5"}]}, "database-list[0].name: "),
        ({"database-list": [DATABASE | {"password": "two\nlines"}]}, "database-list[0].password: "),
    ],
)
def test_refused(node, careless, parameters, sentence):
    output = refusal(node, careless, parameters)
    assert sentence in output
    assert "Traceback" not in output
    assert SECRET not in output


def test_a_port_in_use_is_refused(node, careless):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        output = refusal(node, careless, {"tcpv4-port": port})
    sentence = f"tcpv4-port: {port} is already in use on 127.0.0.1; give a free port, or leave the parameter out"
    assert sentence in output


def test_the_same_instance_with_odd_but_right_parameters_is_served(node, careless):
    password = 'quote\' "double" spaces  100%s $HOME ${buildout:directory} back\\slash #;{{ x }} é 日本 😀'
    careless.request({"database-list": [DATABASE | {"password": password, "with-process-privilege": True}]})
    node.process_only(careless)
    careless.wait_until_green()
    with contextlib.closing(connect(careless.published["database-list"][0])) as db:
        cursor = db.cursor()
        cursor.execute("SHOW GRANTS")
        assert any("PROCESS" in row[0] for row in cursor.fetchall())
