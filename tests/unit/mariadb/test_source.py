# SPDX-License-Identifier: GPL-2.0-or-later
"""What a bootstrap URL says."""

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import source
from slapos.recipe.erp5.mariadb.source import Source, parse_bootstrap_url

NAME = "20261122T000000Z.full.zst"
LIST = ("https", "2001:db8::1", 22000, "/TOKEN/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://[2001:db8::1]:22000/TOKEN/", Source("any", *LIST)),
        ("https://[2001:db8::1]:22000/TOKEN", Source("any", *LIST)),
        ("https://[2001:db8::1]:22000/TOKEN/manifest.json", Source("any", *LIST)),
        ("https://[2001:db8::1]:22000/TOKEN/#live", Source("live", *LIST)),
        ("https://[2001:db8::1]:22000/TOKEN/#physical", Source("physical", *LIST)),
        ("https://[2001:db8::1]:22000/TOKEN/manifest.json#dump", Source("dump", *LIST)),
        (f"https://[2001:db8::1]:22000/TOKEN/{NAME}", Source("named", *LIST, NAME)),
        ("http://10.0.0.1/x/", Source("any", "http", "10.0.0.1", 80, "/x/")),
        ("https://backups.example", Source("any", "https", "backups.example", 443, "/")),
        ("http://h/a/b.sql", Source("plain", "http", "h", 80, "/a/b.sql", "b.sql")),
        ("http://h/a/b.sql.gz#dump", Source("plain", "http", "h", 80, "/a/b.sql.gz", "b.sql.gz")),
        ("http://h/a/%20b.sql.zst?sig=1", Source("plain", "http", "h", 80, "/a/%20b.sql.zst?sig=1", "%20b.sql.zst")),
        (
            "http://h/a/20261122T000000Z.sql.zst",
            Source("named", "http", "h", 80, "/a/", "20261122T000000Z.sql.zst"),
        ),
    ],
)
def test_a_url(url, expected):
    assert parse_bootstrap_url(url) == expected


@pytest.mark.parametrize(
    ("url", "observed"),
    [
        ("SECRET", "it is no http or https URL"),
        ("ftp://h/SECRET/", "it is no http or https URL"),
        ("https:///SECRET/", "it is no http or https URL"),
        ("https://h/SECRET\r\nHost: x", "it is no http or https URL"),
        ("https://h/SE CRET/", "it is no http or https URL"),
        ("https://h:99999/SECRET/", "it is no URL"),
        ("https://[::1/SECRET/", "it is no URL"),
        ("https://u:SECRET@h/x/", "it has a user or password, which is not sent"),
        ("https://h/SECRET/?a=b", "it has a query, which only a plain dump's may have"),
        ("https://h/SECRET/#logical", "behind its # is none of live, physical, dump"),
        (f"https://h/SECRET/{NAME}#physical", "it names one file, and behind # a kind as well"),
        ("https://h/SECRET/x.sql#live", "it names one file, and behind # a kind as well"),
    ],
)
def test_a_url_that_is_refused(url, observed):
    with pytest.raises(ConfigurationError) as caught:
        parse_bootstrap_url(url)
    assert str(caught.value) == (
        f"replication.bootstrap-url: {observed}, expected the http(s) URL of a list of backups (with #live, #physical"
        " or #dump for one kind), of one backup in it, or of a .sql, .sql.gz or .sql.zst file; give what the primary"
        " publishes"
    )


def test_no_message_has_the_secret():
    where = parse_bootstrap_url("https://[::1]:22000/SECRET/")
    assert where.where == "https://[::1]:22000"
    assert "SECRET" not in repr(where)


def test_a_name_that_is_in_no_list_is_a_plain_dump():
    where = source.plain(parse_bootstrap_url("http://h/a/20261122T000000Z.sql.zst"))
    assert (where.kind, where.path, where.name) == (
        "plain",
        "/a/20261122T000000Z.sql.zst",
        "20261122T000000Z.sql.zst",
    )


@pytest.mark.parametrize("name", ["../x", "x", "manifest.json", "20261122T000000Z.full.zst/.."])
def test_a_name_that_is_none_is_never_asked_for(name):
    with pytest.raises(source.BackupError, match=" is no name of a backup$"):
        source.open_file(parse_bootstrap_url("http://127.0.0.1:1/a/"), None, name, 1)
