# SPDX-License-Identifier: GPL-2.0-or-later
"""MariaDB's plug for certificates: when a replica's own are looked after."""

import dataclasses
import socket
import threading

from slapos.recipe.erp5.mariadb.config import Replication
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import status
from tests.unit.mariadb import partition

PRIMARY = "mysql://u:old@10.0.0.1:20000?endpoint=https%3A%2F%2F10.0.0.1%3A22000"


def replica(tmp_path, url):
    config = partition.config(tmp_path / "p")
    return dataclasses.replace(config, replication=Replication(url, "", "", 0, True, True))


def test_a_server_that_says_nothing_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(status, "TIMEOUT", 0.1)
    config = replica(tmp_path, PRIMARY)
    config.defaults_file.write_text(f"[client]\nsocket = {tmp_path}/s\n")
    answers: list[bool] = []
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/s")
        silent.listen()
        thread = threading.Thread(target=lambda: answers.append(Certificates(config).follows()), daemon=True)
        thread.start()
        thread.join(10)
        assert answers == [False]


def test_a_primary_is_given_nothing(tmp_path):
    assert Certificates(partition.config(tmp_path / "p")).givers() == ()


def test_the_present_password_is_tried_before_the_one_in_the_parameters(tmp_path):
    givers = Certificates(replica(tmp_path, PRIMARY)).givers()
    assert [(giver.endpoint, giver.secret) for giver in givers] == [
        ("https://10.0.0.1:22000", "r"),
        ("https://10.0.0.1:22000", "old"),
    ]


def test_one_password_is_tried_once(tmp_path):
    assert len(Certificates(replica(tmp_path, PRIMARY.replace("old", "r"))).givers()) == 1
