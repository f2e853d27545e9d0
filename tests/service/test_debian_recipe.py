# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian recipe with real apt and dpkg: what it refuses, and one part from the machine's own mirror."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import debian, debian_apt, debian_tree

NOBODY = 65534
RUN_RECIPE = """
import json, sys
from slapos.recipe.erp5.buildout.debian import Recipe
options = json.load(sys.stdin)
Recipe({}, "part", options).install()
"""


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="erp5-") as name:
        os.chmod(name, 0o755)
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def unsigned_archive(root):
    """An archive without any signature, as anybody could offer one."""
    for suite in ("bookworm", "bookworm-updates", "bookworm-security"):
        path = root / "dists" / suite
        path.mkdir(parents=True)
        (path / "Release").write_text(f"Suite: {suite}\nCodename: {suite}\n")
    return f"file:{root}"


def install(location, **options):
    options["location"] = str(location)
    debian.Recipe({}, "part", options).install()


def test_an_unsigned_archive_is_refused(folder):
    mirror = unsigned_archive(folder / "archive")
    with pytest.raises(zc.buildout.UserError) as refusal:
        install(
            folder / "part", **{"packages": "zstd", "suite": "bookworm", "mirror": mirror, "security-mirror": mirror}
        )
    message = str(refusal.value)
    assert message.startswith("apt cannot use the Debian archive (The repository 'file:")
    assert message.endswith(
        f"is not signed): only archives signed by {debian.KEYRING} are used: "
        "set the option `mirror` to one of Debian's."
    )
    assert not os.path.lexists(folder / "part") and not os.path.lexists(folder / "part.new")


def test_a_mirror_that_nobody_serves_is_refused(folder):
    with pytest.raises(zc.buildout.UserError) as refusal:
        install(folder / "part", packages="zstd", suite="bookworm", mirror="http://127.0.0.1:9/debian")
    assert str(refusal.value).endswith("check the network and http_proxy, or set the option `mirror`.")


def test_a_suite_that_the_mirror_does_not_have_is_refused(folder):
    mirror = unsigned_archive(folder / "archive")
    with pytest.raises(zc.buildout.UserError) as refusal:
        install(folder / "part", packages="zstd", suite="nosuch", mirror=mirror)
    assert str(refusal.value).endswith(
        "the mirror does not have this suite or file: check the options `mirror` and `suite`."
    )


def test_a_missing_keyring_is_named(folder):
    with pytest.raises(zc.buildout.UserError) as refusal:
        install(folder / "part", packages="zstd", keyring="/no/such.gpg")
    assert str(refusal.value) == "The keyring /no/such.gpg is missing: install debian-archive-keyring."


def test_versions_are_compared_as_debian_does():
    assert debian_apt.is_older("1:10.11.6-0+deb12u1", "1:10.11.17")
    assert not debian_apt.is_older("1:10.11.17-0+deb12u1", "1:10.11.17")
    assert not debian_apt.is_older("1:10.11.17", "1:10.11.17")
    assert debian_apt.is_older("10.11.99", "1:10.11.17")
    assert debian_apt.is_older("2~rc1", "2")


def test_packages_that_ship_lib_are_merged_into_usr(folder):
    source = folder / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN").chmod(0o755)  # dpkg-deb wants it so, whatever the umask
    (source / "DEBIAN/control").write_text(
        "Package: small\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.com>\nDescription: small\n"
    )
    for path in ("lib/x/one", "usr/lib/x/two"):
        (source / path).parent.mkdir(parents=True)
        (source / path).touch()
    package = folder / "small.deb"
    subprocess.run([debian_apt.find_program("dpkg-deb"), "--root-owner-group", "-b", source, package], check=True)
    debian_tree.unpack([package], folder / "tree")
    assert os.readlink(folder / "tree/lib") == "usr/lib"
    assert sorted(os.listdir(folder / "tree/usr/lib/x")) == ["one", "two"]


def test_a_damaged_package_is_named(folder):
    (folder / "damaged.deb").write_text("not a package")
    with pytest.raises(zc.buildout.UserError, match="^Cannot unpack damaged.deb into "):
        debian_tree.unpack([folder / "damaged.deb"], folder / "tree")


def test_a_static_program_needs_nothing_and_a_dynamic_one_does():
    patchelf = debian_tree.find_patchelf("")
    assert "libc.so.6" in debian_tree.needed_libraries(patchelf, Path(debian_apt.find_program("tar")).resolve())


def test_an_unprivileged_user_builds_a_part_for_everybody(folder):
    """From the machine's own apt sources, with an umask that hides files, and no privilege at all."""
    options = {"location": str(folder / "part"), "packages": "zstd >= 1.4\n", "remove": "usr/bin/pzstd"}
    prefix = []
    if os.geteuid() == 0:
        prefix = [debian_apt.find_program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [*prefix, sys.executable, "-c", RUN_RECIPE],
        input=json.dumps(options),
        env=environment,
        cwd=folder,
        text=True,
        capture_output=True,
        umask=0o077,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert [path.name for path in folder.iterdir()] == ["part"]
    assert not (folder / "part/bin/pzstd").exists()
    assert all(path.stat().st_mode & 0o004 for path in (folder / "part").rglob("*"))
    version = subprocess.run([folder / "part/bin/zstd", "--version"], env={}, capture_output=True, text=True)
    assert "Zstandard" in version.stdout
