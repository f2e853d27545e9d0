# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides what an ERP5 instance gives to each of its children, and publishes: pure functions of its parameters, of what
is kept of its creation, and of what the children have published."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.words import listing

MARIADB, BALANCER, ZOPE = "mariadb", "balancer", "zope"
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
OPTIONAL = ("mariadb-takeover-url", "neo-takeover-url", "neo-certificate-url")
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
    requested, by name. Both databases have published once `created`; until then all but the title may change.
    `published` has what each child has published last, by its name without the title."""

    title: str
    zodb: str = ""
    replica_of: dict = field(default_factory=dict)
    followed: dict = field(default_factory=dict)
    zope_partitions: dict = field(default_factory=dict)
    published: dict = field(default_factory=dict)
    created: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be: `identity` is what a replica has of its original for ever, `follow` what it follows it by, both
    empty for an original. `differences` tells in sentences what is asked for and not done."""

    parameters: Parameters
    identity: Mapping[str, Any]
    follow: Mapping[str, Any]
    zope_partitions: Mapping[str, Any]
    differences: tuple[str, ...]

    @property
    def zodb(self) -> str:
        return self.parameters["zodb"]["type"]

    @property
    def expects_backup(self) -> bool:
        """Whether the NEO is created as a backup."""
        return bool(self.zodb == "neo" and (self.follow or self.parameters["zodb"]["neo"]["upstream-cluster"]))

    @property
    def inituser_login(self) -> str:
        return self.identity.get("inituser-login") or self.parameters["inituser-login"]

    @property
    def site_id(self) -> str:
        return self.identity.get("site-id") or self.parameters["site-id"]


def plan(parameters: Parameters, kept: Kept) -> Plan:
    """What is to be. Raises ConfigurationError, one sentence naming the parameter, and quoting no secret."""
    given = parameters["replica-of"]
    check(parameters, kept)
    wanted = parameters["zope-partition-dict"]
    return Plan(
        parameters=parameters,
        identity=kept.replica_of if kept.created else given,
        follow=given or (kept.followed if kept.created else {}),
        zope_partitions={**kept.zope_partitions, **wanted},
        differences=tuple(
            f"zope-partition-dict has no {name} any more, but the instance has that partition, whose Zopes run;"
            " nothing is deleted: put it back"
            for name in kept.zope_partitions
            if name not in wanted
        ),
    )


# ---- refusals


def check(parameters: Parameters, kept: Kept) -> None:
    """Raise ConfigurationError for what could not work, or would be another instance than there is."""
    given, kind = parameters["replica-of"], parameters["zodb"]["type"]
    if kept.created and kept.zodb != kind:
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
    if not given:
        return
    for sentence in (*_of_kind(given, kind), *_of_values(given), *_of_pieces(parameters), *_of_instance(given, kept)):
        raise ConfigurationError(f"{sentence}.")


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
    if wrong:
        yield f"replica-of: its {listing(wrong)} cannot be used, {remedy}"


def _of_pieces(parameters: Parameters) -> Iterator[str]:
    for path, names in PIECES.items():
        piece = parameters
        for name in path.split("."):
            piece = piece[name]
        for name in names:
            if piece[name]:
                yield (
                    f"{path}.{name}: it is given, and replica-of, which says it already, is too; leave one of them out"
                )


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


# ---- what each child is given


def mariadb(plan: Plan) -> dict[str, Any]:
    """The parameters of the MariaDB."""
    own, follow = plan.parameters["mariadb"], plan.follow
    given = {**own, "use-ipv6": own["use-ipv6"] or plan.parameters["use-ipv6"]}
    if plan.identity:
        given["database-list"] = _database_list(plan.identity["mysql-url-list"], own["database-list"])
    if follow:
        bootstrap = follow["mariadb-replication-bootstrap-url"]
        given["replication"] = own["replication"] | {
            "primary-url": follow["mariadb-replication-primary-url"],
            "bootstrap-url": bootstrap,
            "control-url": follow.get("mariadb-takeover-url", ""),
            "replicate-with-tls": own["replication"]["replicate-with-tls"] and bootstrap.startswith("https:"),
        }
    return given


def _database_list(urls: Sequence[str], own: Sequence[Parameters]) -> list[dict[str, Any]]:
    """The original's databases with their passwords, which the replica then publishes, too; and, for after a takeover,
    further ones of its own parameters that have a password."""
    listed = {entry["name"]: dict(entry) for entry in own}
    found = [{**listed.get(entry["name"], {}), **entry} for entry in databases(urls)]
    names = {entry["name"] for entry in found}
    return found + [entry for name, entry in listed.items() if name not in names and "password" in entry]


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


def neo(plan: Plan) -> dict[str, Any]:
    """The parameters of the NEO cluster."""
    own, follow = plan.parameters["zodb"]["neo"], plan.follow
    given = {**own, "use-ipv6": own["use-ipv6"] or plan.parameters["use-ipv6"]}
    if plan.identity:
        given["partitions"] = plan.identity["neo-partitions"]
    if follow:
        given["upstream-cluster"], given["upstream-masters"] = follow["neo-cluster"], follow["neo-masters"]
        given["upstream-control-url"] = follow.get("neo-takeover-url", "")
        certificates = follow.get("neo-certificate-url", "")
        if certificates:
            given["ssl"] = own["ssl"] | {"enable": True, "upstream-certificate-url": certificates}
    return given


def zeo(plan: Plan) -> dict[str, Any]:
    """The parameters of the ZEO server."""
    own = plan.parameters["zodb"]["zeo"]
    return {**own, "use-ipv6": own["use-ipv6"] or plan.parameters["use-ipv6"]}


def zodb(plan: Plan) -> dict[str, Any]:
    """The parameters of the database of objects, whichever it is."""
    return neo(plan) if plan.zodb == "neo" else zeo(plan)


def zope(plan: Plan, name: str, password: str, of_mariadb: Published, of_zodb: Published) -> dict[str, Any]:
    """The parameters of the partition of Zopes `name`, once both databases have published."""
    parameters, own = plan.parameters, plan.parameters["zodb"]
    where: dict[str, Any] = {"type": plan.zodb, "cache-size": own["cache-size"]}
    where["client-cache-size"] = own["client-cache-size"]
    if plan.zodb == "neo":
        where |= {key: of_zodb[key] for key in ("neo-cluster", "neo-masters", "neo-admins")}
        where["neo-certificate-url"] = of_zodb.get("neo-certificate-url", "")
    else:
        where |= {"zeo-address": of_zodb["zeo-address"], "zeo-storage": own["zeo-storage"]}
    return {
        "families": plan.zope_partitions[name]["families"],
        "zodb": where,
        "expects-backup": plan.expects_backup,
        "mysql-url-list": of_mariadb["database-list"],
        "inituser-login": plan.inituser_login,
        "inituser-password": password,
        "products": parameters["products"],
        "use-ipv6": parameters["use-ipv6"],
    }


def balancer(plan: Plan, of_zopes: Sequence[Published]) -> dict[str, Any]:
    """The parameters of the balancer, of all partitions of Zopes that have published."""
    families: dict[str, dict[str, list[str]]] = {}
    for one in of_zopes:
        for zope in one["zopes"]:
            families.setdefault(zope["family"], {"addresses": []})["addresses"].append(zope["address"])
    return {"families": families, "use-ipv6": plan.parameters["use-ipv6"]}


def is_current(kind: str, parameters: Parameters, found: Published) -> bool:
    """Whether what a child has published is what it was asked for last, and not of an earlier request."""
    if kind == ZOPE:
        wanted = {name: family["instance-count"] for name, family in parameters["families"].items()}
        return Counter(zope["family"] for zope in found.get("zopes", [])) == wanted
    if kind == BALANCER:
        return bool(found) and found["family-urls"].keys() == parameters["families"].keys()
    return bool(found)


# ---- what is published


def published(plan: Plan, password: str, of: Mapping[str, Published]) -> dict[str, Any]:
    """What the instance publishes; `of` has what each child has, under its kind, and zope-NAME."""
    found = {
        "site-id": plan.site_id,
        "inituser-login": plan.inituser_login,
        "inituser-password": password,
        "mysql-url-list": of.get(MARIADB, {}).get("database-list", []),
        **{f"mariadb-{key}": value for key, value in of.get(MARIADB, {}).items()},
    }
    for key, value in of.get(plan.zodb, {}).items():
        found[key if key.startswith(f"{plan.zodb}-") else f"{plan.zodb}-{key}"] = value
    if plan.zodb == "neo":
        found["neo-partitions"] = neo(plan)["partitions"]
        found["takeover-url"] = found.get("neo-takeover-url", "")
    for name in plan.zope_partitions:
        own = of.get(f"{ZOPE}-{name}", {})
        found |= {f"{ZOPE}-{name}-{key}": own[key] for key in ("control-url", "monitor-url") if key in own}
    urls = of.get(BALANCER, {}).get("family-urls", {})
    return found | {f"family-{name}-url": url for name, url in urls.items()}
