# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file of a MariaDB partition, from defaults and with every optional branch, against golden files."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.render import golden_files, partition
from tests.render.partition import complete, process, render

HOSTILE = 'it\'s "100%" $HOME ${buildout:directory} \\ {{ x }} Ünïcode 日本'

CASES: dict[str, dict] = {
    "mariadb-default": {},
    "mariadb-everything": {
        "use-ipv6": True,
        "tcpv4-port": 20000,
        "server-id": 42,
        "database-list": [
            {"name": "erp5", "user": "erp5", "password": HOSTILE, "with-process-privilege": True},
            {"name": "other", "user": "other"},
        ],
        "test-database-amount": 2,
        "character-set-server": "latin1",
        "collation-server": "latin1_general_cs",
        "max-connection-count": 50,
        "innodb-buffer-pool-size": 67108864,
        "innodb-log-file-size": 50331648,
        "long-query-time": 0.25,
        "relaxed-writes": True,
        "binlog-expire-days": 3,
        "mroonga": False,
        "replicas-use-tls": False,
        "semi-sync": {"enable": True, "timeout-seconds": 3},
        "caucased": {"external-caucased-url": "http://127.0.0.9:8000", "csr-to-sign": ["A REQUEST"]},
        "backup": {
            "logical": {"enable": False, "periodicity": "30 2 * * 1-5", "retention-days": 30},
            "physical": {"enable": True, "periodicity": "hourly", "retention-days": 3, "incrementals": 23},
            "max-rate": 50000000,
        },
    },
}
CASES["mariadb-replica"] = {
    "database-list": [{"name": "erp5", "user": "erp5"}, {"name": "other", "user": "other", "password": "KNOWN"}],
    "replication": {
        "primary-url": f"mysql://upstream:{quote(HOSTILE, safe='')}@127.0.0.9:20000"
        "?endpoint=https%3A%2F%2F127.0.0.9%3A22000",
        "upstream-mariabackup-url": "https://127.0.0.9:22000/THEIRS/#live",
        "seconds-behind-master-threshold": 60,
        "allow-tcp-connections-on-replica": False,
    },
}
ACCOUNTS = {"erp5": "GENERATED", "other": "GENERATED-TOO", "testuser_0": "TEST-0", "testuser_1": "TEST-1"}


@pytest.mark.parametrize("case", CASES)
def test_files_are_the_golden_ones(case, tmp_path, request):
    rendered = render(tmp_path, "mariadb", CASES[case], {} if case == "mariadb-replica" else ACCOUNTS)
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))


def test_a_hostile_password_reaches_the_partition_unchanged(tmp_path):
    rendered = render(tmp_path, "mariadb", CASES["mariadb-everything"], ACCOUNTS)
    assert json.loads(rendered["etc/mariadb.json"])["databases"][0]["password"] == HOSTILE


def test_only_the_account_itself_may_read_what_is_rendered(tmp_path):
    render(tmp_path, "mariadb", {}, ACCOUNTS)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "eggs" not in path.parts]
    ours = [path for path in files if path.name not in ("instance.cfg", "accounts.json") and path.parent.name != "kept"]
    assert len(ours) > 15
    assert [str(path) for path in ours if path.stat().st_mode & 0o077] == []


def test_a_second_processing_changes_nothing(tmp_path):
    first = render(tmp_path, "mariadb", {}, ACCOUNTS)
    files = [path for folder in ("etc", "bin") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    assert render(tmp_path, "mariadb", {}, ACCOUNTS) == first
    assert {path: path.stat().st_mtime_ns for path in files} == times


def test_a_new_schedule_renames_no_service_and_a_new_buffer_pool_does(tmp_path):
    services = [services_after(tmp_path, parameters) for parameters in (
        {},
        {"backup": {"logical": {"periodicity": "hourly"}}, "semi-sync": {"enable": True}},
        {"innodb-buffer-pool-size": 67108864},
    )]  # fmt: skip
    assert services[0] == services[1]
    assert services[1] - services[2] == {
        name for name in services[1] if name.startswith("mariadb-") and "control" not in name
    }


def test_parameters_of_replication_rename_no_service(tmp_path):
    replication = dict(CASES["mariadb-replica"]["replication"])
    silent = services_after(tmp_path, {"replication": replication})
    (tmp_path / "srv/mariadb").mkdir()
    loud = replication | {"allow-tcp-connections-on-replica": True}
    with_tcp = services_after(tmp_path, {"replication": loud})
    assert with_tcp == silent
    assert services_after(tmp_path, {}) == with_tcp
    assert services_after(tmp_path, {"replication": loud | {"seconds-behind-master-threshold": 5}}) == with_tcp


def services_after(folder: Path, parameters: dict) -> set[str]:
    render(folder, "mariadb", parameters, ACCOUNTS)
    return {path.name for path in (folder / "etc" / "service").iterdir()}


REFUSED: dict[str, tuple[dict, str]] = {
    "periodicity": (
        {"backup": {"logical": {"periodicity": "61 * * * *"}}},
        "backup.logical.periodicity is '61 * * * *', which is neither daily nor hourly nor a cron expression",
    ),
    "physical periodicity": (
        {"backup": {"physical": {"periodicity": "weekly"}}},
        "backup.physical.periodicity is 'weekly', which is neither daily nor hourly nor a cron expression",
    ),
    "collation": (
        {"collation-server": "latin1_bin"},
        "collation-server: latin1_bin does not belong to character-set-server, which is utf8mb4; "
        "give one that begins with utf8mb4_.",
    ),
    "no such collation": (
        {"collation-server": "utf8mb4_generall_ci"},
        "collation-server: utf8mb4_generall_ci is not a collation that this release's MariaDB knows; "
        "give one that it knows, such as utf8mb4_general_ci.",
    ),
    "memory": (
        {"innodb-buffer-pool-size": 10**15},
        "innodb-buffer-pool-size: 1000000000000000 bytes are more than the machine's memory, ",
    ),
    "both spellings": (
        {"replication": {"primary-url": "mysql://u:p@127.0.0.1:1", "upstream-mariadb-url": "mysql://u:p@127.0.0.1:1"}},
        "replication.upstream-mariadb-url: replication.primary-url says the same and is given too; give one of the two",
    ),
    "no certificate": (
        {"replication": {"primary-url": "mysql://u:p@127.0.0.1:1"}},
        "replication.primary-url: it has no endpoint in its query, where a certificate could be had; give the whole "
        "replication-primary-url that the primary publishes, or caucased-url to have the certificate approved by hand, "
        "or replicate-with-tls false",
    ),
    "duplicated database": (
        {"database-list": [{"name": "a", "user": "b"}, {"name": "a", "user": "c"}]},
        "database-list[1].name: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_schema_cannot_refuse_is_refused_before_anything_is_rendered(case, tmp_path):
    parameters, sentence = REFUSED[case]
    # These are refused by no section, but kept only with all the others.
    parameters = {"tcpv4-port": 20765, "server-id": 4711} | parameters
    finished = process(tmp_path, "mariadb", complete("mariadb", parameters), {})
    assert finished.returncode != 0
    assert f"Error: {sentence}" in finished.stdout
    assert not (tmp_path / "etc").exists()
    kept = {path.name: path.read_text() for path in (tmp_path / "srv" / "kept").iterdir()}
    assert kept == partition.KEPT | {"accounts.json": "{}"}


def test_what_is_chosen_is_kept_as_it_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "KEPT", {})
    rendered = render(tmp_path, "mariadb", {"test-database-amount": 1})
    kept = {path.name: path.read_text().strip() for path in (tmp_path / "srv" / "kept").iterdir()}
    accounts = json.loads(kept.pop("accounts.json"))
    assert kept.keys() == {
        "mariadb-port",
        "backup-port",
        "caucased-port",
        "control-port",
        "replication.json",
        "server-id",
        "administrator-password",
        "replication-password",
        "backup-token",
        "control-token",
    }
    published = json.loads(rendered["published.json"])
    port = kept["mariadb-port"]
    assert published["database-list"] == [f"mysql://erp5:{accounts['erp5']}@127.0.0.1:{port}/erp5"]
    assert published["test-database-list"][0].startswith(f"mysql://testuser_0:{accounts['testuser_0']}@")
    assert published["server-id"] == kept["server-id"]
    assert published["replication-bootstrap-url"] == f"https://127.0.0.1:{kept['backup-port']}/{kept['backup-token']}/"
    assert f":{kept['replication-password']}@" in published["replication-primary-url"]
    assert published["takeover-url"] == f"https://127.0.0.1:{kept['control-port']}/#{kept['control-token']}"
    assert published["monitor-url"].startswith(f"https://127.0.0.1:{kept['control-port']}/metrics#")
    assert kept["control-token"] not in published["monitor-url"]
    assert kept["administrator-password"] in rendered["etc/mariadb.cnf"]


def test_service_script_is_posix_shell(tmp_path):
    rendered = render(tmp_path, "mariadb", {}, ACCOUNTS)
    script = tmp_path / "bin" / "mariadb-service"
    assert rendered["bin/mariadb-service"].startswith("#!/bin/sh\n")
    subprocess.run(["/bin/sh", "-n", str(script)], check=True)
    assert sys.executable not in rendered["bin/mariadb-service"]
