# SPDX-License-Identifier: GPL-2.0-or-later
"""Which compiler is chosen, and what is said when none will do."""

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import compiler


def choose(found):
    return compiler.choose(found, 12, ["gcc", "gcc-12"])


@pytest.mark.parametrize("version", ["12", "12.2.0", "10"])
def test_the_first_that_is_not_newer(version):
    assert choose({"/new": "14", "/good": version, "/other": "11"}) == "/good"


def test_none_at_all():
    with pytest.raises(zc.buildout.UserError) as refusal:
        choose({})
    assert str(refusal.value) == (
        "No C compiler was found (gcc, gcc-12): install gcc and libc6-dev, "
        "or name a compiler in `executable` of the section [gcc]."
    )


def test_only_newer_ones():
    with pytest.raises(zc.buildout.UserError) as refusal:
        choose({"/usr/bin/gcc": "14", "/usr/bin/cc": ""})
    assert str(refusal.value) == (
        "/usr/bin/gcc is version 14, /usr/bin/cc is version unknown, but 12 is the newest that is known to compile "
        "these eggs: install gcc-12, or name a compiler in `executable` of the section [gcc] to use it all the same."
    )


def fake(tmp_path, text):
    path = tmp_path / "cc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_one_that_is_named_may_be_newer(tmp_path):
    path = fake(tmp_path, '[ "$1" = -dumpversion ] && echo 99 || cat')
    assert compiler.find(path, [], 12) == path


def test_the_version_is_asked_for(tmp_path):
    path = fake(tmp_path, '[ "$1" = -dumpversion ] && echo 99 || cat')
    with pytest.raises(zc.buildout.UserError, match="^.*/cc is version 99, but 12 is the newest"):
        compiler.find("", [path], 12)


def test_one_without_the_c_library(tmp_path):
    path = fake(tmp_path, "exit 1")
    with pytest.raises(zc.buildout.UserError) as refusal:
        compiler.find(path, [], 12)
    assert str(refusal.value) == f"The C compiler {path} does not find stdlib.h: install libc6-dev."


def test_one_that_is_named_and_not_there():
    with pytest.raises(zc.buildout.UserError) as refusal:
        compiler.find("/no/cc", [], 12)
    assert str(refusal.value) == "The C compiler /no/cc is not there: correct `executable` of the section [gcc]."
