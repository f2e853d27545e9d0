# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of a machine's apt sources are taken for Debian's, in both formats."""

from slapos.recipe.erp5.buildout import debian_sources
from slapos.recipe.erp5.buildout.debian_sources import Source

DEB822 = """\
# First comment
Types: deb deb-src
# comment between fields
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 /usr/share/keyrings/debian-archive-keyring.gpg


Types: deb
URIs: http://vendor.test/apt/debian
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/vendor.gpg

Enabled: no
Types: deb
URIs: http://disabled.test/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.test/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://comment.test/debian bookworm main
deb http://mirror.test/debian bookworm main non-free-firmware # ours
deb-src http://mirror.test/debian bookworm main
deb [ arch=amd64,arm64 signed-by=/etc/apt/debian-archive-keyring.gpg ] http://security.test bookworm-security main
deb [trusted=yes] http://local.test/debian bookworm-updates main
deb [arch=armhf] http://other.test/debian bookworm main
deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.test/debian bookworm main
deb http://vendor.test/linux/debian bookworm stable
deb http://vendor.test/pg bookworm-pgdg main
deb cdrom:[Debian 12]/ bookworm main
deb http://flat.test/ ./
"""


def select(entries, suite="bookworm"):
    return debian_sources.select_sources(entries, "bookworm", suite, "amd64")


def test_deb822_gives_debians_archives_only():
    assert select(debian_sources.parse_deb822(DEB822)) == [
        Source("http://mirror.test/debian", "bookworm"),
        Source("http://mirror.test/debian", "bookworm-updates"),
        Source("http://mirror.test/debian-security", "bookworm-security"),
    ]


def test_one_line_gives_debians_archives_only():
    assert select(debian_sources.parse_one_line(ONE_LINE)) == [
        Source("http://mirror.test/debian", "bookworm"),
        Source("http://security.test", "bookworm-security"),
        Source("http://local.test/debian", "bookworm-updates"),
    ]


def test_another_suite_replaces_the_machines_release():
    assert select(debian_sources.parse_deb822(DEB822), "bullseye") == [
        Source("http://mirror.test/debian", "bullseye"),
        Source("http://mirror.test/debian", "bullseye-updates"),
        Source("http://mirror.test/debian-security", "bullseye-security"),
    ]


def test_a_machine_that_follows_stable_gets_the_release_it_runs():
    entries = debian_sources.parse_one_line("deb http://mirror.test/debian stable main")
    assert select(entries) == [Source("http://mirror.test/debian", "bookworm")]


def test_an_entry_repeated_counts_once():
    entries = debian_sources.parse_one_line("deb http://mirror.test/debian bookworm main\n" * 2)
    assert select(entries) == [Source("http://mirror.test/debian", "bookworm")]


def test_mirror_given():
    assert debian_sources.mirror_sources("http://m.test/debian/", "", "trixie") == [
        Source("http://m.test/debian", "trixie"),
        Source("http://m.test/debian", "trixie-updates"),
        Source("http://m.test/debian-security", "trixie-security"),
    ]
    assert debian_sources.mirror_sources("http://m.test/debian", "http://s.test", "trixie")[2].uri == "http://s.test"


def test_trust_of_the_machines_entry_does_not_reach_the_private_list():
    sources = select(debian_sources.parse_one_line("deb [trusted=yes] http://local.test/debian bookworm main"))
    text = debian_sources.render_sources(sources, "/keys.gpg", "amd64", "main")
    assert text == "deb [arch=amd64 signed-by=/keys.gpg] http://local.test/debian bookworm main\n"


def test_os_release():
    text = '# comment\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n'
    assert debian_sources.parse_os_release(text) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "VERSION_CODENAME": "bookworm",
    }
