# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `umask` sets the mask of the process and takes permissions away from what buildout will rewrite."""

import os
import stat

import pytest

from slapos.recipe.erp5.buildout import umask


@pytest.fixture(autouse=True)
def slapgrid_umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def modes(folder) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_what_is_written_from_now_on_and_installed_options_are_private(tmp_path):
    for name in (".installed.cfg", ".installed-switch.cfg", "buildout.cfg"):
        (tmp_path / name).touch()
    umask.Recipe({"buildout": {"directory": str(tmp_path)}}, "private", {}).install()
    (tmp_path / "new").touch()
    assert modes(tmp_path) == {
        ".installed.cfg": 0o600,
        ".installed-switch.cfg": 0o600,
        "buildout.cfg": 0o640,
        "new": 0o600,
    }


def test_the_mask_can_be_chosen(tmp_path):
    umask.Recipe({"buildout": {"directory": str(tmp_path)}}, "private", {"umask": "0037"})
    assert os.umask(0o027) == 0o037
