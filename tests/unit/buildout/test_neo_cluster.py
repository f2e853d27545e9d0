# SPDX-License-Identifier: GPL-2.0-or-later
"""What a NEO cluster is created as, what later parameters do to it, and what its nodes are told when."""

import json

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import neo_nodes, requests
from slapos.recipe.erp5.buildout.complete import Recipe as Complete
from slapos.recipe.erp5.buildout.neo_addresses import Recipe as Addresses
from slapos.recipe.erp5.buildout.neo_cluster import Recipe as Cluster
from slapos.recipe.erp5.buildout.neo_nodes import Recipe as Nodes

DEFAULTS = {
    "cluster": None,
    "partitions": 12,
    "replicas": 0,
    "engine": "SQLite",
    "use-ipv6": False,
    "storage-count": None,
    "node-list": [],
    "masters": 1,
    "autostart": True,
    "upstream-cluster": "",
    "upstream-masters": "",
    "ssl": {"enable": False, "upstream-certificate-url": "", "external-caucased-url": "", "csr-to-sign": []},
}
EXTERNAL = "http://127.0.0.7:8009"


def ssl(**values):
    return {"ssl": DEFAULTS["ssl"] | {"enable": True} | {key.replace("_", "-"): value for key, value in values.items()}}


UPSTREAM = {"upstream-cluster": "main", "upstream-masters": "127.0.0.9:30000"}


def nodes(*counts, **sla):
    return {"node-list": [{"storage-count": count, "sla": sla} for count in counts]}


class Instance:
    """A cluster's partition: `process` runs the recipes as buildout does, `published` is what the nodes have."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.published, self.requests, self.refuses = folder, {}, [], False
        self.ssl, self.homeless = {"caucased-url": "", "secret": ""}, set()
        monkeypatch.setattr(neo_nodes, "asker", lambda buildout, connection: self.ask)

    def ask(self, name, parameters, sla):
        if self.refuses:
            raise UserError("no")
        if name in self.homeless:
            raise requests.NoPartition("no free partition")
        self.requests.append((name, parameters, sla))
        return self.published.get(name, {})

    def publish(self, *names, master=True):
        for name in names:
            number = name[-1]
            self.published[name] = {"master": f"a:3000{number}" if master else "", "admin": f"a:3100{number}"}

    def process(self, **parameters):
        self.requests.clear()
        configuration = DEFAULTS | {key.replace("_", "-"): value for key, value in parameters.items()}
        options = {"configuration": configuration, "cluster": configuration["cluster"] or "kept"}
        options["storage-path"] = str(self.folder / "neo/created.json")
        Cluster(None, "cluster", options)
        more = dict.fromkeys(requests.CONNECTION, "")
        more |= {"created-path": options["storage-path"], "told-path": str(self.folder / "neo/told.json")}
        options |= more | {"autostart": configuration["autostart"], "ssl": self.ssl}
        options |= {"innodb-buffer-pool-size": 128 << 20, "control-ip": "::1", "control-port": "28000"}
        assert Nodes(None, "nodes", options).install() == ()
        return options

    def told(self):
        """The masters that each node was last told of."""
        return {name: parameters["masters"] for name, parameters, _ in self.requests}


@pytest.fixture
def instance(tmp_path, monkeypatch):
    return Instance(tmp_path, monkeypatch)


@pytest.fixture
def created(instance):
    """One of two nodes, of which the first has a master."""
    instance.publish("neo-node-0")
    instance.publish("neo-node-1", master=False)
    instance.process(**nodes(2, 1))
    return instance


REFUSED = {
    "masters": (
        {"masters": 3, **nodes(1, 1)},
        "masters: 3 masters need as many nodes, and there are 2; give fewer, or add nodes to node-list.",
    ),
    "replicas": (
        {"replicas": 2, "storage-count": 2},
        "replicas: 2 need at least 3 storages, and there are 2; give fewer, or add storages.",
    ),
    "both": (
        {"storage-count": 2, **nodes(1)},
        "storage-count: node-list says it of each node; give one of the two.",
    ),
    "TLS that is off": (
        ssl(enable=False, csr_to_sign=["x"]),
        "ssl.csr-to-sign: it is given and ssl.enable is false; make that true, or leave it out.",
    ),
    "two authorities": (
        ssl(external_caucased_url=EXTERNAL, upstream_certificate_url="http://s@a:1"),
        f"ssl.upstream-certificate-url: the authority {EXTERNAL} is used, which we are not; have requests signed there,"
        " for the upstream and its backup alike, and leave it out.",
    ),
    "no URL of certificates": (
        ssl(upstream_certificate_url="http://127.0.0.1:24000"),
        "ssl.upstream-certificate-url: it is not http://secret@host:port, expected what the upstream publishes as "
        "neo-certificate-url",
    ),
    "upstream without masters": (
        {"upstream-cluster": "main"},
        "upstream-masters: it is empty and upstream-cluster is not;"
        " give both, as the upstream publishes them, or none.",
    ),
    "upstream without cluster": (
        {"upstream-masters": "127.0.0.1:30000"},
        "upstream-cluster: it is empty and upstream-masters is not;"
        " give both, as the upstream publishes them, or none.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nonsense_is_refused_and_nobody_is_asked_for_anything(case, instance):
    parameters, sentence = REFUSED[case]
    with pytest.raises(UserError) as caught:
        instance.process(**parameters)
    assert (str(caught.value), instance.requests) == (sentence, [])


def test_nodes_are_told_of_the_masters_once_all_have_published(instance):
    wanted = {"masters": 2, **nodes(2, 1, 1, computer_guid="COMP-1")}
    options = instance.process(**wanted)
    assert options["missing"] == ["neo-node-0", "neo-node-1", "neo-node-2"]
    instance.publish("neo-node-0", "neo-node-2")
    options = instance.process(**wanted)
    assert (options["missing"], options["masters"], options["masters-text"]) == (["neo-node-1"], [], "")
    assert set(map(tuple, instance.told().values())) == {()}
    assert not (instance.folder / "neo").exists()
    instance.publish("neo-node-1")
    instance.publish("neo-node-2", master=False)
    options = instance.process(**wanted)
    assert options["missing"] == []
    assert (options["masters-text"], options["admins-text"]) == ("a:30000 a:30001", "a:31000 a:31001 a:31002")
    assert instance.told() == dict.fromkeys(instance.published, ["a:30000", "a:30001"])
    assert [parameters["master"] for _, parameters, _ in instance.requests] == [True, True, False] * 2
    assert {json.dumps(sla) for _, _, sla in instance.requests} == {'{"computer_guid": "COMP-1"}'}
    assert {parameters["autostart"] for _, parameters, _ in instance.requests} == {4}
    assert {parameters["engine"] for _, parameters, _ in instance.requests} == {"SQLite"}
    assert {parameters["cluster-control"] for _, parameters, _ in instance.requests} == {"[::1]:28000"}
    assert len(instance.requests) == 6
    instance.process(**wanted)
    assert len(instance.requests) == 3


def complete(missing, unsatisfied=()):
    return Complete(None, "complete", {"what": "addresses", "missing": missing, "unsatisfied": unsatisfied}).install()


def test_processing_fails_until_all_nodes_have_published():
    with pytest.raises(UserError) as caught:
        complete(["neo-node-0", "neo-node-1"])
    assert str(caught.value) == (
        "neo-node-0, neo-node-1: no addresses published yet, expected them after some processing."
    )
    with pytest.raises(UserError) as caught:
        complete(["neo-node-0", "neo-node-1"], ["neo-node-1"])
    assert str(caught.value) == (
        "neo-node-1: no partition yet, expected the Master to give one: see that a computer which fits (sla) has a free"
        " partition. neo-node-0: no addresses published yet, expected them after some processing."
    )
    assert complete([]) == ()


def test_a_node_without_a_partition_is_told_from_one_that_has_published_nothing(instance):
    instance.homeless = {"neo-node-1"}
    options = instance.process(**nodes(1, 1))
    assert (options["missing"], options["unsatisfied"]) == (["neo-node-0", "neo-node-1"], ["neo-node-1"])
    assert [one["has-partition"] for one in options["found"]] == [True, False]


def test_a_master_that_refuses_changes_nothing(created):
    created.refuses = True
    options = created.process(**nodes(2, 1))
    assert options["missing"] == ["neo-node-0", "neo-node-1"]
    assert (options["masters"], options["admins"]) == (["a:30000"], ["a:31000", "a:31001"])


def test_a_shorter_node_list_takes_no_storage_away_so_that_replicas_and_masters_have_enough(instance):
    wanted = {"replicas": 1, "masters": 2}
    instance.publish("neo-node-0", "neo-node-1")
    instance.process(**wanted, **nodes(1, 1))
    options = instance.process(**wanted, **nodes(1))
    assert [(node["name"], node["listed"]) for node in options["nodes"]] == [
        ("neo-node-0", True),
        ("neo-node-1", False),
    ]
    assert options["differences"] == [
        "neo-node-1 is not in node-list any more, but the cluster has it, with one storage; nothing is deleted: put it"
        " back into node-list"
    ]
    with pytest.raises(UserError, match="^masters: 3 masters need as many nodes, and there are 1; give fewer, or add"):
        instance.process(**wanted | {"masters": 3}, **nodes(1))


def test_until_there_is_a_database_the_parameters_can_be_mended(instance):
    assert instance.process(**UPSTREAM, partitions=3)["upstream"]["cluster"] == "main"
    instance.publish("neo-node-0")
    options = instance.process(partitions=5)
    assert (options["upstream"], options["partitions"]) == (None, 5)


@pytest.mark.parametrize(
    "parameter, value, before",
    [
        ("engine", "MySQL", "SQLite"),
        ("partitions", 13, "12"),
        ("replicas", 1, "0"),
        ("use-ipv6", True, "false"),
        ("cluster", "other", "kept"),
    ],
)
def test_another_layout_is_refused_once_there_is_a_database(created, parameter, value, before):
    with pytest.raises(UserError) as caught:
        created.process(**{parameter: value}, **nodes(2, 1))
    assert str(caught.value) == (
        f"{parameter}: it is {json.dumps(value).strip(chr(34))}, but the database was created with {before}, which no"
        f" parameter changes; give {before} again, or request another instance."
    )
    assert created.requests == []


@pytest.mark.parametrize(
    "given, parameter, value, before",
    [(ssl(), "ssl.enable", "true", "false"), (ssl(external_caucased_url=EXTERNAL), "ssl.enable", "true", "false")],
)
def test_a_database_gets_no_other_authority(created, given, parameter, value, before):
    with pytest.raises(UserError, match=f"^{parameter}: it is {value}, but the database was created with {before}, "):
        created.process(**given, **nodes(2, 1))


def test_nodes_are_told_of_the_authority_and_their_requests_are_passed_on(instance):
    instance.ssl = {"caucased-url": EXTERNAL, "secret": ""}
    instance.publish("neo-node-0")
    instance.published["neo-node-0"]["request"] = "REQUEST"
    options = instance.process(**ssl(external_caucased_url=EXTERNAL))
    assert [parameters["ssl"] for _, parameters, _ in instance.requests] == [instance.ssl] * 2
    assert options["requests"] == "REQUEST"
    assert "request" not in options["found"][0]


def test_the_upstream_counts_when_the_database_is_created_alone(created):
    options = created.process(**UPSTREAM, **nodes(2, 1))
    assert options["upstream"] is None
    assert options["requested-upstream"] == {"cluster": "main", "masters": "127.0.0.9:30000"}
    assert {parameters["upstream-cluster"] for _, parameters, _ in created.requests} == {""}


def test_a_backup_stays_what_it_was_created_as(instance):
    instance.publish("neo-node-0")
    instance.process(**UPSTREAM)
    options = instance.process()
    assert (options["upstream"]["cluster"], options["requested-upstream"]) == ("main", None)
    assert {parameters["upstream-masters"] for _, parameters, _ in instance.requests} == {"127.0.0.9:30000"}


def test_a_node_that_is_added_is_told_and_the_others_only_when_it_changes_the_masters(created):
    options = created.process(**nodes(2, 1, 1))
    assert (options["missing"], options["masters"]) == (["neo-node-2"], ["a:30000"])
    assert created.told() == dict.fromkeys(["neo-node-0", "neo-node-1", "neo-node-2"], ["a:30000"])
    created.publish("neo-node-2", master=False)
    created.process(**nodes(2, 1, 1))
    assert len(created.requests) == 3
    assert [parameters["founding"] for _, parameters, _ in created.requests] == [True, True, False]
    created.publish("neo-node-1")
    created.process(masters=2, **nodes(2, 1, 1))
    assert set(map(tuple, created.told().values())) == {("a:30000", "a:30001")}


def test_nothing_that_there_is_goes_away_and_it_is_said(created):
    created.publish("neo-node-1")
    created.process(masters=2, **nodes(2, 3))
    options = created.process(masters=1, **nodes(1, 1))
    assert options["differences"] == [
        "storage-count of neo-node-0 is 1, but it has 2 storages; nothing is deleted: give 2 again",
        "storage-count of neo-node-1 is 1, but it has 3 storages; nothing is deleted: give 3 again",
    ]
    asked = {name: (parameters["master"], parameters["storage-count"]) for name, parameters, _ in created.requests}
    assert asked == {"neo-node-0": (True, 2), "neo-node-1": (True, 3)}
    options = created.process(masters=1, **nodes(2, 3))
    assert options["differences"] == ["masters is 1, but neo-node-1 has a master; nothing is deleted: give 2 again"]
    options = created.process(storage_count=2)
    assert options["differences"] == [
        "neo-node-1 is not in node-list any more, but the cluster has it, with 3 storages; nothing is deleted: put it"
        " back into node-list"
    ]
    assert [node["listed"] for node in options["found"]] == [True, False]
    assert options["missing"] == [] and len(created.requests) == 2


def test_a_file_that_cannot_be_read_is_no_reason_to_begin_anew(created):
    path = created.folder / "neo/created.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="created.json lacks: cluster, engine, nodes"):
        created.process(**nodes(2, 1))
    assert (path.read_text(), created.requests) == ("{}", [])


def test_addresses_of_a_node():
    options = {"ip": "::1", "master": True, "storage-count": 2, "master-port": "1", "admin-port": "2"}
    options |= {"storage-port": "3", "control-url": "https://[::1]:4/#token", "request": ""}
    Addresses(None, "addresses", options)
    assert options["addresses"] == {
        "master": "[::1]:1",
        "admin": "[::1]:2",
        "storages": ["[::1]:3", "[::1]:4"],
        "control-url": "https://[::1]:4/#token",
    }
    options |= {"ip": "127.0.0.1", "master": False}
    Addresses(None, "addresses", options)
    assert (options["addresses"]["master"], options["addresses"]["admin"]) == ("", "127.0.0.1:2")
    options |= {"request": "REQUEST"}
    Addresses(None, "addresses", options)
    assert options["addresses"]["request"] == "REQUEST"
