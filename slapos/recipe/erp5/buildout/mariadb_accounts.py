# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-accounts`: checks `database-list`, completes it (kept passwords, test databases), makes URLs."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zc.buildout import UserError

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.mariadb import decide
from slapos.recipe.erp5.passwords import make_password
from slapos.recipe.erp5.words import bracketed

Account = dict[str, Any]
"""A complete entry: {"name": str, "user": str, "password": str, "with-process-privilege": bool}."""

# MariaDB compares some of them without regard to case.
RESERVED = {
    "name": {name.lower() for name in decide.RESERVED_DATABASES},
    "user": {name.lower() for name in decide.RESERVED_USERS},
}
# https://mariadb.com/kb/en/identifier-names/#maximum-length
LONGEST = {"name": 64, "user": 80}
PASSWORD_LENGTH = 32
# A leading dash would read as an option wherever a name is an argument.
SAFE = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$-]*")
WORDS = {"name": "database", "user": "user"}


class Recipe:
    """Options in: `database-list` (list), `test-database-amount` (int), `storage-path`, `ip`, `port`, and `generate`
    (bool).

    Without `generate` no password is made: the accounts are another server's. An entry whose password is not known has
    an empty one, and no URL.

    Options out, set while the section is initialised, so that other sections can refer to them: `databases` and
    `test-databases` (lists of Account), `database-list-url` and `test-database-list-url` (lists of str).
    Raises UserError, one sentence naming the parameter. `storage-path` is written when the part is installed (a request
    that another section refuses changes nothing), and never leaves with the part.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.storage = Path(options["storage-path"])
        kept = load(self.storage)
        make = (lambda: make_password(PASSWORD_LENGTH)) if options["generate"] else str
        databases = listed(options["database-list"], kept, make)
        tests = test_databases(int(options["test-database-amount"]), databases, kept, make)
        self.passwords = {entry["user"]: entry["password"] for entry in databases + tests if entry["password"]} | kept
        options["databases"] = databases
        options["test-databases"] = tests
        options["database-list-url"] = urls(databases, options["ip"], options["port"])
        options["test-database-list-url"] = urls(tests, options["ip"], options["port"])

    def install(self) -> tuple[str, ...]:
        # Before the parts that refer to this one, so before anything is published: a password that somebody saw is the
        # same for ever.
        if load(self.storage) != self.passwords:
            save(self.storage, self.passwords)
        return ()

    update = install


def listed(entries: list[Account], kept: Mapping[str, str], make: Callable[[], str]) -> list[Account]:
    """Complete the entries of `database-list`: the password given, else the kept one, else what `make` gives.

    `kept` maps users to the first password that each had. Raises UserError.
    """
    check(entries)
    given = {entry["user"]: entry["password"] for entry in entries if "password" in entry}
    generated: dict[str, str] = {}
    for entry in entries:
        generated.setdefault(entry["user"], make())
    passwords = generated | dict(kept) | given
    return [account(entry["name"], entry["user"], passwords, entry) for entry in entries]


def test_databases(
    amount: int, databases: list[Account], kept: Mapping[str, str], make: Callable[[], str]
) -> list[Account]:
    """Databases erp5_test_0 to erp5_test_<amount - 1>, each with a user of its own. Raises UserError."""
    names = {f"erp5_test_{index}": f"testuser_{index}" for index in range(amount)}
    for index, entry in enumerate(databases):
        for field, taken in (("name", set(names)), ("user", set(names.values()))):
            if entry[field] in taken:
                raise UserError(
                    f"database-list[{index}].{field}: {entry[field]!r} is also a {WORDS[field]} that "
                    f"test-database-amount ({amount}) makes; choose another {WORDS[field]} "
                    "name or lower test-database-amount"
                )
    return [account(name, user, {user: make()} | dict(kept)) for name, user in names.items()]


def account(name: str, user: str, passwords: Mapping[str, str], entry: Mapping[str, Any] | None = None) -> Account:
    privilege = bool((entry or {}).get("with-process-privilege", False))
    return {"name": name, "user": user, "password": passwords[user], "with-process-privilege": privilege}


def urls(entries: list[Account], ip: str, port: int | str) -> list[str]:
    """The URLs of the entries whose password is known."""
    return [url(entry, ip, port) for entry in entries if entry["password"]]


def url(entry: Account, ip: str, port: int | str) -> str:
    """`mysql://user:password@ip:port/name`, each part percent-encoded, an IPv6 address in brackets."""
    user, password, name = (quote(entry[key], safe="") for key in ("user", "password", "name"))
    return f"mysql://{user}:{password}@{bracketed(ip)}:{port}/{name}"


def check(entries: list[Account]) -> None:
    """Raise UserError for the first thing in `database-list` that MariaDB or we cannot serve."""
    for problem in problems(entries):
        raise UserError(problem)


def problems(entries: list[Account]) -> Iterator[str]:
    """Yield one sentence a problem: the parameter, what is wrong, the remedy. No password is ever quoted."""
    names: dict[str, int] = {}
    passwords: dict[str, tuple[int, str]] = {}
    for index, entry in enumerate(entries):
        where = f"database-list[{index}]"
        for field in ("name", "user"):
            yield from name_problems(f"{where}.{field}", field, entry[field])
        first = names.setdefault(entry["name"], index)
        if first != index:
            yield (
                f"{where}.name: {entry['name']!r} is database-list[{first}]'s name already; "
                "give each database one entry"
            )
        if "password" in entry:
            yield from password_problems(f"{where}.password", entry["password"])
            first, password = passwords.setdefault(entry["user"], (index, entry["password"]))
            if password != entry["password"]:
                yield (
                    f"{where}.password: user {entry['user']!r} has another password in database-list[{first}]; "
                    "give a user the same password everywhere, or give it once"
                )


def name_problems(where: str, field: str, value: str) -> Iterator[str]:
    """What is wrong with `value` as a database's or user's name (`field` is "name" or "user")."""
    word = WORDS[field]
    if not value:
        yield f"{where}: the {word} name is empty; give one"
    elif value.lower() in RESERVED[field]:
        yield f"{where}: {value!r} is reserved for MariaDB or this software; choose another {word} name"
    elif not SAFE.fullmatch(value):
        yield (
            f"{where}: {value!r} holds more than the letters A-Z and a-z, digits, '_', '$' and '-', "
            f"or starts with '-'; choose another {word} name"
        )
    elif len(value) > LONGEST[field]:
        yield (
            f"{where}: {value!r} has {len(value)} characters, and MariaDB allows {LONGEST[field]}; "
            f"choose a shorter {word} name"
        )


def password_problems(where: str, password: str) -> Iterator[str]:
    remedy = "give another one, or none to have one made"
    if not password:
        yield f"{where}: the password is empty; {remedy}"
    elif any(character in password for character in "\0\r\n"):
        yield f"{where}: the password holds a NUL or the end of a line; {remedy}"
    elif any("\ud800" <= character <= "\udfff" for character in password):
        yield f"{where}: the password holds half of a surrogate pair, which UTF-8 cannot express; {remedy}"


def load(path: Path) -> dict[str, str]:
    """The kept passwords by user name; none when the file is not there. Raises UserError when it is unusable."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{unusable(path)} ({type(error).__name__})") from error
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise UserError(f"{unusable(path)} (not an object of strings)")
    return kept


def unusable(path: Path) -> str:
    return f"storage-path: {path} should hold this partition's passwords and cannot be read; restore it from a backup"


def save(path: Path, passwords: Mapping[str, str]) -> None:
    # On a first processing nothing has made the partition's folders yet.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    process.write_atomically(path, json.dumps(passwords, indent=2, sort_keys=True) + "\n")
