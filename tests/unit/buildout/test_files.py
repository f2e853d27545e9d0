# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `files`: complete and unchanged, or not at all."""

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout.files import Recipe


def recipe(tmp_path, names):
    base = tmp_path / "profile"
    (base / "lib").mkdir(parents=True, exist_ok=True)
    (base / "a.in").write_text("${not:substituted} {{ neither }}\n")
    (base / "lib" / "b.in").write_text("b\n")
    buildout = {
        "buildout": {"directory": str(tmp_path), "parts-directory": str(tmp_path / "parts"), "offline": "false"}
    }
    return Recipe(buildout, "templates", {"base": str(base), "names": names})


def test_files_come_unchanged_under_their_own_names(tmp_path):
    location = tmp_path / "parts" / "templates"
    assert recipe(tmp_path, "a.in\nlib/b.in").install() == str(location)
    assert (location / "a.in").read_text() == "${not:substituted} {{ neither }}\n"
    assert (location / "lib" / "b.in").read_text() == "b\n"


def test_a_changed_neighbour_is_taken_over_by_an_update(tmp_path):
    recipe(tmp_path, "a.in").install()
    subject = recipe(tmp_path, "a.in")
    (tmp_path / "profile" / "a.in").write_text("new\n")
    subject.update()
    assert (tmp_path / "parts" / "templates" / "a.in").read_text() == "new\n"


def test_a_missing_one_is_named_and_what_was_there_stays(tmp_path):
    recipe(tmp_path, "a.in").install()
    missing = tmp_path / "profile" / "missing.in"
    with pytest.raises(UserError, match=f"^{missing} cannot be had .* is it beside the profile that names it\\?$"):
        recipe(tmp_path, "missing.in").install()
    assert (tmp_path / "parts" / "templates" / "a.in").exists()
