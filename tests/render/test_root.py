# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file of the partition of an ERP5 instance, what it requests and publishes, against golden files."""

import json

import pytest

from tests.render import golden_files
from tests.render.partition import complete, process, render

CONTROL = "https://127.0.0.1:2800{}/#" + "0" * 32
MONITOR = "https://127.0.0.1:2800{}/metrics#" + "1" * 32


def control(number: int, key: str = "takeover-url") -> dict:
    return {key: CONTROL.format(number), "monitor-url": MONITOR.format(number)}


MARIADB = {
    "database-list": ["mysql://erp5:PASSWORD@127.0.0.1:20000/erp5"],
    "test-database-list": [],
    "server-id": "1",
    "replication-primary-url": "mysql://replication_user:REPLICATION@127.0.0.1:20000/?endpoint=https%3A%2F%2F127.0.0.1%3A22000",
    "replication-bootstrap-url": "https://127.0.0.1:22000/TOKEN/",
    "replication-mariabackup-url": "",
    "caucased-url": "http://127.0.0.1:24000",
    "caucased-csr-to-sign": "",
    **control(0),
}
NEO = {
    "neo-cluster": "CLUSTER",
    "neo-masters": "127.0.0.1:30000",
    "neo-admins": "127.0.0.1:31000",
    "neo-partitions": 24,
    **control(1),
}
ZEO = {"zeo-address": "127.0.0.1:9000", "zeo-storages": ["root"], **control(1, "control-url")}


def zopes(number: int, *families: str) -> dict:
    found = [
        {"name": f"{family}-0", "family": family, "address": f"127.0.0.1:14{number}0{place}"}
        for place, family in enumerate(families)
    ]
    user = {"inituser-login": "zope", "inituser-password": "PASSWORD"}
    return {"zopes": found, **user, **control(number + 2, "control-url")}


def others(**kinds: dict) -> dict:
    return {f"an instance-{kind.replace('_', '-')}": published for kind, published in kinds.items()}


ORIGINAL = others(
    mariadb=MARIADB,
    neo=NEO,
    zope_1=zopes(0, "default"),
    balancer={"family-urls": {"default": "http://127.0.0.1:18000"}},
)
REPLICA_OF = {
    "site-id": "erp5",
    "inituser-login": "boss",
    "inituser-password": "ITS PASSWORD",
    "mysql-url-list": ["mysql://shop:ITS%20SECRET@127.0.0.9:20000/shop"],
    "mariadb-replication-primary-url": "mysql://replication_user:ITS@127.0.0.9:20000/?endpoint=https%3A%2F%2F127.0.0.1%3A22000",
    "mariadb-replication-bootstrap-url": "https://127.0.0.9:22000/ITS/",
    "mariadb-takeover-url": "https://127.0.0.9:28000/#" + "8" * 32,
    "neo-cluster": "main",
    "neo-masters": "127.0.0.9:30000",
    "neo-partitions": 24,
    "neo-takeover-url": "https://127.0.0.9:28001/#" + "9" * 32,
    "neo-certificate-url": "http://ITS@127.0.0.9:24000",
    "family-default-url": "http://127.0.0.9:18000",
}
FAMILIES = {"a": {"families": {"web": {"instance-count": 2}, "batch": {"hold": True}}}, "b": {"families": {"web": {}}}}
CASES: dict[str, tuple[dict, dict]] = {
    "root-default": ({}, ORIGINAL),
    "root-replica": ({"replica-of": REPLICA_OF}, ORIGINAL),
    "root-zeo": (
        {"zodb": {"type": "zeo"}, "zope-partition-dict": FAMILIES, "use-ipv6": True, "inituser-password": "GIVEN"},
        others(
            mariadb=MARIADB,
            zeo=ZEO,
            zope_a=zopes(0, "web", "batch"),
            zope_b=zopes(1, "web"),
            balancer={"family-urls": {"web": "http://127.0.0.1:18000", "batch": "http://127.0.0.1:18001"}},
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_files_of_an_erp5_instance_are_the_golden_ones(case, tmp_path, request):
    parameters, published = CASES[case]
    rendered = render(tmp_path, "default", parameters, None, published)
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))
    for name, asked in json.loads(rendered["requests.json"]).items():
        complete(asked[-1]["software-type"], asked[-1]["parameters"])
        assert len(asked) == 1, name


def test_until_all_have_published_nothing_is_but_the_promise_knows(tmp_path):
    published = {name: values for name, values in ORIGINAL.items() if not name.endswith("balancer")}
    finished = process(tmp_path, "default", complete("default", {}), {}, published)
    assert finished.returncode != 0
    assert "an instance-balancer: no values published yet, expected them after some processing." in finished.stdout
    assert not (tmp_path / "published.json").exists()
    assert (tmp_path / "etc/plugin/erp5-instance.py").exists()
    children = json.loads((tmp_path / "etc/erp5.json").read_text())["children"]
    assert [child["published"] for child in children] == [True, True, True, False]


def test_only_the_account_itself_may_read_what_is_rendered_and_kept(tmp_path):
    render(tmp_path, "default", {}, None, ORIGINAL)
    files = [path for part in ("etc", "srv") for path in (tmp_path / part).rglob("*") if path.is_file()]
    ours = [path for path in files if "kept" not in path.parts or path.name == "erp5.json"]
    assert {"srv/kept/erp5.json", "etc/erp5.json"} <= {str(path.relative_to(tmp_path)) for path in ours}
    assert [str(path) for path in ours if path.stat().st_mode & 0o077] == []


def test_a_second_processing_changes_nothing(tmp_path):
    first = render(tmp_path, "default", {}, None, ORIGINAL)
    assert render(tmp_path, "default", {}, None, ORIGINAL) == first
