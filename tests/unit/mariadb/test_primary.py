# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary's URL, and both spellings of the parameter that names it."""

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import primary
from slapos.recipe.erp5.mariadb.primary import Primary

SECRET = "s3cret/?#@:%"
COMPLETE = {
    "primary-url": "",
    "bootstrap-url": "",
    "caucased-url": "",
    "seconds-behind-master-threshold": 0,
    "allow-tcp-connections-on-replica": True,
    "replicate-with-tls": True,
}
URL = "mysql://u:p@127.0.0.1:20000?endpoint=https%3A%2F%2F127.0.0.1%3A22000"


@pytest.mark.parametrize(
    "one",
    [
        Primary("127.0.0.1", 20000, "replication_user", SECRET),
        Primary("::1", 20000, "replication user", SECRET, "https://[::1]:22000"),
    ],
)
def test_a_url_says_all_of_a_primary(one):
    assert primary.parse(primary.url(one)) == one
    assert SECRET not in repr(one)


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("mysql://u:secret@127.0.0.1", "it lacks a part or has another one"),
        ("mysql://u@127.0.0.1:1", "it lacks a part or has another one"),
        ("mysql://u:secret@127.0.0.1:1/erp5", "it lacks a part or has another one"),
        ("http://u:secret@127.0.0.1:1", "it lacks a part or has another one"),
        ("mysql://u:secret@127.0.0.1:port", "it is no URL"),
        ("mysql://u:secret@[::1:1", "it is no URL"),
        ("mysql://u:secret@primary.example:1", "its host is no IP address"),
        ("mysql://u:secret@127.0.0.1:1?endpoint=http://x", "its query is not endpoint=https://..."),
        ("mysql://u:secret@127.0.0.1:1?endpint=https://x", "its query is not endpoint=https://..."),
    ],
)
def test_what_is_no_url_is_refused_without_its_password(url, sentence):
    with pytest.raises(ConfigurationError) as caught:
        primary.parse(url)
    assert str(caught.value).startswith(f"replication.primary-url: {sentence}")
    assert "secret" not in str(caught.value)


def test_a_primary_has_none():
    assert primary.translate({**COMPLETE, **dict.fromkeys(primary.SYNONYMS, "")}) is None


def test_synonyms_are_translated():
    given = {
        **COMPLETE,
        "upstream-mariadb-url": URL,
        "upstream-bootstrap-url": "dumps",
        "upstream-mariabackup-url": "backups",
        "upstream-caucased-url": "authority",
    }
    expected = {**COMPLETE, "primary-url": URL, "bootstrap-url": "backups", "caucased-url": "authority"}
    assert primary.translate(given) == expected
    del given["upstream-mariabackup-url"]
    assert primary.translate(given) == {**expected, "bootstrap-url": "dumps"}


@pytest.mark.parametrize("synonym", primary.SYNONYMS)
def test_both_spellings_at_once_are_refused(synonym):
    name = primary.SYNONYMS[synonym]
    with pytest.raises(ConfigurationError) as caught:
        primary.translate({"primary-url": URL, synonym: "x", name: "y"})
    assert str(caught.value) == (
        f"replication.{synonym}: replication.{name} says the same and is given too; give one of the two"
    )


@pytest.mark.parametrize("name", ["bootstrap-url", "upstream-bootstrap-url", "caucased-url"])
def test_something_of_no_primary_is_refused(name):
    with pytest.raises(ConfigurationError, match="replication.primary-url: missing, and replication.(boot|cauc)"):
        primary.translate({**COMPLETE, name: "x"})


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"primary-url": "mysql://u:p@[::1]:1", "replicate-with-tls": False}, "where TLS is required"),
        ({"primary-url": "mysql://u:p@127.0.0.1:1"}, "it has no endpoint in its query"),
    ],
)
def test_what_could_never_work_is_refused(changes, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        primary.check(primary.translate({**COMPLETE, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"primary-url": URL},
        {"primary-url": "mysql://u:p@127.0.0.1:1", "replicate-with-tls": False},
        {"primary-url": "mysql://u:p@127.0.0.1:1", "caucased-url": "http://x"},
    ],
)
def test_what_can_work_passes(changes):
    primary.check(primary.translate({**COMPLETE, **changes}))
