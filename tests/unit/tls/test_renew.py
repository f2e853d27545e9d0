# SPDX-License-Identifier: GPL-2.0-or-later
"""What one part of a renewal that fails keeps from happening: nothing else."""

import re

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import renew
from tests.unit.mariadb import partition


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path / "p")


def test_a_damaged_file_does_not_keep_the_servers_from_what_is_new(config, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(renew.Run, "_own_trust", lambda run: b"\xff-secret".decode())
    monkeypatch.setattr(Certificates, "follows", lambda service: False)
    monkeypatch.setattr(renew, "load", loaded.append)
    assert renew.Run(Certificates(config), times.now()).complete() == 1
    assert loaded == [Certificates(config)]
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"error: unexpected UnicodeDecodeError at parts.py:\d+, expected none: report it", line.split(" ", 2)[2]
    )
