# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules of the house that a machine can check."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "software/erp5").glob("instance-*-schema.json"))
SOURCES = [path for folder in ("bin", "node", "slapos", "tests") for path in (ROOT / folder).rglob("*")]
PROGRAMS = [path for path in SOURCES if path.suffix in (".py", ".sh") or path.parent.name == "bin"]


@pytest.mark.parametrize("path", [path for path in PROGRAMS if "golden" not in path.parts], ids=str)
def test_each_source_begins_with_its_licence(path):
    lines = path.read_text().splitlines()[:2]
    assert "# SPDX-License-Identifier: GPL-2.0-or-later" in lines


def test_namespace_packages_have_no_init():
    assert [path for path in ("slapos/__init__.py", "slapos/recipe/__init__.py") if (ROOT / path).exists()] == []


def test_listed_scenarios_exist():
    lines = (ROOT / "tests/cluster/listed").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed and [name for name in listed if not (ROOT / name).is_file()] == []


def properties(schema: dict, path: str = "") -> Iterator[tuple[str, dict]]:
    for name, value in schema.get("properties", {}).items():
        yield f"{path}{name}", value
        yield from properties(value, f"{path}{name}.")
        yield from properties(value.get("items", {}), f"{path}{name}[].")


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_each_property_has_a_title_and_a_type(path):
    for name, value in properties(json.loads(path.read_text())):
        assert {"title", "type"} <= set(value), name


def referred(value: dict) -> dict:
    """What a property has by its `$ref`, a file beside, or a place in one."""
    name, _, place = value.get("$ref", "#").partition("#")
    found = json.loads((ROOT / "software/erp5" / name).read_text()) if name else {}
    for step in place.split("/")[1:]:
        found = found[step]
    return found


@pytest.mark.parametrize("name", ["", "balancer-", "mariadb-", "neo-", "zeo-", "zope-"])
def test_each_parameter_has_a_default_or_is_optional_in_a_list(name):
    schema = json.loads((ROOT / f"software/erp5/instance-{name}input-schema.json").read_text())
    for name, value in properties(schema):
        # An object needs a default of its own, or the defaults in it do not apply when it is absent (measured).
        assert "default" in {**referred(value), **value} or "[]" in name, name
