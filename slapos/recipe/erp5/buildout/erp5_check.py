# SPDX-License-Identifier: GPL-2.0-or-later
"""What an ERP5 instance is given and what it keeps, and which parameters are refused: those that could not work, or
would make another instance than there is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from slapos.recipe.erp5.buildout.zope_check import of_user
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import primary
from slapos.recipe.erp5.words import listing
from slapos.recipe.erp5.zope import mysql_url

TEXTS = (
    "mariadb-replication-primary-url",
    "mariadb-replication-bootstrap-url",
    "neo-cluster",
    "neo-masters",
    "site-id",
    "inituser-login",
    "inituser-password",
)
"""What of replica-of is needed, texts."""
NEEDED = (*TEXTS, "neo-partitions", "mysql-url-list")
OPTIONAL = ("mariadb-takeover-url", "mariadb-caucased-url", "neo-takeover-url", "neo-certificate-url")
"""What is taken besides, texts too; where an ERP5 instance has none it may be left out, or empty."""
PIECES = {
    "mariadb.replication": (
        "primary-url",
        "bootstrap-url",
        "caucased-url",
        "control-url",
        "upstream-mariadb-url",
        "upstream-bootstrap-url",
        "upstream-mariabackup-url",
        "upstream-caucased-url",
    ),
    "zodb.neo": ("upstream-cluster", "upstream-masters", "upstream-control-url"),
    "zodb.neo.ssl": ("upstream-certificate-url",),
}
"""The children's own parameters that replica-of stands for."""

Parameters = Mapping[str, Any]
Published = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """What an ERP5 instance keeps: `title` is what its children's names begin with, `replica_of` the parameter at its
    creation, empty for an original, `followed` the same as it was given last, and `zope_partitions` those that were
    requested, by name. One of the databases has published, and so may have data, once `created`; until then all but the
    title, and whether it is a replica, may change. `published` has what each child has published last, by its name
    without the title. `expects_backup`: whether Zopes were told that NEO may be one. `mysql_urls`: what Zopes
    are connected to, in this order."""

    title: str
    zodb: str = ""
    zeo_storage: str = ""
    replica_of: dict = field(default_factory=dict)
    followed: dict = field(default_factory=dict)
    zope_partitions: dict = field(default_factory=dict)
    published: dict = field(default_factory=dict)
    created: bool = False
    expects_backup: bool = False
    mysql_urls: list = field(default_factory=list)


def check(parameters: Parameters, kept: Kept) -> None:
    """Raise ConfigurationError for what could not work, or would be another instance than there is."""
    given, kind = parameters["replica-of"], parameters["zodb"]["type"]
    if kept.zodb in kept.published and kept.zodb != kind:
        raise ConfigurationError(
            f"zodb.type: it is {kind}, but the instance was created with {kept.zodb}, which no parameter changes; give"
            f" {kept.zodb} again, or request another instance."
        )
    storage, storages = parameters["zodb"]["zeo-storage"], parameters["zodb"]["zeo"]["storages"]
    if kind == "zeo" and storage not in storages:
        raise ConfigurationError(
            f"zodb.zeo-storage: it is {storage}, but zodb.zeo.storages has {listing(storages)}; give one of these, or"
            " add it."
        )
    if kind == "zeo" and kept.zodb in kept.published and kept.zeo_storage not in ("", storage):
        raise ConfigurationError(
            f"zodb.zeo-storage: it is {storage}, but the Zopes' objects are in {kept.zeo_storage}, which no parameter"
            f" moves; give {kept.zeo_storage} again, or request another instance."
        )
    if kind != "neo" and kept.replica_of:
        raise ConfigurationError(
            f"zodb.type: it is {kind}, of which there are no replicas, and the instance was requested as one; give neo"
            " again, or request another instance."
        )
    if kind == "neo" and parameters["zodb"]["neo"]["ssl"]["external-caucased-url"]:
        raise ConfigurationError(
            "zodb.neo.ssl.external-caucased-url: it is given, but Zopes can have certificates of NEO's own authority"
            " only; leave it out."
        )
    for number, entry in enumerate(parameters["mariadb"]["database-list"]):
        _check_for_zope(entry, f"mariadb.database-list[{number}]")
    for sentence in of_user(parameters):
        raise ConfigurationError(sentence)
    if not given:
        return
    # One after the other: each relies on those before it.
    for sentence in chain(_of_kind(given, kind), _of_values(given), _of_pieces(parameters), _of_instance(given, kept)):
        raise ConfigurationError(f"{sentence}.")


def _check_for_zope(entry: Parameters, where: str) -> None:
    """MariaDB takes more than Zope's connections can have, and Zopes' partitions would refuse what it publishes."""
    user, password, name = (quote(entry.get(key, ""), safe="") for key in ("user", "password", "name"))
    mysql_url.connection_string(f"mysql://{user}:{password}@127.0.0.1:1/{name}", where)


def _of_kind(given: Published, kind: str) -> Iterator[str]:
    if "zeo-address" in given and "neo-cluster" not in given:
        yield (
            "replica-of: that ERP5 instance has a ZEO, of which there are no replicas, expected one with NEO; leave"
            " replica-of out"
        )
    if kind != "neo":
        yield f"zodb.type: it is {kind}, of which there are no replicas, and replica-of is given; leave one of them out"


def _of_values(given: Published) -> Iterator[str]:
    remedy = "expected all that the other ERP5 instance publishes, once it is complete; copy that, as it is"
    missing = [key for key in NEEDED if key not in given]
    if missing:
        yield f"replica-of: it lacks {listing(missing)}, {remedy}"
    wrong = [key for key in (*TEXTS, *OPTIONAL) if not isinstance(given.get(key, ""), str)]
    wrong += [key for key in TEXTS if given.get(key) == ""]
    partitions = given.get("neo-partitions", 1)
    if isinstance(partitions, bool) or not isinstance(partitions, int) or partitions < 1:
        wrong.append("neo-partitions")
    try:
        databases(given.get("mysql-url-list", []))
    except ValueError:
        wrong.append("mysql-url-list")
    if not missing and not wrong and not _is_primary(given):
        wrong.append("mariadb-replication-primary-url")
    if wrong:
        yield f"replica-of: its {listing(wrong)} cannot be used, {remedy}"


def _is_primary(given: Published) -> bool:
    try:
        primary.parse(given["mariadb-replication-primary-url"])
    except ConfigurationError:
        return False
    return True


def _of_pieces(parameters: Parameters) -> Iterator[str]:
    for path in PIECES:
        for name in given_pieces(parameters, path):
            yield f"{path}.{name}: it is given, and replica-of, which says it already, is too; leave one of them out"


def given_pieces(parameters: Parameters, path: str) -> list[str]:
    """Which of the PIECES of this path are given: beside a replica-of that was left out they count instead of it."""
    piece = parameters
    for name in path.split("."):
        piece = piece[name]
    return [name for name in PIECES[path] if piece[name]]


def _of_instance(given: Published, kept: Kept) -> Iterator[str]:
    own = kept.published.get(kept.zodb, {})
    if kept.zodb == "neo" and own and all(given[key] == own.get(key) for key in ("neo-cluster", "neo-masters")):
        yield (
            "replica-of: it is what this ERP5 instance publishes itself, expected what another one does; copy that, or"
            " leave replica-of out"
        )
    if kept.created and not kept.replica_of:
        yield (
            "replica-of: it is given, but this ERP5 instance was created without, and has data of its own; leave it"
            " out, or"
            " request another instance (after a rejoin, give mariadb.replication and upstream-* of zodb.neo)"
        )


def endpoint(given: Published) -> str:
    """Where the primary gives certificates, or nothing. Raises ConfigurationError."""
    return primary.parse(given["mariadb-replication-primary-url"]).endpoint


def databases(urls: Any) -> list[dict[str, str]]:
    """Name, user and password of each of `mysql-url-list`. Raises ValueError when one is not as MariaDB publishes"
    " it."""
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ValueError("not a list of texts")
    found = []
    for url in urls:
        parts = urlsplit(url)
        entry = {"name": parts.path.removeprefix("/"), "user": parts.username or "", "password": parts.password or ""}
        if parts.scheme != "mysql" or not all(entry.values()):
            raise ValueError("not a URL of a database")
        found.append({key: unquote(value) for key, value in entry.items()})
    return found
