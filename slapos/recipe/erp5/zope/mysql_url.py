# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns mysql:// URLs into the connection strings of ZMySQLDA, and refuses what those cannot express; pure functions.

Such a string is `database@host:port user password`, split at white space and unquoted. A host in brackets is our own
addition (py2/zope_serve.py).
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.words import bracketed

PARAMETER = "mysql-url-list"
SHAPE = "mysql://user:password@host:port/database, each part percent-encoded"
DEFAULT_PORT = 3306
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
MARKS = "*+-"
"""What ZMySQLDA takes for something else where a string begins with it: a lock, and whether there are transactions."""


def connection_strings(urls: Iterable[str], parameter: str = PARAMETER) -> tuple[str, ...]:
    """One for each URL. Raises ConfigurationError, which says which one and quotes nothing of it."""
    return tuple(connection_string(url, f"{parameter}[{number}]") for number, url in enumerate(urls))


def connection_string(url: str, where: str) -> str:
    """The string for one URL, which messages call `where`. Raises ConfigurationError."""
    parts, host, port = _split(url, where)
    try:
        texts = [unquote(text or "", errors="strict") for text in (parts.username, parts.password, parts.path[1:])]
    except ValueError as error:
        raise ConfigurationError(f"{where}: a part of it is not UTF-8, expected {SHAPE}") from error
    user, password, database = texts
    if not user or not database:
        raise ConfigurationError(f"{where}: it has no {'database' if user else 'user'}, expected {SHAPE}")
    for name, text in {"user": user, "password": password, "database": database}.items():
        if any(letter.isspace() or letter == "\0" for letter in text):
            raise _inexpressible(where, name, "white space")
    if "@" in database or "/" in database:
        raise _inexpressible(where, "database", "@ or /")
    if database[0] in MARKS:
        raise _inexpressible(where, "database", "one of * + - at its beginning")
    return f"{database}@{host}:{port} {user} {password}".rstrip(" ")


def _split(url: str, where: str) -> tuple[SplitResult, str, int]:
    """The parts of a URL, and host (as it is written into a string) and port of it."""
    if any(letter.isspace() for letter in url):  # urlsplit() would drop some of that
        raise ConfigurationError(f"{where}: it has white space in it, expected {SHAPE}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigurationError(f"{where}: it is no URL, expected {SHAPE}") from error
    if parts.scheme != "mysql" or not host or not port or parts.query or parts.fragment:
        raise ConfigurationError(f"{where}: it lacks a part or has another one, expected {SHAPE}")
    return parts, _host(host, where), port


def _host(host: str, where: str) -> str:
    if host == "localhost":
        return "127.0.0.1"  # the client library would take this name for its own socket, whatever the port
    try:
        return bracketed(str(ipaddress.ip_address(host)))
    except ValueError as error:
        if NAME.fullmatch(host):
            return host
        raise ConfigurationError(f"{where}: its host is neither a name nor an IP address, expected {SHAPE}") from error


def _inexpressible(where: str, name: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where}: its {name} has {what}, which Zope's MySQL adapter cannot be told, expected a {name} without it: "
        f"use another {name}"
    )
