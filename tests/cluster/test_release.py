# SPDX-License-Identifier: GPL-2.0-or-later
"""The release, built from a URL; slapos.testing's checks have passed, as the fixture runs them."""

import json

from tests.cluster.node import ROOT


def test_schemas_in_the_release_are_those_of_the_checkout(node):
    folder = node.release / "parts" / "schemas"
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (ROOT / "software" / "erp5").glob("*.json"))
    for name in names:
        assert (folder / name).read_text() == (ROOT / "software" / "erp5" / name).read_text()


def test_what_was_unpacked_is_recorded(node):
    packages = json.loads((node.release / "parts" / "mariadb" / "debian-packages.json").read_text())["packages"]
    server = next(package for package in packages if package["name"] == "mariadb-server-core")
    assert len(server["sha256"]) == 64
    assert server["version"].startswith("1:10.11.")


def test_a_second_build_installs_nothing(node):
    finished = node.slapos("software", "--all")
    assert finished.returncode == 0, finished.stdout[-4000:]
    assert "Updating mariadb" in finished.stdout
    assert "Installing" not in finished.stdout.replace("Installing software release", "")
