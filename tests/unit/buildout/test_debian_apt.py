# SPDX-License-Identifier: GPL-2.0-or-later
"""What is resolved from Debian's index, which versions are refused, and the sentences of refusals."""

from pathlib import Path

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import debian_apt
from slapos.recipe.erp5.buildout.debian_apt import Package, Requirement

SHOW = """\
Package: server-core
Version: 1:10.11.19-0+deb12u1
Architecture: amd64
Pre-Depends: libc6 (>= 2.36)
Depends: libssl3 (>= 3.0.0), liba1 (>= 1) | liba0, zlib1g (>= 1:1.2),
 perl:any, libdbi-perl, libpam0g, helper
SHA256: 00ff
Description: text
 Depends: not-a-field

Package: server-core
Version: 1:10.11.6-0+deb12u1
Architecture: amd64
SHA256: 1111
"""


def packages(**depends):
    return {
        name.replace("_", "-"): Package(name.replace("_", "-"), "1", "amd64", "00", debian_apt.parse_depends(text))
        for name, text in depends.items()
    }


def names_of_closure(index, roots, follow=(), exclude=()):
    def lookup(names):
        return {name: index[name] for name in names if name in index}

    return [package.name for package in debian_apt.closure(roots, lookup, follow, exclude)]


def test_requirements():
    assert debian_apt.parse_requirements("\n  a-core >= 1:10.11.17\n\n b>=2~rc1\n c++3\n") == [
        Requirement("a-core", "1:10.11.17"),
        Requirement("b", "2~rc1"),
        Requirement("c++3"),
    ]


@pytest.mark.parametrize("line", ["a = 1", "a >=", "Upper", "a b", "a <= 1", "-o Debug=1"])
def test_requirement_refused(line):
    with pytest.raises(zc.buildout.UserError) as refusal:
        debian_apt.parse_requirements(line)
    assert str(refusal.value) == f"{line!r} is not a Debian package: write `name` or `name >= version`."


def test_show_keeps_the_first_version_and_joins_continued_fields():
    package = debian_apt.parse_packages(SHOW)["server-core"]
    assert (package.version, package.sha256) == ("1:10.11.19-0+deb12u1", "00ff")
    assert package.depends == (
        ("libc6",),
        ("libssl3",),
        ("liba1", "liba0"),
        ("zlib1g",),
        ("perl",),
        ("libdbi-perl",),
        ("libpam0g",),
        ("helper",),
    )


def test_closure_takes_libraries_of_libraries_and_first_alternatives():
    index = packages(
        root="liba1 | liba0, zlib1g, helper, perl:any, libdbi-perl",
        liba1="libb, libc6, libgcc-s1, libstdc++6, libcrypt1, libpam0g, liba1",
        libb="liba1",
        zlib1g="libc6",
    )
    assert names_of_closure(index, ["root"]) == ["liba1", "libb", "root", "zlib1g"]


def test_closure_follows_what_is_asked_and_leaves_out_what_is_excluded():
    index = packages(root="perl-base, perl-modules-5.36, libdbi-perl, libx", perl_base="", libdbi_perl="", libx="")
    index["perl-modules-5.36"] = Package("perl-modules-5.36", "1", "all", "00")
    follow = ["perl-base", "perl-modules-*", "libdbi-perl"]
    assert names_of_closure(index, ["root"], follow, ["libx"]) == [
        "libdbi-perl",
        "perl-base",
        "perl-modules-5.36",
        "root",
    ]


def test_closure_refuses_an_unknown_package():
    with pytest.raises(zc.buildout.UserError) as refusal:
        names_of_closure({}, ["nosuch"])
    assert str(refusal.value) == (
        "Debian package nosuch is unknown to the apt sources in use: "
        "check the name, or the options `suite` and `components`."
    )


def test_older_than_its_bound_is_refused_in_one_sentence():
    found = [Package("server-core", "1:10.11.6-0+deb12u1", "amd64", "00")]
    with pytest.raises(zc.buildout.UserError) as refusal:
        debian_apt.check_bounds([Requirement("server-core", "1:10.11.17")], found, lambda version, bound: True)
    assert str(refusal.value) == (
        "Debian package server-core is 1:10.11.6-0+deb12u1 in the apt sources in use, but 1:10.11.17 or newer is "
        "required: add Debian's security updates to the machine's apt sources, or set the option `mirror` to an "
        "up-to-date mirror."
    )


def test_new_enough_or_unbounded_is_accepted():
    found = [Package("a", "2", "amd64", "00"), Package("b", "1", "amd64", "00")]
    asked = []

    def older(version, bound):
        asked.append((version, bound))
        return False

    debian_apt.check_bounds([Requirement("a", "2"), Requirement("b")], found, older)
    assert asked == [("2", "2")]


@pytest.mark.parametrize(
    "output, sentence",
    [
        (
            "W: Some note\nE: Failed to fetch http://m.test/InRelease  Could not connect to m.test:80\n",
            "apt cannot use the Debian archive (Failed to fetch http://m.test/InRelease  Could not connect to"
            " m.test:80): check the network and http_proxy, or set the option `mirror`.",
        ),
        (
            "E: Failed to fetch http://m.test/InRelease  Temporary failure resolving 'm.test'\n",
            "apt cannot use the Debian archive (Failed to fetch http://m.test/InRelease  Temporary failure resolving"
            " 'm.test'): check the network and http_proxy, or set the option `mirror`.",
        ),
        (
            "Err:1 http://m.test x\nE: The repository 'http://m.test x Release' does not have a Release file.\n",
            "apt cannot use the Debian archive (The repository 'http://m.test x Release' does not have a Release file):"
            " the mirror does not have this suite or file: check the options `mirror` and `suite`.",
        ),
        (
            "W: GPG error: http://m.test x InRelease: NO_PUBKEY 00\nE: The repository 'http://m.test' is not signed.\n",
            "apt cannot use the Debian archive (The repository 'http://m.test' is not signed):"
            " only archives signed by /keys.gpg are used: set the option `mirror` to one of Debian's.",
        ),
        ("", "apt cannot use the Debian archive (no message): see apt's message."),
    ],
)
def test_why_apt_failed(output, sentence):
    assert debian_apt.explain(output, "/keys.gpg") == sentence


def test_a_missing_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(debian_apt, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(zc.buildout.UserError) as refusal:
        debian_apt.find_program("apt-get")
    assert str(refusal.value) == "The program apt-get is missing: this recipe needs Debian's apt, dpkg and tar."


def test_of_the_machines_apt_settings_only_the_way_to_the_mirror_is_kept():
    dump = (
        'Acquire::http::Proxy "http://proxy.test:3128";\n'
        'Acquire::https::mirror.test::Verify-Peer "false";\n'
        'Acquire::AllowInsecureRepositories "true";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::CompressionTypes "";\n'
    )
    assert debian_apt.machine_acquire_settings(dump) == (
        'Acquire::http::Proxy "http://proxy.test:3128";\nAcquire::Check-Valid-Until "false";\n'
    )


def test_configuration_is_private_and_verifies():
    text = debian_apt.render_configuration(Path("/private"), "amd64", 'Acquire::Retries "9";\n', "/ca.pem")
    assert text == (
        'Acquire::Retries "9";\n'
        'Dir "/private/";\n'
        'Dir::State::status "/private/status";\n'
        'APT::Architecture "amd64";\n'
        'APT::Architectures { "amd64"; };\n'
        'APT::Sandbox::User "root";\n'
        'APT::Get::AllowUnauthenticated "false";\n'
        'APT::Update::Error-Mode "any";\n'
        'Acquire::AllowInsecureRepositories "false";\n'
        'Acquire::AllowWeakRepositories "false";\n'
        'Acquire::Languages "none";\n'
        'Acquire::https::CAInfo "/ca.pem";\n'
    )
