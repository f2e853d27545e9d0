# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the partition's authority is, however its addresses are written."""

import dataclasses

from slapos.recipe.erp5.mariadb.config import Caucased
from slapos.recipe.erp5.tls import own, template
from tests.unit.mariadb import partition


def test_ipv4_alone(tmp_path):
    config = partition.config(tmp_path / "p")
    assert own.url(config) == own.contact(config) == "http://127.0.0.2:24002"
    assert template.server(config).ips == {"127.0.0.2"}


def test_ipv6_first_in_its_usual_form(tmp_path):
    config = partition.config(tmp_path / "p")
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, ipv6="2001:DB8:0::1"))
    assert own.url(config) == "http://[2001:db8::1]:24002"
    assert own.url(config, "127.0.0.2") == own.contact(config) == "http://127.0.0.2:24002"
    assert template.server(config).ips == {"127.0.0.2", "2001:db8::1"}


def test_an_external_one(tmp_path):
    config = dataclasses.replace(partition.config(tmp_path / "p"), caucased=Caucased("http://192.0.2.1:8009/", ()))
    assert own.url(config) == own.contact(config) == "http://192.0.2.1:8009"
