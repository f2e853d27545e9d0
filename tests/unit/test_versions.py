# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that is installed is pinned, and the node and the release agree."""

import configparser
import sysconfig
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# What belongs to the node: a pin in the release would replace a real node's own.
NODE_ONLY = {"pip", "setuptools", "wheel", "zc-buildout"}
OURS = "slapos-recipe-erp5"


def node_pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "versions/node.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


def release_pins() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "versions/release.cfg")
    return {canonicalize_name(name): version for name, version in parser["versions"].items()}


def test_the_release_pins_what_the_node_pins():
    node = node_pins()
    release = {name: version for name, version in release_pins().items() if name != OURS}
    assert release == {name: node[name] for name in release}


def test_the_release_pins_nothing_of_the_node():
    assert NODE_ONLY & set(release_pins()) == set()


def test_the_release_pins_all_that_our_distribution_needs():
    todo, seen = [OURS], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    assert seen - NODE_ONLY - set(release_pins()) == set()


def test_what_is_installed_is_what_is_pinned():
    # Not sys.path, to which setuptools adds what it brings along.
    found = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {canonicalize_name(distribution.metadata["Name"]): distribution.version for distribution in found}
    assert {name: installed.get(name) for name in node_pins()} == node_pins()
