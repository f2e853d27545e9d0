# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates are for every service: nothing of tls/ knows one of them."""

import ast
from pathlib import Path

import slapos.recipe.erp5
from slapos.recipe.erp5 import tls

SERVICES = {"mariadb", "neo", "zope"}


def imported(path: Path) -> set[str]:
    """The names that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_no_module_imports_a_services_own():
    prefix = slapos.recipe.erp5.__name__ + "."
    modules = sorted(Path(tls.__file__).parent.glob("*.py"))
    assert len(modules) > 10
    of_services = {
        f"{path.name}: {name}"
        for path in modules
        for name in imported(path)
        if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0] in SERVICES
    }
    assert of_services == set()


def test_no_module_names_one():
    named = {path.name for path in Path(tls.__file__).parent.glob("*.py") if "mariadb" in path.read_text().lower()}
    assert named == set()
