# SPDX-License-Identifier: GPL-2.0-or-later
"""control/ knows no service: whoever plugs in brings everything of his own."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5 import control

FOLDER = Path(control.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
SERVICES = tuple(f"slapos.recipe.erp5.{name}" for name in ("mariadb", "neo", "zope", "root"))
PROGRAM = """
import importlib, json, sys
folder, services, *sys.path[:] = sys.argv[1:]
for name in sys.stdin.read().split():
    assert importlib.import_module("slapos.recipe.erp5.control." + name).__file__.startswith(folder)
found = [name for name in sys.modules if name.startswith(tuple(json.loads(services)))]
print(*found)
"""


def imports(tree: ast.AST) -> Iterator[str]:
    """All that a module imports, wherever it does, and the names of modules in its texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("slapos."):
            yield node.value


@pytest.mark.parametrize("name", MODULES)
def test_no_module_names_a_service(name):
    found = set(imports(ast.parse((FOLDER / f"{name}.py").read_text())))
    assert [one for one in found if one.startswith(SERVICES)] == []


def test_nothing_that_they_import_brings_a_service_along():
    command = [sys.executable, "-P", "-c", PROGRAM, str(FOLDER), json.dumps(SERVICES), *sys.path]
    ended = subprocess.run(command, input=" ".join(MODULES), capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("\n", "")


@pytest.mark.parametrize("path", sorted((FOLDER / "templates").iterdir()), ids=lambda path: path.name)
def test_no_template_speaks_of_a_service(path):
    text = path.read_text().lower()
    assert [word for word in ("mariadb", "database", "gtid", "neo", "zope") if word in text] == []
