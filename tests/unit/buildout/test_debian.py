# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian recipe's options, its choice of sources, its record, and that a failure leaves no half-made part."""

import json

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import debian
from slapos.recipe.erp5.buildout.debian_apt import Package
from slapos.recipe.erp5.buildout.debian_sources import Source


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    return tmp_path


def recipe(tmp_path, **options):
    return debian.Recipe({"buildout": {"parts-directory": str(tmp_path)}}, "part", options)


def choose(etc, suite="", mirror="", security_mirror=""):
    return debian.choose_sources(etc, suite, mirror, security_mirror, "amd64")


def test_published_options(tmp_path):
    options = recipe(tmp_path, packages="zstd").options
    assert {key: value.removeprefix(str(tmp_path)) for key, value in options.items()} == {
        "packages": "zstd",
        "location": "/part",
        "usr": "/part/usr",
        "bin": "/part/usr/bin",
        "sbin": "/part/usr/sbin",
        "share": "/part/usr/share",
    }


def test_location_given(tmp_path):
    assert recipe(tmp_path, packages="zstd", location="/else").options["bin"] == "/else/usr/bin"


def test_no_packages(tmp_path):
    with pytest.raises(zc.buildout.UserError) as refusal:
        recipe(tmp_path)
    assert str(refusal.value) == "Section [part] names no Debian package: set its option `packages`."


def test_sources_of_both_formats_are_read(etc):
    (etc / "apt/sources.list").write_text("deb http://a.test/debian bookworm main\n")
    (etc / "apt/sources.list.d/more.list").write_text("deb http://b.test/debian bookworm-updates main\n")
    (etc / "apt/sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: http://c.test/debian-security\nSuites: bookworm-security\nComponents: main\n"
    )
    (etc / "apt/sources.list.d/old.list.disabled").write_text("deb http://d.test/debian bookworm main\n")
    assert choose(etc) == [
        Source("http://a.test/debian", "bookworm"),
        Source("http://b.test/debian", "bookworm-updates"),
        Source("http://c.test/debian-security", "bookworm-security"),
    ]


def test_mirror_given_wins_over_the_machines_sources(etc):
    (etc / "apt/sources.list").write_text("deb http://a.test/debian bookworm main\n")
    assert choose(etc, mirror="http://m.test/debian")[0] == Source("http://m.test/debian", "bookworm")


@pytest.mark.parametrize("suite", ["", "bullseye"])
def test_no_entry_of_debian(etc, suite):
    (etc / "apt/sources.list").write_text("deb [signed-by=/v.gpg] http://vendor.test/debian bookworm main\n")
    with pytest.raises(zc.buildout.UserError) as refusal:
        choose(etc, suite)
    assert str(refusal.value) == (
        "The machine's apt sources have no entry of Debian for bookworm: set the option `mirror`."
    )


def test_unknown_release(etc):
    (etc / "os-release").unlink()
    with pytest.raises(zc.buildout.UserError) as refusal:
        choose(etc)
    assert str(refusal.value) == "The machine does not tell which Debian release it runs: set the option `suite`."


def test_two_mirrors_in_one_option(etc):
    with pytest.raises(zc.buildout.UserError) as refusal:
        choose(etc, mirror="http://a.test http://b.test")
    assert str(refusal.value) == "The option `mirror` takes one URI, not 'http://a.test http://b.test'."


def test_record():
    text = debian.record([Package("a", "1:2-3", "amd64", "00ff")], [Source("u", "s-updates"), Source("u", "s")])
    assert json.loads(text) == {
        "suites": ["s", "s-updates"],
        "packages": [{"name": "a", "version": "1:2-3", "architecture": "amd64", "sha256": "00ff"}],
    }


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    part = recipe(tmp_path, packages="zstd")

    def fail(tree):
        tree.mkdir()
        raise zc.buildout.UserError("no")

    monkeypatch.setattr(part, "_build", fail)
    with pytest.raises(zc.buildout.UserError):
        part.install()
    assert list(tmp_path.iterdir()) == []


def test_the_part_is_replaced_when_complete(tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/old").touch()
    (tmp_path / "part.new").mkdir()
    part = recipe(tmp_path, packages="zstd")

    def build(tree):
        tree.mkdir()
        (tree / "new").touch()
        return 1

    monkeypatch.setattr(part, "_build", build)
    assert part.install() == str(tmp_path / "part")
    assert [path.name for path in tmp_path.rglob("*")] == ["part", "new"]
