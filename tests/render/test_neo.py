# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file of the partitions of a NEO cluster and of its nodes, with every optional branch, against golden files."""

import json

import pytest

from tests.render import golden_files, partition
from tests.render.partition import complete, process, render


def addresses(number: int, storages: int, master: bool = True, host: str = "127.0.0.1") -> dict:
    """What the node `number` publishes."""
    return {
        "addresses": {
            "master": f"{host}:{30000 + number}" if master else "",
            "admin": f"{host}:{31000 + number}",
            "storages": [f"{host}:{10000 + 10 * number + one}" for one in range(storages)],
            "control-url": f"https://{host}:{28000 + number}/#{number:032x}",
        }
    }


ONE = {"neo-node-0": addresses(0, 1)}
TWO = {"neo-node-0": addresses(0, 2, host="[::1]"), "neo-node-1": addresses(1, 1, host="[::1]", master=False)}
UPSTREAM = {"upstream-cluster": "main", "upstream-masters": "127.0.0.9:30000 127.0.0.9:30001"}
CONTROL = {"upstream-control-url": "https://127.0.0.9:28000/#" + "a" * 32}
EVERYTHING = (
    {
        "cluster": "backup",
        "partitions": 24,
        "replicas": 1,
        "engine": "MySQL",
        "innodb-buffer-pool-size": 1 << 30,
        "use-ipv6": True,
        "node-list": [{"storage-count": 2, "sla": {"computer_guid": "COMP-1"}}, {"storage-count": 1}],
        "masters": 1,
        "autostart": False,
        "monitor": {"maxlag": 600, "backup-clusters": [{"cluster": "third", "admins": "127.0.0.8:31000"}]},
    }
    | UPSTREAM
    | CONTROL
)
SSL = {"enable": True, "upstream-certificate-url": "http://SECRET@127.0.0.9:24000", "csr-to-sign": ["A REQUEST"]}
EXTERNAL = {"enable": True, "external-caucased-url": "http://127.0.0.7:8009/"}
ASKING = {"neo-node-0": {"addresses": ONE["neo-node-0"]["addresses"] | {"request": "ANOTHER REQUEST"}}}
CASES: dict[str, tuple[dict, dict]] = {
    "neo-default": ({}, ONE),
    "neo-everything": (EVERYTHING, TWO),
    "neo-ssl": (UPSTREAM | {"use-ipv6": True, "ssl": SSL}, ONE),
    "neo-ssl-external": ({"ssl": EXTERNAL}, ASKING),
}
NODE = {
    "cluster": "CLUSTER",
    "masters": ["127.0.0.1:30000", "127.0.0.1:30001"],
    "cluster-control": "127.0.0.1:28000",
    "master": True,
    "storage-count": 1,
    "partitions": 12,
    "replicas": 0,
    "engine": "SQLite",
    "innodb-buffer-pool-size": 128 << 20,
    "autostart": 1,
    "founding": True,
    "upstream-cluster": "",
    "upstream-masters": "",
    "use-ipv6": False,
    "ssl": {"caucased-url": "", "secret": ""},
}
NODE_CASES: dict[str, dict] = {
    "neo-node-default": NODE,
    "neo-node-waiting": NODE | {"masters": []},
    "neo-node-ssl": NODE | {"ssl": {"caucased-url": "http://127.0.0.1:24000", "secret": "SECRET"}},
    "neo-node-ssl-external": NODE | {"ssl": {"caucased-url": "http://127.0.0.7:8009", "secret": ""}},
    "neo-node-mysql": NODE | {"engine": "MySQL", "storage-count": 2},
    "neo-node-backup": NODE | UPSTREAM | {"master": False, "storage-count": 2, "use-ipv6": True, "autostart": 0},
}


@pytest.mark.parametrize("case", CASES)
def test_files_of_a_cluster_are_the_golden_ones(case, tmp_path, request):
    parameters, published = CASES[case]
    rendered = render(tmp_path, "neo", parameters, None, published)
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))


@pytest.mark.parametrize("case", NODE_CASES)
def test_files_of_a_node_are_the_golden_ones(case, tmp_path, request):
    rendered = render(tmp_path, "neo-node", NODE_CASES[case])
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))


def test_only_the_account_itself_may_read_what_is_rendered(tmp_path):
    mysql = NODE_CASES["neo-node-mysql"]
    for number, (software_type, parameters) in enumerate((("neo", {}), ("neo-node", NODE), ("neo-node", mysql))):
        folder = tmp_path / str(number)
        folder.mkdir()
        render(folder, software_type, parameters, None, ONE)
        files = [path for part in ("bin", "etc") for path in (folder / part).rglob("*") if path.is_file()]
        assert len(files) > 3
        assert [str(path) for path in files if path.stat().st_mode & 0o077] == []


def test_a_second_processing_changes_nothing(tmp_path):
    first = render(tmp_path, "neo", {}, None, ONE)
    kept = sorted(path.name for path in (tmp_path / "srv/neo").iterdir())
    assert kept == ["created.json", "told.json"]
    second = render(tmp_path, "neo", {}, None, ONE)
    told, untold = (json.loads(one.pop("requests.json"))["neo-node-0"] for one in (first, second))
    assert [one["parameters"]["masters"] for one in told] == [[], ["127.0.0.1:30000"]]
    assert [one["parameters"]["masters"] for one in untold] == [["127.0.0.1:30000"]]
    assert first == second


def test_until_all_nodes_have_published_nothing_is_but_the_promise_knows(tmp_path):
    parameters = complete("neo", {"node-list": [{"storage-count": 1}, {"storage-count": 1}]})
    finished = process(tmp_path, "neo", parameters, {}, ONE)
    assert finished.returncode != 0
    assert "neo-node-1: no addresses published yet, expected them after some processing." in finished.stdout
    assert not (tmp_path / "published.json").exists() and not (tmp_path / "srv/neo/created.json").exists()
    assert (tmp_path / "etc/plugin/neo-cluster.py").exists()
    configuration = json.loads((tmp_path / "etc/neo.json").read_text())
    assert (configuration["masters"], [node["published"] for node in configuration["nodes"]]) == ([], [True, False])


def test_a_node_starts_nothing_before_it_knows_the_masters_and_new_ones_rename_nothing(tmp_path):
    services = []
    for masters in ([], ["127.0.0.1:30000"], ["127.0.0.1:30000", "127.0.0.1:30001"]):
        render(tmp_path, "neo-node", NODE | {"masters": masters} | (UPSTREAM if len(masters) > 1 else {}))
        services.append(sorted(path.name for path in (tmp_path / "etc/service").iterdir()))
    control = [name for name in services[0] if name.startswith("control-nginx-")] + ["neo-node-control"]
    assert services == [control, *[sorted([*control, "neo-admin", "neo-master", "neo-storage-0"])] * 2]


def test_what_the_schema_cannot_refuse_is_refused_before_anything_is_rendered(tmp_path):
    finished = process(tmp_path, "neo", complete("neo", {"replicas": 1}), {}, {})
    assert finished.returncode != 0
    assert "Error: replicas: 1 need at least 2 storages, and there are 1; give fewer, or add st" in finished.stdout
    assert not (tmp_path / "etc").exists() and not (tmp_path / "requests.json").exists()


def test_another_layout_is_refused_once_there_is_a_database_and_nothing_changes(tmp_path):
    first = render(tmp_path, "neo", {}, None, ONE)
    requests = (tmp_path / "requests.json").read_text()
    finished = process(tmp_path, "neo", complete("neo", {"engine": "MySQL"}), {}, ONE)
    assert finished.returncode != 0
    assert "Error: engine: it is MySQL, but the database was created with SQLite, which no" in finished.stdout
    finished = process(tmp_path, "neo", complete("neo", {"cluster": "other"}), {}, ONE)
    assert finished.returncode != 0
    assert "Error: cluster: it is other, but the database was created with CLUSTER, which no" in finished.stdout
    assert (tmp_path / "etc/neo.json").read_text() == first["etc/neo.json"].replace("/PARTITION", str(tmp_path))
    assert (tmp_path / "srv/kept/cluster-name").read_text() == partition.KEPT["cluster-name"]
    assert (tmp_path / "requests.json").read_text() == requests
