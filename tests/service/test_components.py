# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of the built release run with an empty environment, as an unprivileged user, on their own libraries.

The release is named by the variable ERP5_RELEASE: a folder with parts/mariadb, parts/nginx and so on.
"""

import json
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from slapos.recipe.erp5.buildout import debian_apt, debian_tree

COMPONENTS = ("haproxy", "logrotate", "mariadb", "nginx", "percona-toolkit", "python-2.7-debian", "tzdata", "zstd")
NOBODY = 65534

SLOW_LOG = """\
# Time: 261122 22:00:00
# User@Host: root[root] @ localhost []
# Thread_id: 5  Schema: test  QC_hit: No
# Query_time: 2.000123  Lock_time: 0.000000  Rows_sent: 1  Rows_examined: 7
SET timestamp=1795384800;
select a from t where b = 'Zo\u00eb';
"""


@pytest.fixture(scope="session")
def parts():
    if "ERP5_RELEASE" not in os.environ:
        pytest.fail("ERP5_RELEASE is not set: it names the folder of the built release, the one with parts/mariadb.")
    return Path(os.environ["ERP5_RELEASE"], "parts")


@pytest.fixture
def folder():
    """A short folder that the unprivileged user may write to."""
    with tempfile.TemporaryDirectory(prefix="erp5-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def run(*command, text="", cwd="/"):
    """Runs a program with an empty environment, as an unprivileged user; gives everything it printed."""
    prefix = []
    if os.geteuid() == 0:
        prefix = [debian_apt.find_program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    result = subprocess.run(
        [*prefix, *map(str, command)],
        env={},
        cwd=cwd,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize(
    "program, expected",
    [
        ("haproxy/sbin/haproxy -v", "HAProxy version 2."),
        ("logrotate/sbin/logrotate --version", "logrotate 3."),
        ("mariadb/bin/mariadb --version", "Distrib 10.11."),
        ("mariadb/bin/mariadb-admin --version", "10.11."),
        ("mariadb/bin/mariadb-backup --version", "based on MariaDB server 10.11."),
        ("mariadb/bin/mariadb-binlog --version", "mariadb-binlog"),
        ("mariadb/bin/mariadb-check --version", "10.11."),
        ("mariadb/bin/mariadb-dump --version", "10.11."),
        ("mariadb/bin/mariadb-upgrade --print-defaults", "would have been started"),
        ("mariadb/bin/mbstream --help", "mbstream"),
        ("mariadb/bin/my_print_defaults --version", "my_print_defaults"),
        ("mariadb/sbin/mariadbd --no-defaults --version", "10.11."),
        ("nginx/sbin/nginx -v", "nginx version: nginx/1."),
        ("percona-toolkit/bin/pt-query-digest --version", "pt-query-digest 3."),
        ("zstd/bin/zstd --version", "Zstandard CLI"),
    ],
)
def test_program_runs(parts, program, expected):
    path, *arguments = program.split()
    assert expected in run(parts / path, *arguments)


def test_zstd_round_trip(parts, folder):
    (folder / "data").write_text("x" * 100000)
    run(parts / "zstd/bin/zstd", "-q", folder / "data", "-o", folder / "data.zst")
    assert run(parts / "zstd/bin/zstd", "-dc", folder / "data.zst") == "x" * 100000


def test_slow_query_digest(parts, folder):
    (folder / "slow.log").write_text(SLOW_LOG)
    digest = run(parts / "percona-toolkit/bin/pt-query-digest", "--no-version-check", folder / "slow.log")
    assert re.search(r"^# Overall: 1 total, 1 unique", digest, re.MULTILINE)
    assert "select a from t where b = 'Zoë'" in digest


def test_logrotate_rotates(parts, folder):
    (folder / "error.log").write_text("line\n")
    (folder / "conf").write_text(f"{folder}/error.log {{\n  rotate 2\n  nomail\n}}\n")
    if os.geteuid() == 0:
        os.chown(folder / "error.log", NOBODY, NOBODY)
    run(parts / "logrotate/sbin/logrotate", "--force", "--state", folder / "state", folder / "conf")
    assert (folder / "error.log.1").read_text() == "line\n"


def test_time_zones_come_from_the_release(parts):
    zones = parts / "tzdata/usr/share/zoneinfo"
    with (zones / "Europe/Paris").open("rb") as stream:
        assert ZoneInfo.from_file(stream, "Europe/Paris").key == "Europe/Paris"
    assert "INSERT INTO time_zone_name (Name, Time_zone_id) VALUES ('Europe/Paris'" in run(
        parts / "mariadb/bin/mariadb-tzinfo-to-sql", zones
    )


def test_mroonga_loads_from_the_release(parts, folder):
    messages = run(
        parts / "mariadb/sbin/mariadbd",
        "--no-defaults",
        f"--basedir={parts}/mariadb/usr",
        "--bootstrap",
        "--innodb=OFF",
        "--default-storage-engine=MyISAM",
        "--log-warnings=0",
        "--plugin-load-add=ha_mroonga",
        f"--datadir={folder}",
        text="CREATE DATABASE d;\nCREATE TABLE d.t (a TEXT, FULLTEXT (a)) ENGINE=Mroonga DEFAULT CHARSET=utf8mb4;\n",
    )
    assert "ERROR" not in messages
    assert (folder / "d.mrn").is_file()


def test_nginx_has_its_mime_types(parts):
    assert "text/html" in (parts / "nginx/etc/nginx/mime.types").read_text()


def outside_libraries(path):
    """The libraries of an ELF file that are found outside its part, or not at all."""
    part = next(folder for folder in path.parents if folder.parent.name == "parts").resolve()
    result = subprocess.run(["ldd", path], capture_output=True, text=True)
    assert result.returncode == 0 or "not a dynamic executable" in result.stderr, f"{path}: {result.stderr}"
    found = re.findall(r"^\t(\S+) => (not found|\S+)", result.stdout, re.MULTILINE)
    return [
        f"{path}: {name} => {place}"
        for name, place in found
        if not debian_tree.HOST_LIBRARIES.fullmatch(name) and not Path(place).resolve().is_relative_to(part)
    ]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_library_is_inside_the_part(parts, component):
    files = [path for path in debian_tree.walk(parts / component) if debian_tree.is_elf(path)]
    assert files or component == "tzdata"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert [line for lines in pool.map(outside_libraries, files) for line in lines] == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_file_is_readable_and_none_is_privileged_or_dangling(parts, component):
    wrong = []
    for path in (parts / component).rglob("*"):
        mode = path.stat().st_mode  # a dangling link fails here
        if not mode & 0o004 or (path.is_dir() and not mode & 0o001) or mode & 0o6002:
            wrong.append(f"{path} {mode:o}")
    assert wrong == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_versions_and_checksums_are_recorded(parts, component):
    packages = json.loads((parts / component / "debian-packages.json").read_text())["packages"]
    names = [package["name"] for package in packages]
    assert names == sorted(names)
    for package in packages:
        assert re.fullmatch("[0-9a-f]{64}", package["sha256"]), package
        assert package["version"] and package["architecture"], package


def test_mariadb_is_not_older_than_its_security_fix(parts):
    packages = json.loads((parts / "mariadb/debian-packages.json").read_text())["packages"]
    (server,) = [package["version"] for package in packages if package["name"] == "mariadb-server-core"]
    assert not debian_apt.is_older(server, "1:10.11.17")
