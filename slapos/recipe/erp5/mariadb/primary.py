# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a replica's primary is: the URL that it publishes, and the spellings of the parameter `replication`."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.words import bracketed

PARAMETER = "replication.primary-url"
SHAPE = "mysql://user:password@host:port with an IPv4 address, or an IPv6 address in brackets"
ENDPOINT = "endpoint"
"""The part of the URL's query that names the primary's HTTPS endpoint."""

SYNONYMS = {
    "upstream-mariadb-url": "primary-url",
    "upstream-mariabackup-url": "bootstrap-url",
    "upstream-bootstrap-url": "bootstrap-url",
    "upstream-caucased-url": "caucased-url",
}
"""SlapOS's later names; of two for the same thing the first that is given counts."""


@dataclass(frozen=True)
class Primary:
    """A server to replicate from, and how to log in; `endpoint` is an HTTPS base such as https://[::1]:22000, or empty.

    `host` is an IPv4 or IPv6 address without brackets.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    endpoint: str = ""

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host


def parse(url: str) -> Primary:
    """The Primary of a published URL. Raises ConfigurationError, which quotes nothing of it: it holds a password."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigurationError(
            f"{PARAMETER}: it is no URL, expected {SHAPE}; give what the primary publishes"
        ) from error
    if parts.scheme != "mysql" or not port or not parts.username or not parts.password or parts.path not in ("", "/"):
        raise ConfigurationError(
            f"{PARAMETER}: it lacks a part or has another one, expected {SHAPE}; give what the primary publishes"
        )
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError as error:
        raise ConfigurationError(
            f"{PARAMETER}: its host is no IP address, expected {SHAPE}; give what the primary publishes"
        ) from error
    unknown = sorted(query.keys() - {ENDPOINT})
    endpoint = query.get(ENDPOINT, [""])[-1].rstrip("/")
    if unknown or (endpoint and not endpoint.startswith("https://")):
        raise ConfigurationError(
            f"{PARAMETER}: its query is not endpoint=https://..., expected that or none; give what the primary"
            " publishes"
        )
    return Primary(host, port, unquote(parts.username), unquote(parts.password), endpoint)


def url(primary: Primary) -> str:
    """What parse() reads: mysql://user:password@host:port, with the endpoint in its query when there is one."""
    query = "?" + urlencode({ENDPOINT: primary.endpoint}) if primary.endpoint else ""
    user, password = (quote(text, safe="") for text in (primary.user, primary.password))
    return f"mysql://{user}:{password}@{primary.address}{query}"


def with_account(url: str, user: str, password: str) -> str:
    """A published URL, with this account where it has none: what is told to others has no password."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.scheme != "mysql":
        return url
    account = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return parts._replace(netloc=f"{account}@{parts.netloc.rpartition('@')[2]}").geturl()


def without_account(primary: Primary) -> str:
    """The URL that others may be told, who have the account already."""
    query = "?" + urlencode({ENDPOINT: primary.endpoint}) if primary.endpoint else ""
    return f"mysql://{primary.address}{query}"


def translate(replication: Mapping[str, object]) -> dict[str, object] | None:
    """The parameter `replication` (completed by the schema) with each synonym under our own name; None for a primary.

    Raises ConfigurationError, naming the parameter, when both spellings are there, or something of no primary.
    """
    given = {key: value for key, value in replication.items() if key not in SYNONYMS}
    for synonym, name in SYNONYMS.items():
        if not replication.get(synonym):
            continue
        if replication.get(name):
            raise ConfigurationError(
                f"replication.{synonym}: replication.{name} says the same and is given too; give one of the two"
            )
        given[name] = given.get(name) or replication[synonym]
    if given.get("primary-url"):
        return given
    for name in ("bootstrap-url", "caucased-url", "control-url"):
        if given.get(name):
            raise ConfigurationError(
                f"{PARAMETER}: missing, and replication.{name} is given, expected {SHAPE}; give what the primary "
                "publishes, or neither"
            )
    return None


def check(replication: Mapping[str, object] | None) -> None:
    """Refuse a translated parameter `replication` that could never work. Raises ConfigurationError."""
    if replication is None:
        return
    primary, tls = parse(str(replication["primary-url"])), replication["replicate-with-tls"]
    if replication.get("control-url"):
        # As late as this: it brings more along than others need who read URLs.
        from slapos.recipe.erp5.control import peer_client

        peer_client.parse(str(replication["control-url"]), "replication.control-url")
    if not tls and primary.is_ipv6:
        raise ConfigurationError(
            "replication.replicate-with-tls: false, and primary-url has an IPv6 address, where TLS is required; "
            "leave it true, or give the primary's IPv4 address"
        )
    if tls and not primary.endpoint and not replication["caucased-url"]:
        raise ConfigurationError(
            f"{PARAMETER}: it has no endpoint in its query, where a certificate could be had; give the whole "
            "replication-primary-url that the primary publishes, or caucased-url to have the certificate approved by "
            "hand, or replicate-with-tls false"
        )
