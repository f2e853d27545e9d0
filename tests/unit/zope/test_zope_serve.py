# SPDX-License-Identifier: GPL-2.0-or-later
"""py2/zope_serve.py without Zope: what of ZMySQLDA is replaced, and when it is not."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import slapos.recipe.erp5

SCRIPT = Path(slapos.recipe.erp5.__file__).parent / "py2/zope_serve.py"


@pytest.fixture(scope="module")
def zope_serve():
    spec = importlib.util.spec_from_file_location("zope_serve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def product(monkeypatch):
    """A function that makes a class the DB of a Products.ZMySQLDA."""

    def make(cls):
        module = ModuleType("Products.ZMySQLDA.db")
        module.DB = cls
        for name in ("Products", "Products.ZMySQLDA"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return cls

    return make


class Released:
    """As the release has it."""

    @classmethod
    def _parse_connection_string(cls, connection, use_unicode=False, charset=None):
        host, _, port = connection.partition("@")[2].split()[0].partition(":")
        return {"connection": connection, "kw_args": {"host": host, "port": int(port), "charset": charset}}


def test_an_ipv6_address_is_understood_and_uses_tls(zope_serve, product):
    db = product(Released)
    zope_serve.understand_brackets()
    string = "erp5@[2001:db8::1]:21000 user p@[::9]"
    found = db._parse_connection_string(string, False, charset="utf8mb4")
    address = {"host": "2001:db8::1", "port": 21000, "charset": "utf8mb4", "ssl": {}}
    assert found == {"connection": string, "kw_args": address}
    found = db._parse_connection_string("erp5@10.0.0.1:21000 user p@[::9]")
    assert found["kw_args"] == {"host": "10.0.0.1", "port": 21000, "charset": None}


def test_another_product_of_that_name_is_left_as_it_is(zope_serve, product):
    class Own:
        def _parse_connection_string(self):
            pass

    original = Own._parse_connection_string
    product(Own)
    zope_serve.understand_brackets()
    product(object)
    zope_serve.understand_brackets()
    assert Own._parse_connection_string is original
