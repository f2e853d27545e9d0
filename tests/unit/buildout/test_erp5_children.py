# SPDX-License-Identifier: GPL-2.0-or-later
"""What an ERP5 instance gives to its children, requests when, publishes, keeps, and refuses."""

import copy

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import requests
from slapos.recipe.erp5.buildout.erp5_children import Recipe
from slapos.recipe.erp5.root import config as configuration
from slapos.recipe.erp5.root import verdict
from tests.render.partition import complete

PRIMARY = "mysql://replication_user:R@127.0.0.1:20000/?endpoint=https%3A%2F%2F127.0.0.1%3A22000"
MARIADB = {
    "database-list": ["mysql://erp5:a%40b@127.0.0.1:20000/erp5", "mysql://shop:s@127.0.0.1:20000/shop"],
    "replication-primary-url": PRIMARY,
    "replication-bootstrap-url": "https://127.0.0.1:22000/token/",
    "takeover-url": "https://127.0.0.1:28000/#" + "1" * 32,
}
NEO = {
    "neo-cluster": "main",
    "neo-masters": "127.0.0.1:30000",
    "neo-admins": "127.0.0.1:31000",
    "neo-partitions": 12,
    "takeover-url": "https://127.0.0.1:28001/#" + "2" * 32,
}
ZOPE = {
    "zopes": [{"name": "default-0", "family": "default", "address": "127.0.0.1:14000"}],
    "control-url": "https://127.0.0.1:28002/#" + "3" * 32,
    "monitor-url": "https://127.0.0.1:28002/metrics#" + "4" * 32,
}
BALANCER = {"family-urls": {"default": "http://127.0.0.1:18000"}}


ASKED = {"database-list": [{"name": "erp5", "user": "erp5"}, {"name": "shop", "user": "shop"}]}
"""What has MariaDB publish that, where it matters."""


class Instance:
    """A root partition: `process` runs the recipe as buildout does, `published` is what the children have, by title."""

    def __init__(self, folder, monkeypatch, title="shop"):
        self.folder, self.title, self.published = folder, title, {}
        self.requests, self.refused = {}, set()
        self.monkeypatch = monkeypatch

    def ask(self, name, software_type, parameters, sla):
        if name in self.refused:
            raise requests.NoPartition("no free partition")
        self.requests[name.removeprefix("shop-")] = (software_type, copy.deepcopy(parameters))
        return self.published.get(name.removeprefix("shop-"), {})

    def process(self, **parameters):
        self.requests.clear()
        options = dict.fromkeys(requests.CONNECTION, "") | {"title": self.title}
        options["configuration"] = complete(
            "default", {key.replace("_", "-"): value for key, value in parameters.items()}
        )
        options["storage-path"] = str(self.folder / "kept/erp5.json")
        options["password-path"] = str(self.folder / "kept/inituser-password")
        self.monkeypatch.setattr(requests, "asker", lambda buildout, connection: self.ask)
        recipe = Recipe(None, "children", options)
        assert recipe.install() == ()
        return options

    def parameters(self, child):
        return self.requests[child][1]

    def refuse(self, **parameters):
        """The sentence with which parameters are refused, without a request."""
        with pytest.raises(UserError) as caught:
            self.process(**parameters)
        assert self.requests == {}
        return str(caught.value)


@pytest.fixture
def instance(tmp_path, monkeypatch):
    return Instance(tmp_path, monkeypatch)


@pytest.fixture
def whole(instance):
    """All of it has published."""
    instance.published = {"mariadb": MARIADB, "neo": NEO, "zope-1": ZOPE, "balancer": BALANCER}
    instance.process()
    return instance


@pytest.fixture
def original(whole):
    """What an original publishes, with names of its own."""
    return {**whole.process()["published"], "neo-partitions": 24}


@pytest.fixture
def replica(tmp_path, monkeypatch, original):
    made = Instance(tmp_path / "replica", monkeypatch)
    made.published = {"mariadb": MARIADB, "neo": NEO | {"neo-cluster": "copy", "neo-partitions": 24}}
    made.process(replica_of=original)
    return made


# ---- who is requested when


def test_zopes_are_requested_once_both_databases_have_published_and_the_balancer_with_the_first_zope(instance):
    options = instance.process()
    assert sorted(instance.requests) == ["mariadb", "neo"]
    assert options["missing"] == ["shop-mariadb", "shop-neo", "shop-zope-1", "shop-balancer"]
    instance.published["mariadb"] = MARIADB
    assert sorted(instance.process()) and sorted(instance.requests) == ["mariadb", "neo"]
    instance.published["neo"] = NEO
    instance.process()
    assert sorted(instance.requests) == ["mariadb", "neo", "zope-1"]
    instance.published["zope-1"] = ZOPE
    options = instance.process()
    assert sorted(instance.requests) == ["balancer", "mariadb", "neo", "zope-1"]
    assert options["missing"] == ["shop-balancer"]
    instance.published["balancer"] = BALANCER
    assert instance.process()["missing"] == []


def test_parameters_are_handed_on(instance):
    instance.published = {"mariadb": MARIADB, "neo": NEO, "zope-1": ZOPE}
    options = instance.process(
        mariadb={"max-connection-count": 50},
        zodb={"neo": {"engine": "MySQL"}, "cache-size": 7, "client-cache-size": 2 << 20},
        zope_partition_dict={"1": {"families": {"web": {"thread-amount": 3}}}},
        inituser_login="boss",
        inituser_password="secret",
        products=["/products"],
        use_ipv6=True,
    )
    assert instance.parameters("mariadb")["max-connection-count"] == 50
    assert instance.parameters("neo")["engine"] == "MySQL"
    assert {instance.parameters(child)["use-ipv6"] for child in instance.requests} == {True}
    assert instance.parameters("zope-1") == {
        "families": {"web": {"instance-count": 1, "thread-amount": 3, "hold": False}},
        "zodb": {
            "type": "neo",
            "neo-cluster": "main",
            "neo-masters": "127.0.0.1:30000",
            "neo-admins": "127.0.0.1:31000",
            "neo-certificate-url": "",
            "cache-size": 7,
            "client-cache-size": 2 << 20,
        },
        "expects-backup": False,
        "mysql-url-list": MARIADB["database-list"],
        "inituser-login": "boss",
        "inituser-password": "secret",
        "products": ["/products"],
        "use-ipv6": True,
    }
    assert instance.parameters("balancer") == {
        "families": {"default": {"addresses": ["127.0.0.1:14000"]}},
        "use-ipv6": True,
    }
    assert [instance.requests[child][0] for child in sorted(instance.requests)] == [
        "balancer",
        "mariadb",
        "neo",
        "zope",
    ]
    assert (options["published"]["inituser-login"], options["published"]["inituser-password"]) == ("boss", "secret")


def test_neo_stays_on_the_addresses_that_it_was_created_with_and_it_is_said(whole):
    """Its partition refuses another value, and would not be processed any more."""
    assert whole.process(use_ipv6=True, mariadb=ASKED)["differences"] == [
        "use-ipv6 is true, but NEO was created with false, and stays so; give false again, or request another instance"
    ]
    assert (whole.parameters("neo")["use-ipv6"], whole.parameters("mariadb")["use-ipv6"]) == (False, True)
    whole.published["neo"] = NEO | {"neo-masters": "[::1]:30000"}
    whole.process()
    assert whole.process(mariadb=ASKED)["differences"] == [
        "use-ipv6 is false, but NEO was created with true, and stays so; give true again, or request another instance"
    ]
    assert whole.parameters("neo")["use-ipv6"] is True
    assert whole.process(zodb={"neo": {"use-ipv6": True}}, mariadb=ASKED)["differences"] == []


def test_what_is_given_to_a_child_is_what_its_schema_allows(whole, replica):
    for instance in (whole, replica):
        for software_type, parameters in instance.requests.values():
            complete(software_type, parameters)


def test_a_family_may_be_in_several_partitions(whole):
    other = {"name": "default-0", "family": "default", "address": "127.0.0.1:14001"}
    whole.published["zope-2"] = ZOPE | {"zopes": [other, other | {"family": "batch", "address": "127.0.0.1:14002"}]}
    whole.process(zope_partition_dict={"1": {}, "2": {}})
    assert whole.parameters("balancer")["families"] == {
        "default": {"addresses": ["127.0.0.1:14000", "127.0.0.1:14001"]},
        "batch": {"addresses": ["127.0.0.1:14002"]},
    }


def test_with_zeo(instance):
    zeo = {
        "zeo-address": "127.0.0.1:9",
        "zeo-storages": ["root"],
        "control-url": "https://127.0.0.1:28001/#" + "2" * 32,
    }
    instance.published = {"mariadb": MARIADB, "zeo": zeo}
    options = instance.process(zodb={"type": "zeo"})
    assert sorted(instance.requests) == ["mariadb", "zeo", "zope-1"]
    assert instance.parameters("zope-1")["zodb"] == {
        "type": "zeo",
        "zeo-address": "127.0.0.1:9",
        "zeo-storage": "root",
        "cache-size": 5000,
        "client-cache-size": 20 << 20,
    }
    assert options["published"]["zeo-address"] == "127.0.0.1:9"
    assert options["published"]["zeo-control-url"] == zeo["control-url"]
    assert "neo-partitions" not in options["published"]
    assert instance.refuse() == (
        "zodb.type: it is neo, but the instance was created with zeo, which no parameter changes; give zeo again, or"
        " request another instance."
    )


def test_the_storage_of_the_zopes_has_to_be_one_of_the_server(instance):
    assert instance.refuse(zodb={"type": "zeo", "zeo-storage": "main", "zeo": {"storages": ["root", "other"]}}) == (
        "zodb.zeo-storage: it is main, but zodb.zeo.storages has root and other; give one of these, or add it."
    )


def test_a_password_that_zope_cannot_be_told_is_refused_before_mariadb_has_it(instance):
    entry = {"name": "erp5", "user": "erp5", "password": "SE CRET"}
    assert instance.refuse(mariadb={"database-list": [entry]}) == (
        "mariadb.database-list[0]: its password has white space, which Zope's MySQL adapter cannot be told, expected a"
        " password without it: use another password"
    )
    assert instance.refuse(inituser_password="a:b").startswith("inituser-password: it has a colon, ")


# ---- what is published


def test_what_is_published(whole):
    published = whole.process()["published"]
    password = (whole.folder / "kept/inituser-password").read_text()
    assert published == {
        "site-id": "erp5",
        "inituser-login": "zope",
        "inituser-password": password,
        "mysql-url-list": MARIADB["database-list"],
        "mariadb-database-list": MARIADB["database-list"],
        "mariadb-replication-primary-url": PRIMARY,
        "mariadb-replication-bootstrap-url": "https://127.0.0.1:22000/token/",
        "mariadb-takeover-url": MARIADB["takeover-url"],
        "neo-cluster": "main",
        "neo-masters": "127.0.0.1:30000",
        "neo-admins": "127.0.0.1:31000",
        "neo-partitions": 12,
        "neo-takeover-url": NEO["takeover-url"],
        "takeover-url": NEO["takeover-url"],
        "zope-1-control-url": ZOPE["control-url"],
        "zope-1-monitor-url": ZOPE["monitor-url"],
        "family-default-url": "http://127.0.0.1:18000",
    }
    assert len(password) == 32 and whole.process()["published"] == published


def test_how_many_partitions_there_are_is_what_neo_says_and_not_a_parameter_that_was_lost(whole):
    whole.published["neo"] = NEO | {"neo-partitions": 24}
    assert whole.process()["published"]["neo-partitions"] == 24


# ---- what stays


def test_a_master_that_refuses_takes_nothing_from_anybody(whole):
    before = whole.process()["published"], dict(whole.requests)
    whole.refused = {"shop-mariadb", "shop-neo", "shop-zope-1"}
    options = whole.process()
    assert (options["published"], options["missing"], options["unsatisfied"]) == (before[0], [], [])
    assert whole.requests == {"balancer": before[1]["balancer"]}


def test_children_without_a_partition_are_named(instance):
    instance.refused = {"shop-neo"}
    assert instance.process()["unsatisfied"] == ["shop-neo"]


def test_a_partition_of_zopes_that_is_not_asked_for_any_more_stays_and_it_is_said(whole):
    whole.published["zope-2"] = ZOPE
    whole.process(zope_partition_dict={"1": {}, "2": {"families": {"web": {"hold": True}}}})
    given = whole.parameters("zope-2")
    options = whole.process(mariadb=ASKED)
    assert whole.parameters("zope-2") == given
    assert options["differences"] == [
        "zope-partition-dict has no 2 any more, but the instance has that partition, whose Zopes run; nothing is"
        " deleted: put it back"
    ]
    assert "zope-2-control-url" in options["published"]


def test_zopes_are_not_connected_to_another_database_by_a_lost_parameter(instance):
    """mysql_0 is the first of the list: another order, or the default in place of what was given, would change it."""
    first, second = MARIADB["database-list"]
    given = [{"name": "shop", "user": "shop"}]
    instance.published = {"mariadb": MARIADB | {"database-list": [second]}, "neo": NEO}
    instance.process(mariadb={"database-list": given})
    instance.published["mariadb"] = MARIADB | {"database-list": [first]}
    options = instance.process()
    assert instance.parameters("zope-1")["mysql-url-list"] == [second, first]
    assert options["published"]["mysql-url-list"] == [second, first]
    assert options["differences"] == [
        "mariadb.database-list has no shop any more, but Zopes are connected to it; nothing is taken away: put it back"
    ]
    changed = second.replace(":s@", ":t@")
    instance.published["mariadb"] = MARIADB | {"database-list": [first, changed]}
    options = instance.process(mariadb={"database-list": [{"name": "erp5", "user": "erp5"}, *given]})
    assert (instance.parameters("zope-1")["mysql-url-list"], options["differences"]) == ([changed, first], [])


def test_the_children_keep_their_names_when_the_instance_is_renamed(whole):
    names = sorted(whole.requests)
    whole.title = "renamed"
    whole.process()
    assert sorted(whole.requests) == names


# ---- a replica of it


def test_a_replica_is_made_of_what_the_other_one_publishes(replica, original):
    mariadb, neo = replica.parameters("mariadb"), replica.parameters("neo")
    assert mariadb["database-list"] == [
        {"name": "erp5", "user": "erp5", "password": "a@b", "with-process-privilege": False},
        {"name": "shop", "user": "shop", "password": "s"},
    ]
    replication = mariadb["replication"]
    assert (replication["primary-url"], replication["bootstrap-url"]) == (PRIMARY, MARIADB["replication-bootstrap-url"])
    assert (replication["control-url"], replication["replicate-with-tls"]) == (MARIADB["takeover-url"], True)
    assert (neo["upstream-cluster"], neo["upstream-masters"], neo["partitions"]) == ("main", "127.0.0.1:30000", 24)
    assert (neo["upstream-control-url"], neo["ssl"]["enable"]) == (NEO["takeover-url"], False)
    zope = replica.parameters("zope-1")
    assert (zope["zodb"]["neo-cluster"], zope["expects-backup"]) == ("copy", True)
    assert zope["inituser-password"] == original["inituser-password"]
    published = replica.process(replica_of=original)["published"]
    assert {key: published[key] for key in ("site-id", "inituser-login", "inituser-password", "neo-partitions")} == {
        key: original[key] for key in ("site-id", "inituser-login", "inituser-password", "neo-partitions")
    }


def test_its_own_login_password_and_site_count_for_nothing(replica, original):
    options = replica.process(
        replica_of=original,
        site_id="other",
        inituser_login="other",
        inituser_password="other",
        zodb={"neo": {"partitions": 3}},
    )
    assert options["published"]["site-id"] == "erp5"
    assert (options["published"]["inituser-login"], replica.parameters("neo")["partitions"]) == ("zope", 24)


def test_tls_follows_what_the_other_one_has(replica, original):
    certificates = {"neo-certificate-url": "http://SECRET@127.0.0.1:24000"}
    plain = {"mariadb-replication-bootstrap-url": "http://127.0.0.1:22000/token/"}
    replica.process(replica_of=original | certificates | plain)
    ssl = replica.parameters("neo")["ssl"]
    assert (ssl["enable"], ssl["upstream-certificate-url"]) == (True, certificates["neo-certificate-url"])
    assert replica.parameters("mariadb")["replication"]["replicate-with-tls"] is False


def test_where_the_primary_cannot_sign_a_person_is_asked(replica, original):
    authority = {"mariadb-caucased-url": "http://127.0.0.1:24000"}
    replica.process(replica_of=original | authority)
    assert replica.parameters("mariadb")["replication"]["caucased-url"] == ""
    replica.process(replica_of=original | authority | {"mariadb-replication-primary-url": PRIMARY.partition("?")[0]})
    assert replica.parameters("mariadb")["replication"]["caucased-url"] == authority["mariadb-caucased-url"]


def test_a_replica_with_tls_stays_one_when_it_is_told_by_pieces_whom_it_follows(original, tmp_path, monkeypatch):
    made = Instance(tmp_path / "replica", monkeypatch)
    made.published = {"mariadb": MARIADB, "neo": NEO | {"neo-cluster": "copy"}}
    made.process(replica_of=original | {"neo-certificate-url": "http://SECRET@127.0.0.1:24000"})
    certificates = "http://NEXT@127.0.0.1:24001"
    next_one = {"upstream-cluster": "next", "upstream-masters": "127.0.0.1:30001"}
    made.process(zodb={"neo": next_one | {"ssl": {"upstream-certificate-url": certificates}}})
    ssl = made.parameters("neo")["ssl"]
    assert (ssl["enable"], ssl["upstream-certificate-url"]) == (True, certificates)


def test_when_replica_of_is_left_out_later_nothing_changes(replica, original):
    replica.process(replica_of=original)
    before = dict(replica.requests)
    options = replica.process()
    assert replica.requests == before
    assert options["published"]["inituser-password"] == original["inituser-password"]


def test_it_may_follow_another_one_later_but_stays_what_it_was_made_of(replica, original):
    other = original | {
        "neo-masters": "127.0.0.1:30009",
        "inituser-password": "x",
        "mysql-url-list": [],
        "site-id": "y",
    }
    options = replica.process(replica_of=other)
    assert replica.parameters("neo")["upstream-masters"] == "127.0.0.1:30009"
    assert options["published"]["site-id"] == "erp5"
    assert replica.parameters("mariadb")["database-list"][0]["password"] == "a@b"
    replica.process()
    assert replica.parameters("neo")["upstream-masters"] == "127.0.0.1:30009"


def test_a_password_that_was_changed_after_a_takeover_can_be_given_as_the_promise_of_mariadb_says(replica, original):
    more = ["mysql://erp5:a%40b@127.0.0.1:20000/more"]
    other = original | {"mysql-url-list": original["mysql-url-list"] + more}
    replica.process(replica_of=other, mariadb={"database-list": [{"name": "erp5", "user": "erp5", "password": "n"}]})
    found = {entry["name"]: entry["password"] for entry in replica.parameters("mariadb")["database-list"]}
    assert found == {"erp5": "n", "shop": "s", "more": "n"}


def test_databases_that_the_original_has_got_since_come_with_what_it_publishes_then(replica, original):
    more = [f"mysql://{user}@127.0.0.1:20000/{name}" for user, name in (("more:m", "more"), ("shop:t", "new"))]
    replica.process(replica_of=original | {"mysql-url-list": more})
    replica.process()
    found = [(entry["name"], entry["password"]) for entry in replica.parameters("mariadb")["database-list"]]
    # A user has one password, and what Zopes call mysql_0 stays that.
    assert found == [("erp5", "a@b"), ("shop", "s"), ("more", "m"), ("new", "s")]


def test_databases_can_be_added_to_a_replica_that_was_taken_over(replica):
    added = {"name": "added", "user": "added", "password": "p"}
    replica.process(mariadb={"database-list": [{"name": "erp5", "user": "erp5"}, added]})
    assert [entry["name"] for entry in replica.parameters("mariadb")["database-list"]] == ["erp5", "shop", "added"]


def test_piece_by_piece(whole):
    whole.published["neo"] = NEO
    whole.process(
        mariadb={"replication": {"primary-url": PRIMARY}},
        zodb={"neo": {"upstream-cluster": "main", "upstream-masters": "127.0.0.1:30000"}},
    )
    assert whole.parameters("mariadb")["replication"]["primary-url"] == PRIMARY
    assert whole.parameters("zope-1")["expects-backup"] is True
    # No promise asks Zopes that stand by to listen because a parameter was lost.
    whole.process()
    assert whole.parameters("zope-1")["expects-backup"] is True


# ---- misuse


def changed(original, remove=(), **values):
    values = {key.replace("_", "-"): value for key, value in values.items()}
    return {key: value for key, value in (original | values).items() if key not in remove}


REMEDY = "expected all that the other ERP5 instance publishes, once it is complete; copy that, as it is."
REFUSED = {
    "something is missing": (
        {"remove": ("neo-masters", "site-id")},
        {},
        f"replica-of: it lacks neo-masters and site-id, {REMEDY}",
    ),
    "of a child": (
        {"remove": ("site-id", "mysql-url-list", "inituser-login")},
        {},
        f"replica-of: it lacks site-id, inituser-login and mysql-url-list, {REMEDY}",
    ),
    "not complete": ({"neo_masters": ""}, {}, f"replica-of: its neo-masters cannot be used, {REMEDY}"),
    "nonsense": (
        {"mysql_url_list": ["http://x"], "neo_partitions": "12", "site_id": 3},
        {},
        f"replica-of: its site-id, neo-partitions and mysql-url-list cannot be used, {REMEDY}",
    ),
    "cut off": (
        {"mariadb_replication_primary_url": PRIMARY[:30]},
        {},
        f"replica-of: its mariadb-replication-primary-url cannot be used, {REMEDY}",
    ),
    "with an authority that Zopes cannot use": (
        {},
        {"zodb": {"neo": {"ssl": {"enable": True, "external-caucased-url": "http://a:1"}}}},
        "zodb.neo.ssl.external-caucased-url: it is given, but Zopes can have certificates of NEO's own authority only;"
        " leave it out.",
    ),
    "of one with a ZEO": (
        {"remove": ("neo-cluster", "neo-masters"), "zeo_address": "127.0.0.1:9"},
        {},
        "replica-of: that ERP5 instance has a ZEO, of which there are no replicas, expected one with NEO; leave"
        " replica-of out.",
    ),
    "with a ZEO": (
        {},
        {"zodb": {"type": "zeo"}},
        "zodb.type: it is zeo, of which there are no replicas, and replica-of is given; leave one of them out.",
    ),
    "with a piece of MariaDB's": (
        {},
        {"mariadb": {"replication": {"primary-url": PRIMARY}}},
        "mariadb.replication.primary-url: it is given, and replica-of, which says it already, is too; leave one of them"
        " out.",
    ),
    "with a piece of NEO's": (
        {},
        {"zodb": {"neo": {"upstream-cluster": "main"}}},
        "zodb.neo.upstream-cluster: it is given, and replica-of, which says it already, is too; leave one of them out.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_misuse_is_refused_and_nobody_is_asked_for_anything(case, original, tmp_path, monkeypatch):
    changes, parameters, sentence = REFUSED[case]
    instance = Instance(tmp_path / "new", monkeypatch)
    refused = instance.refuse(replica_of=changed(original, **changes), **parameters)
    assert (refused, instance.requests) == (sentence, {})


def test_an_instance_with_data_of_its_own_does_not_become_a_replica(whole, original):
    before = whole.process()["published"]
    assert whole.refuse(replica_of=original | {"neo-cluster": "another"}) == (
        "replica-of: it is given, but this ERP5 instance was created without, and has data of its own; leave it out, or"
        " request another instance (after a rejoin, give mariadb.replication and upstream-* of zodb.neo)."
    )
    assert whole.process()["published"] == before


@pytest.mark.parametrize("kept", ["neo-cluster", "neo-masters"])
def test_a_complete_instance_refuses_part_of_it_in_the_same_words(whole, kept):
    own = whole.process()["published"]
    assert whole.refuse(replica_of={kept: own[kept]}).startswith("replica-of: it lacks mariadb-replication-primary-url")


def test_nobody_is_a_replica_of_itself(whole, replica, original):
    sentence = (
        "replica-of: it is what this ERP5 instance publishes itself, expected what another one does; copy that, or"
        " leave replica-of out."
    )
    assert whole.refuse(replica_of=whole.process()["published"]) == sentence
    own = replica.process(replica_of=original)["published"]
    assert replica.refuse(replica_of=own) == sentence


def test_until_the_databases_are_there_the_parameters_can_be_mended(original, tmp_path, monkeypatch):
    fresh = Instance(tmp_path / "fresh", monkeypatch)
    fresh.process(replica_of=original | {"neo-partitions": 3})
    assert fresh.parameters("neo")["partitions"] == 3
    fresh.process(replica_of=original)
    assert fresh.parameters("neo")["partitions"] == 24
    other = Instance(tmp_path / "other", monkeypatch)
    other.process()
    other.process(zodb={"type": "zeo"})
    assert "zeo" in other.requests


@pytest.mark.parametrize("there", [{}, {"mariadb": MARIADB}, {"neo": NEO | {"neo-cluster": "copy"}}])
def test_a_replica_whose_databases_are_being_made_does_not_become_an_original_by_a_lost_parameter(
    there, original, tmp_path, monkeypatch
):
    fresh = Instance(tmp_path / "fresh", monkeypatch)
    fresh.process(replica_of=original)
    before = dict(fresh.requests)
    fresh.published = there
    fresh.process()
    options = fresh.process()
    assert fresh.requests == before
    assert options["published"]["inituser-password"] == original["inituser-password"]
    assert fresh.refuse(zodb={"type": "zeo"}).startswith("zodb.type: it is zeo, ")


def test_one_database_is_enough_to_be_an_original(original, tmp_path, monkeypatch):
    fresh = Instance(tmp_path / "fresh", monkeypatch)
    fresh.published["mariadb"] = MARIADB
    fresh.process()
    assert fresh.refuse(replica_of=original | {"neo-cluster": "x"}).startswith("replica-of: it is given, but this ERP5")


def test_only_what_is_needed_of_the_original_is_kept(replica, original):
    assert original["zope-1-control-url"] not in (replica.folder / "kept/erp5.json").read_text()
    assert original["mariadb-takeover-url"] in (replica.folder / "kept/erp5.json").read_text()


def test_pieces_count_once_replica_of_is_left_out(replica, original):
    """As after a takeover, and a rejoin to the next primary."""
    pieces = {"primary-url": "mysql://replication_user:N@127.0.0.1:20001/?endpoint=https%3A//127.0.0.1:22001"}
    replica.process(mariadb={"replication": pieces})
    assert replica.parameters("mariadb")["replication"]["primary-url"] == pieces["primary-url"]
    assert replica.parameters("mariadb")["replication"]["control-url"] == ""
    assert replica.parameters("neo")["upstream-cluster"] == "main"
    replica.process(zodb={"neo": {"upstream-cluster": "next", "upstream-masters": "127.0.0.1:30001"}})
    neo = replica.parameters("neo")
    assert (neo["upstream-cluster"], neo["upstream-control-url"], neo["partitions"]) == ("next", "", 24)


def test_what_replica_of_says_differently_later_and_stays_is_said(replica, original):
    assert replica.process(replica_of=original | {"neo-masters": "127.0.0.1:30009"})["differences"] == []
    urls = ["mysql://erp5:new@127.0.0.1:20000/erp5", *MARIADB["database-list"][1:]]
    later = original | {"mysql-url-list": urls, "site-id": "new", "neo-partitions": 2}
    assert replica.process(replica_of=later)["differences"] == [
        "replica-of has another site-id and neo-partitions than when the instance was created, which stays; leave"
        " replica-of out, or request another instance",
        "replica-of has another user or password for erp5 than when the instance was created, which stays; give"
        " mariadb.database-list with the present ones",
    ]
    present = {"database-list": [{"name": "erp5", "user": "erp5", "password": "new"}]}
    assert replica.process(replica_of=original | {"mysql-url-list": urls}, mariadb=present)["differences"] == []


def test_the_zopes_do_not_get_another_storage_of_zeo_by_a_lost_parameter(instance):
    zeo = {
        "zeo-address": "127.0.0.1:9",
        "zeo-storages": ["main"],
        "control-url": ZOPE["control-url"],
        "monitor-url": ZOPE["monitor-url"],
    }
    instance.published = {"mariadb": MARIADB, "zeo": zeo}
    given = {"type": "zeo", "zeo": {"storages": ["main"]}, "zeo-storage": "main"}
    instance.process(zodb=given)
    assert instance.refuse(zodb={"type": "zeo"}) == (
        "zodb.zeo-storage: it is root, but the Zopes' objects are in main, which no parameter moves; give main again,"
        " or request another instance."
    )
    instance.process(zodb=given)


# ---- the promise


def test_the_promise_names_who_has_not_published_and_what_differs(whole):
    def judged(**parameters):
        options = whole.process(mariadb=ASKED, **parameters)
        children = tuple(configuration.Child(**child) for child in options["children"])
        found = verdict.complete(configuration.Config("shop", children, tuple(options["differences"])))
        return found.good, found.sentences

    assert judged() == (
        True,
        ("shop-mariadb, shop-neo, shop-zope-1 and shop-balancer are there; their own promises say how they are",),
    )
    good, sentences = judged(zope_partition_dict={"2": {}})
    assert not good
    assert sentences[0] == (
        "shop-zope-2 has not published anything yet, expected all to do so after some processing: see the promises of"
        " those that there are, and whether the node has free partitions"
    )
    assert sentences[1].startswith("zope-partition-dict has no 1 any more, ")
