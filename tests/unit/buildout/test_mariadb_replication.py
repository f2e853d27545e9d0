# SPDX-License-Identifier: GPL-2.0-or-later
"""What a database is created as, and what is published for replicas of it."""

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout.mariadb_replication import Recipe
from slapos.recipe.erp5.buildout.mariadb_urls import urls
from slapos.recipe.erp5.mariadb import primary
from slapos.recipe.erp5.mariadb.primary import Primary

URL = "mysql://upstream:s3cret@127.0.0.1:20000?endpoint=https%3A%2F%2F127.0.0.1%3A22000"
NONE = {
    "primary-url": "",
    "bootstrap-url": "",
    "caucased-url": "",
    "seconds-behind-master-threshold": 0,
    "allow-tcp-connections-on-replica": True,
    "replicate-with-tls": True,
    **dict.fromkeys(primary.SYNONYMS, ""),
}


@pytest.fixture
def processed(tmp_path):
    """Processes the section with a parameter `replication`; returns its options."""

    def process(authority="", **replication):
        options = {
            "configuration": {
                "replication": NONE | {key.replace("_", "-"): val for key, val in replication.items()},
                "caucased": {"external-caucased-url": authority},
            },
            "data-directory": str(tmp_path / "srv/mariadb"),
            "storage-path": str(tmp_path / "srv/kept/replication.json"),
        }
        recipe = Recipe(None, "replication", options)
        assert recipe.install() == recipe.update() == ()
        return options

    return process


def said(options):
    return options["is-replica"], options["user"], options["password"]


def test_a_primary_stays_one_whatever_is_asked_for_later(processed, tmp_path):
    assert said(processed()) == (False, "replication_user", "")
    (tmp_path / "srv/mariadb").mkdir()
    options = processed(primary_url=URL)
    assert said(options) == (False, "replication_user", "")
    assert options["replication"]["primary-url"] == URL


def test_a_replica_has_its_account_from_upstream_and_keeps_it(processed, tmp_path):
    assert said(processed(upstream_mariadb_url=URL)) == (True, "upstream", "s3cret")
    (tmp_path / "srv/mariadb").mkdir()
    assert said(processed()) == (True, "upstream", "")
    assert said(processed(primary_url=URL.replace("s3cret", "another"))) == (True, "upstream", "")


def test_until_there_is_a_database_the_parameters_can_be_mended(processed):
    assert said(processed(primary_url=URL)) == (True, "upstream", "s3cret")
    assert said(processed(primary_url=URL.replace("s3cret", "right"))) == (True, "upstream", "right")
    replica, user, password = said(processed())
    assert (replica, user) == (False, "replication_user")
    assert len(password) == 32 and password.isalnum()  # the other primary's is not to become ours
    assert said(processed()) == (False, "replication_user", "")


def test_a_database_from_before_is_a_primary(processed, tmp_path):
    (tmp_path / "srv/mariadb").mkdir(parents=True)
    assert said(processed(primary_url=URL)) == (False, "replication_user", "")


def test_nonsense_is_refused_and_nothing_written(processed, tmp_path):
    with pytest.raises(UserError) as caught:
        processed(primary_url=URL, upstream_mariadb_url=URL)
    assert "s3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_bootstrap_url_that_is_none_is_refused_without_its_token(processed):
    with pytest.raises(UserError) as caught:
        processed(primary_url=URL, bootstrap_url="https://127.0.0.1:22000/s3cret/#sometimes")
    assert str(caught.value).startswith("replication.bootstrap-url: behind its # is none of live, physical, dump, exp")
    assert "s3cret" not in str(caught.value)


def test_a_broken_memory_is_no_memory_of_a_primary(processed, tmp_path):
    processed(primary_url=URL)
    (tmp_path / "srv/mariadb").mkdir()
    (tmp_path / "srv/kept/replication.json").write_text("{}")
    with pytest.raises(UserError, match="should say what this partition's database was created as"):
        processed()


VALUES = {
    "ipv4": "127.0.0.1",
    "ipv6": "",
    "port": "20000",
    "backup-port": "22000",
    "caucased-port": "24000",
    "user": "replication_user",
    "password": "p/w",
    "token": "TOKEN",
    "control-port": "26000",
    "control-token": "0123456789abcdef0123456789abcdef",
}


def published(ipv6="", tls=True, physical=False, external=""):
    parameters = {
        "replicas-use-tls": tls,
        "backup": {"physical": {"enable": physical}},
    }
    return urls(parameters, VALUES | {"ipv6": ipv6, "authority": external})


def test_what_replicas_need_is_published():
    found = published()
    assert primary.parse(found["primary"]) == Primary(
        "127.0.0.1", 20000, "replication_user", "p/w", "https://127.0.0.1:22000"
    )
    assert found["bootstrap"] == "https://127.0.0.1:22000/TOKEN/"
    assert found["mariabackup"] == ""
    assert found["caucased"] == "http://127.0.0.1:24000"
    assert published(physical=True)["mariabackup"] == found["bootstrap"]
    assert found["takeover"] == "https://127.0.0.1:26000/#0123456789abcdef0123456789abcdef"
    assert found["monitor"].startswith("https://127.0.0.1:26000/metrics#")
    assert published(ipv6="::1")["takeover"].startswith("https://[::1]:26000/#")
    assert published(external="http://[::1]:1")["caucased"] == "http://[::1]:1"


def test_the_authority_is_what_it_was_at_the_creation(processed, tmp_path):
    def authority(**values):
        options = processed(**values)
        return options["authority"], options["authority-differs"]

    assert authority() == ("", False)
    assert authority(authority="http://[::1]:1") == ("http://[::1]:1", False)
    (tmp_path / "srv/mariadb").mkdir()
    assert authority() == ("http://[::1]:1", True)
    assert authority(authority="http://[::1]:2") == ("http://[::1]:1", True)
    assert authority(authority="http://[::1]:1") == ("http://[::1]:1", False)


def test_where_we_cannot_sign_there_is_no_endpoint():
    assert primary.parse(published(external="http://[::1]:1")["primary"]).endpoint == ""


def test_without_tls_there_is_no_endpoint():
    found = published(tls=False)
    assert primary.parse(found["primary"]).endpoint == ""
    assert found["bootstrap"] == "http://127.0.0.1:22000/TOKEN/"


def test_on_ipv6_there_is_always_tls():
    found = published(ipv6="::1", tls=False)
    assert primary.parse(found["primary"]) == Primary("::1", 20000, "replication_user", "p/w", "https://[::1]:22000")
    assert found["bootstrap"] == "https://[::1]:22000/TOKEN/"
    assert found["caucased"] == "http://[::1]:24000"
