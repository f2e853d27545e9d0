# SPDX-License-Identifier: GPL-2.0-or-later
"""What one part of a renewal that fails, or a server that hangs, keeps from happening: nothing else."""

import dataclasses
import re
import socket
import threading

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb.config import Replication
from slapos.recipe.erp5.tls import renew, status
from tests.unit.mariadb import partition


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path / "p")


def test_a_damaged_file_does_not_keep_the_servers_from_what_is_new(config, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(renew.Run, "_own_trust", lambda run: b"\xff-secret".decode())
    monkeypatch.setattr(renew.status, "follows_with_tls", lambda config: False)
    monkeypatch.setattr(renew, "load", loaded.append)
    assert renew.Run(config, times.now()).complete() == 1
    assert loaded == [config]
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"error: unexpected UnicodeDecodeError at renew.py:\d+, expected none: report it", line.split(" ", 2)[2]
    )


def test_a_server_that_says_nothing_is_none(config, monkeypatch, tmp_path):
    monkeypatch.setattr(status, "TIMEOUT", 0.1)
    replication = Replication("mysql://u:p@10.0.0.1:20000", "", "", 0, True, True)
    config = dataclasses.replace(config, replication=replication)
    config.defaults_file.write_text(f"[client]\nsocket = {tmp_path}/s\n")
    answers: list[bool] = []
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/s")
        silent.listen()
        thread = threading.Thread(target=lambda: answers.append(status.follows_with_tls(config)), daemon=True)
        thread.start()
        thread.join(10)
        assert answers == [False]
