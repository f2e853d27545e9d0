# SPDX-License-Identifier: GPL-2.0-or-later
"""URLs of MySQL servers as Zope's adapter is told of them, and what is refused, without a word of the password."""

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.zope import mysql_url

SHAPE = mysql_url.SHAPE


@pytest.mark.parametrize(
    "url, string",
    [
        ("mysql://user:secret@10.0.0.1:21000/erp5", "erp5@10.0.0.1:21000 user secret"),
        ("mysql://user:secret@[2001:DB8:0::1]:21000/erp5", "erp5@[2001:db8::1]:21000 user secret"),
        ("mysql://user:secret@db.example.com/erp5", "erp5@db.example.com:3306 user secret"),
        ("mysql://user:secret@localhost:21000/erp5", "erp5@127.0.0.1:21000 user secret"),
        ("mysql://us%40er:a%2Fb%3Ac%40d%25%23%3F@h:1/my-db.x", "my-db.x@h:1 us@er a/b:c@d%#?"),
        ("mysql://user:se+cret%C3%A9@h:1/erp5", "erp5@h:1 user se+creté"),
        ("mysql://user:@h:1/erp5", "erp5@h:1 user"),
        ("mysql://user@h:1/erp5", "erp5@h:1 user"),
    ],
)
def test_what_it_is_told(url: str, string: str):
    assert mysql_url.connection_strings([url]) == (string,)


@pytest.mark.parametrize(
    "url, said",
    [
        ("mysql://user:se%20cret@h:1/erp5", "its password has white space, which"),
        ("mysql://user:se%C2%A0cret@h:1/erp5", "its password has white space, which"),
        ("mysql://user:se%00cret@h:1/erp5", "its password has white space, which"),
        ("mysql://us%09er:secret@h:1/erp5", "its user has white space, which"),
        ("mysql://user:secret@h:1/a%20b", "its database has white space, which"),
        ("mysql://user:secret@h:1/a%40b", "its database has @ or /, which"),
        ("mysql://user:secret@h:1/a/b", "its database has @ or /, which"),
        ("mysql://user:secret@h:1/-a", "its database has one of * + - at its beginning, which"),
        ("mysql://user:secret@h:1/*a", "its database has one of * + - at its beginning, which"),
        ("mysql://user:secret@h:1/", f"it has no database, expected {SHAPE}"),
        ("mysql://user:secret@h:1", f"it has no database, expected {SHAPE}"),
        ("mysql://:secret@h:1/erp5", f"it has no user, expected {SHAPE}"),
        ("mysql://h:1/erp5", f"it has no user, expected {SHAPE}"),
        ("mysql://user:secret@:1/erp5", f"it lacks a part or has another one, expected {SHAPE}"),
        ("mysql://user:secret@h:0/erp5", f"it lacks a part or has another one, expected {SHAPE}"),
        ("mysql://user:secret@h:1/erp5?charset=utf8", f"it lacks a part or has another one, expected {SHAPE}"),
        ("mysql://user:secret@h:1/erp5#secret", f"it lacks a part or has another one, expected {SHAPE}"),
        ("http://user:secret@h:1/erp5", f"it lacks a part or has another one, expected {SHAPE}"),
        ("mysql://user:secret@h:secret/erp5", f"it is no URL, expected {SHAPE}"),
        ("mysql://user:secret@[::1:1/erp5", f"it is no URL, expected {SHAPE}"),
        ("mysql://user:se cret@h:1/erp5", f"it has white space in it, expected {SHAPE}"),
        ("mysql://user:secret@h:1/erp5\n", f"it has white space in it, expected {SHAPE}"),
        ("mysql://user:secret%FF@h:1/erp5", f"a part of it is not UTF-8, expected {SHAPE}"),
        ("mysql://user:secret@a_$b:1/erp5", f"its host is neither a name nor an IP address, expected {SHAPE}"),
    ],
)
def test_what_cannot_be_told(url: str, said: str):
    with pytest.raises(ConfigurationError) as caught:
        mysql_url.connection_strings(["mysql://user:secret@h:1/erp5", url])
    assert str(caught.value).startswith(f"mysql-url-list[1]: {said}")
    assert "cret" not in str(caught.value)


def test_who_cannot_be_told_something_is_told_what_to_do():
    with pytest.raises(ConfigurationError) as caught:
        mysql_url.connection_string("mysql://user:a%20b@h:1/erp5", "mysql-url-list[0]")
    assert str(caught.value) == (
        "mysql-url-list[0]: its password has white space, which Zope's MySQL adapter cannot be told, expected a "
        "password without it: use another password"
    )
