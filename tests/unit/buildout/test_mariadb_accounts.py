# SPDX-License-Identifier: GPL-2.0-or-later
"""The recipe `mariadb-accounts`: what it completes, keeps, publishes and refuses."""

import re
import stat
from urllib.parse import unquote, urlsplit

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout.mariadb_accounts import Recipe

AWKWARD = "q'u\"o `te s%20p$a{c}e\\é漢😀/@:?#&"


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "etc" / "passwords.json"


def run(storage, entries, amount=0, ip="127.0.0.1", generate=True):
    options = {
        "database-list": entries,
        "test-database-amount": amount,
        "storage-path": str(storage),
        "ip": ip,
        "port": 3306,
        "generate": generate,
    }
    assert Recipe(None, "accounts", options).install() == ()
    return options


def entry(name="erp5", user="user", **more):
    return {"name": name, "user": user} | more


def refusal(storage, *entries, amount=0):
    with pytest.raises(UserError) as caught:
        run(storage, list(entries), amount)
    assert not storage.exists()
    return str(caught.value)


def test_a_given_password_is_used(storage):
    options = run(storage, [entry(password="secret")])
    assert options["databases"] == [
        {"name": "erp5", "user": "user", "password": "secret", "with-process-privilege": False}
    ]
    assert options["database-list-url"] == ["mysql://user:secret@127.0.0.1:3306/erp5"]
    assert options["test-databases"] == []
    assert options["test-database-list-url"] == []


def test_the_process_privilege_is_passed_on(storage):
    options = run(storage, [entry(**{"with-process-privilege": True})])
    assert options["databases"][0]["with-process-privilege"] is True


def test_generated_passwords_are_random_and_kept(storage):
    entries = [entry("a", "alice"), entry("b", "bob")]
    first = run(storage, entries, amount=2)
    passwords = [item["password"] for item in first["databases"] + first["test-databases"]]
    assert len(set(passwords)) == 4
    assert all(re.fullmatch("[A-Za-z0-9]{32}", password) for password in passwords)
    assert run(storage, entries, amount=2) == first


def test_nothing_is_written_before_the_part_is_installed(storage):
    options = {
        "test-database-amount": 0,
        "storage-path": str(storage),
        "ip": "127.0.0.1",
        "port": 3306,
        "generate": True,
    }
    options["database-list"] = [entry()]
    recipe = Recipe(None, "accounts", options)
    assert not storage.parent.exists()
    recipe.update()
    assert run(storage, [entry()])["databases"] == options["databases"]
    # A request that some other section refuses is initialised only.
    Recipe(None, "accounts", options | {"database-list": [entry("b", "bob", password="other")]})
    assert run(storage, [entry("b", "bob")])["databases"][0]["password"] != "other"


def test_a_kept_password_survives_the_absence_of_its_user(storage):
    first = run(storage, [entry()], amount=1)
    run(storage, [])
    assert run(storage, [entry()], amount=1) == first


def test_a_given_password_that_is_taken_away_stays_the_accounts_password(storage):
    run(storage, [entry(password="given")])
    assert run(storage, [entry()])["databases"][0]["password"] == "given"


def test_a_password_given_later_is_published_and_the_first_one_stays_kept(storage):
    generated = run(storage, [entry()])["databases"][0]["password"]
    assert run(storage, [entry(password="given")])["databases"][0]["password"] == "given"
    assert run(storage, [entry()])["databases"][0]["password"] == generated


def test_the_storage_is_private_and_written_only_when_it_changes(storage):
    run(storage, [entry()])
    assert stat.S_IMODE(storage.stat().st_mode) == 0o600
    inode = storage.stat().st_ino
    run(storage, [entry()])
    assert storage.stat().st_ino == inode
    assert [path.name for path in storage.parent.iterdir()] == ["passwords.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "JSONDecodeError"), ("[]", "not an object of strings"), ('{"user": 1}', "not an object of strings")],
)
def test_an_unusable_storage_is_refused_and_left_alone(storage, content, reason):
    storage.parent.mkdir()
    storage.write_text(content)
    with pytest.raises(UserError) as caught:
        run(storage, [entry()])
    assert str(caught.value) == (
        f"storage-path: {storage} should hold this partition's passwords and cannot be read; "
        f"restore it from a backup ({reason})"
    )
    assert storage.read_text() == content


def test_a_user_of_two_databases_has_one_password(storage):
    given = run(storage, [entry("a"), entry("b", password="given")])["databases"]
    assert [item["password"] for item in given] == ["given", "given"]
    generated = run(storage, [entry("c", "other"), entry("d", "other")])["databases"]
    assert generated[0]["password"] == generated[1]["password"]


def test_test_databases(storage):
    options = run(storage, [entry()], amount=2)
    assert [(item["name"], item["user"]) for item in options["test-databases"]] == [
        ("erp5_test_0", "testuser_0"),
        ("erp5_test_1", "testuser_1"),
    ]
    password = options["test-databases"][1]["password"]
    assert options["test-database-list-url"][1] == f"mysql://testuser_1:{password}@127.0.0.1:3306/erp5_test_1"


def test_an_awkward_password_survives_the_url(storage):
    (url,) = run(storage, [entry("a-b$", password=AWKWARD)], ip="::1")["database-list-url"]
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, parts.username) == ("::1", 3306, "user")
    assert unquote(parts.password) == AWKWARD
    assert unquote(parts.path) == "/a-b$"
    assert re.fullmatch(r"mysql://[\w%.~-]+:[\w%.~-]+@\[::1\]:3306/[\w%.~-]+", url)


@pytest.mark.parametrize("field", ["name", "user"])
def test_an_empty_name_is_refused(storage, field):
    word = {"name": "database", "user": "user"}[field]
    message = refusal(storage, entry(), entry("other") | {field: ""})
    assert message == f"database-list[1].{field}: the {word} name is empty; give one"


@pytest.mark.parametrize("name", ["mysql", "INFORMATION_SCHEMA", "performance_schema", "sys", "slapos"])
def test_reserved_databases_are_refused(storage, name):
    assert refusal(storage, entry(name)) == (
        f"database-list[0].name: '{name}' is reserved for MariaDB or this software; choose another database name"
    )


@pytest.mark.parametrize("user", ["root", "mariadb.sys", "slapos_administrator", "replication_user", "PUBLIC"])
def test_reserved_users_are_refused(storage, user):
    assert refusal(storage, entry(user=user)) == (
        f"database-list[0].user: '{user}' is reserved for MariaDB or this software; choose another user name"
    )


@pytest.mark.parametrize("name", ["a/b", "a.b", "..", "a b", "nul\0", "é", "a`b", "-a", "a\n"])
def test_unsafe_names_are_refused(storage, name):
    assert refusal(storage, entry(name)) == (
        f"database-list[0].name: {name!r} holds more than the letters A-Z and a-z, digits, '_', '$' and '-', "
        "or starts with '-'; choose another database name"
    )


def test_names_as_long_as_mariadb_allows_are_served(storage):
    assert run(storage, [entry("d" * 64, "u" * 80)])["databases"][0]["user"] == "u" * 80


def test_too_long_names_are_refused(storage):
    assert refusal(storage, entry("d" * 65)) == (
        f"database-list[0].name: '{'d' * 65}' has 65 characters, and MariaDB allows 64; choose a shorter database name"
    )
    assert refusal(storage, entry(user="u" * 81)) == (
        f"database-list[0].user: '{'u' * 81}' has 81 characters, and MariaDB allows 80; choose a shorter user name"
    )


def test_a_duplicated_database_is_refused(storage):
    assert refusal(storage, entry("a"), entry("b"), entry("a", "other")) == (
        "database-list[2].name: 'a' is database-list[0]'s name already; give each database one entry"
    )


def test_a_user_with_two_passwords_is_refused_without_quoting_them(storage):
    assert refusal(storage, entry("a", password="one"), entry("b"), entry("c", password="two")) == (
        "database-list[2].password: user 'user' has another password in database-list[0]; "
        "give a user the same password everywhere, or give it once"
    )


@pytest.mark.parametrize(
    ("password", "wrong"),
    [
        ("", "is empty"),
        ("a\0b", "holds a NUL or the end of a line"),
        ("a\nb", "holds a NUL or the end of a line"),
        ("a\rb", "holds a NUL or the end of a line"),
        ("a\ud83d", "holds half of a surrogate pair, which UTF-8 cannot express"),
    ],
)
def test_impossible_passwords_are_refused(storage, password, wrong):
    assert refusal(storage, entry(password=password)) == (
        f"database-list[0].password: the password {wrong}; give another one, or none to have one made"
    )


def test_a_clash_with_a_test_database_is_refused(storage):
    assert refusal(storage, entry(), entry("erp5_test_0"), amount=1) == (
        "database-list[1].name: 'erp5_test_0' is also a database that test-database-amount (1) makes; "
        "choose another database name or lower test-database-amount"
    )
    assert refusal(storage, entry(user="testuser_1"), amount=2) == (
        "database-list[0].user: 'testuser_1' is also a user that test-database-amount (2) makes; "
        "choose another user name or lower test-database-amount"
    )
    assert run(storage, [entry("erp5_test_1", "testuser_1")], amount=1)["databases"]


def test_nothing_is_made_for_accounts_of_another_server(storage):
    options = run(storage, [entry("a", "alice"), entry("b", "bob", password="known")], amount=1, generate=False)
    assert [(one["name"], one["password"]) for one in options["databases"]] == [("a", ""), ("b", "known")]
    assert options["database-list-url"] == ["mysql://bob:known@127.0.0.1:3306/b"]
    assert options["test-database-list-url"] == []
    # What was known once stays known, though the parameter was lost; and no password is made up later.
    options = run(storage, [entry("a", "alice"), entry("b", "bob")], generate=False)
    assert [one["password"] for one in options["databases"]] == ["", "known"]
