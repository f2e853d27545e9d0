# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides what an ERP5 instance gives to each of its children, and publishes: pure functions of its parameters, of what
is kept of its creation, and of what the children have published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from slapos.recipe.erp5.buildout.erp5_check import (
    NEEDED,
    OPTIONAL,
    Kept,
    Parameters,
    Published,
    check,
    databases,
    endpoint,
    given_pieces,
)
from slapos.recipe.erp5.words import listing

MARIADB, BALANCER, ZOPE = "mariadb", "balancer", "zope"


@dataclass(frozen=True)
class Plan:
    """What is to be: `identity` is what a replica has of its original for ever, `follow` what it follows it by, both
    empty for an original. `neo_on_ipv6`: whether NEO's nodes listen there, or are to. `was_backup`: whether NEO was
    asked to be one before. `differences` tells in sentences what is asked for and not done."""

    parameters: Parameters
    identity: Mapping[str, Any]
    follow: Mapping[str, Any]
    zope_partitions: Mapping[str, Any]
    neo_on_ipv6: bool
    was_backup: bool
    mysql_urls: Sequence[str]
    differences: tuple[str, ...] = ()

    @property
    def zodb(self) -> str:
        return self.parameters["zodb"]["type"]

    @property
    def expects_backup(self) -> bool:
        """Whether the NEO is created as a backup, or was asked to be one later, as after a rejoin."""
        asked = self.follow or self.parameters["zodb"]["neo"]["upstream-cluster"] or self.was_backup
        return bool(self.zodb == "neo" and asked)

    @property
    def inituser_login(self) -> str:
        return self.identity.get("inituser-login") or self.parameters["inituser-login"]

    @property
    def site_id(self) -> str:
        return self.identity.get("site-id") or self.parameters["site-id"]


def plan(parameters: Parameters, kept: Kept) -> Plan:
    """What is to be. Raises ConfigurationError, one sentence naming the parameter, and quoting no secret."""
    check(parameters, kept)
    # The rest of what it publishes has secrets of its Zopes, which a replica need not have.
    given = {key: value for key, value in parameters["replica-of"].items() if key in (*NEEDED, *OPTIONAL)}
    made = Plan(
        parameters=parameters,
        identity=kept.replica_of if kept.created else given or kept.replica_of,
        follow=given or kept.followed,
        zope_partitions={**kept.zope_partitions, **parameters["zope-partition-dict"]},
        neo_on_ipv6=_neo_on_ipv6(parameters, kept),
        was_backup=kept.expects_backup,
        mysql_urls=kept.mysql_urls,
    )
    found = chain(_of_zopes(parameters, kept), _of_databases(made), _of_ipv6(made), _of_identity(made, given))
    return replace(made, differences=tuple(found))


def _neo_on_ipv6(parameters: Parameters, kept: Kept) -> bool:
    """As it was created, which NEO's partition would refuse to change."""
    masters = kept.published.get("neo", {}).get("neo-masters", "")
    return "[" in masters if masters else _neo_to_ipv6(parameters)


def _neo_to_ipv6(parameters: Parameters) -> bool:
    return parameters["use-ipv6"] or parameters["zodb"]["neo"]["use-ipv6"]


def _of_ipv6(made: Plan) -> Iterator[str]:
    wanted = _neo_to_ipv6(made.parameters)
    if made.zodb == "neo" and wanted != made.neo_on_ipv6:
        now, before = ("true", "false") if wanted else ("false", "true")
        yield (
            f"use-ipv6 is {now}, but NEO was created with {before}, and stays so; give {before} again, or request"
            " another instance"
        )


def _of_databases(made: Plan) -> Iterator[str]:
    names = {entry["name"] for entry in mariadb(made)["database-list"]}
    if gone := [entry["name"] for entry in databases(made.mysql_urls) if entry["name"] not in names]:
        yield (
            f"mariadb.database-list has no {listing(gone)} any more, but Zopes are connected to it; nothing is taken"
            " away: put it back"
        )


def _of_zopes(parameters: Parameters, kept: Kept) -> Iterator[str]:
    for name in kept.zope_partitions:
        if name not in parameters["zope-partition-dict"]:
            yield (
                f"zope-partition-dict has no {name} any more, but the instance has that partition, whose Zopes run;"
                " nothing is deleted: put it back"
            )


def _of_identity(made: Plan, given: Published) -> Iterator[str]:
    """What replica-of says now of what the instance was made of, and stays."""
    if not given:
        return
    keys = ("site-id", "inituser-login", "inituser-password", "neo-partitions")
    if other := [key for key in keys if given[key] != made.identity[key]]:
        yield (
            f"replica-of has another {listing(other)} than when the instance was created, which stays; leave replica-of"
            " out, or request another instance"
        )
    used = {entry["name"]: (entry["user"], entry["password"]) for entry in mariadb(made)["database-list"]}
    entries = databases(given["mysql-url-list"])
    if other := [one["name"] for one in entries if used[one["name"]] != (one["user"], one["password"])]:
        yield (
            f"replica-of has another user or password for {listing(other)} than when the instance was created, which"
            " stays; give mariadb.database-list with the present ones"
        )


# ---- what each child is given


def mariadb(plan: Plan) -> dict[str, Any]:
    """The parameters of the MariaDB."""
    own, follow = plan.parameters["mariadb"], plan.follow
    given = {**own, "use-ipv6": own["use-ipv6"] or plan.parameters["use-ipv6"]}
    if plan.identity:
        given["database-list"] = _database_list(plan.identity, follow, own["database-list"])
    if follow and not given_pieces(plan.parameters, "mariadb.replication"):
        bootstrap = follow["mariadb-replication-bootstrap-url"]
        given["replication"] = own["replication"] | {
            "primary-url": follow["mariadb-replication-primary-url"],
            "bootstrap-url": bootstrap,
            # Where the primary cannot sign, a person does.
            "caucased-url": "" if endpoint(follow) else follow.get("mariadb-caucased-url", ""),
            "control-url": follow.get("mariadb-takeover-url", ""),
            "replicate-with-tls": own["replication"]["replicate-with-tls"] and bootstrap.startswith("https:"),
        }
    return given


def _database_list(identity: Published, follow: Published, own: Sequence[Parameters]) -> list[dict[str, Any]]:
    """The original's databases with their passwords, which the replica then publishes, too; those that it has got
    since, and further ones of our own parameters that have a password. A password of our own parameters counts more
    than the original's: it may have been changed in SQL after a takeover."""
    listed = {entry["name"]: dict(entry) for entry in own}
    first, later = databases(identity["mysql-url-list"]), databases(follow.get("mysql-url-list", []))
    names = {entry["name"] for entry in first}
    theirs = first + [entry for entry in later if entry["name"] not in names]
    # MariaDB refuses a user with two passwords.
    known = [*later, *first, *(entry for entry in own if "password" in entry)]
    passwords = {entry["user"]: entry["password"] for entry in known}
    found = [listed.get(entry["name"], {}) | entry | {"password": passwords[entry["user"]]} for entry in theirs]
    names = {entry["name"] for entry in theirs}
    return found + [entry for name, entry in listed.items() if name not in names and "password" in entry]


def mysql_urls(plan: Plan, published: Sequence[str]) -> list[str]:
    """What Zopes are connected to: each database keeps its place, as a connection is known by that, and one that is not
    asked for any more keeps it too, lest another one comes in its place."""
    before, now = ({urlsplit(url).path: url for url in urls} for urls in (plan.mysql_urls, published))
    return list({**before, **now}.values())


def neo(plan: Plan) -> dict[str, Any]:
    """The parameters of the NEO cluster."""
    own, follow = plan.parameters["zodb"]["neo"], plan.follow
    given = {**own, "use-ipv6": plan.neo_on_ipv6}
    if plan.identity:
        given["partitions"] = plan.identity["neo-partitions"]
    certificates = "" if given_pieces(plan.parameters, "zodb.neo.ssl") else follow.get("neo-certificate-url", "")
    if certificates or plan.identity.get("neo-certificate-url"):
        given["ssl"] = own["ssl"] | {"enable": True}
    if certificates:
        given["ssl"]["upstream-certificate-url"] = certificates
    if follow and not given_pieces(plan.parameters, "zodb.neo"):
        given["upstream-cluster"], given["upstream-masters"] = follow["neo-cluster"], follow["neo-masters"]
        given["upstream-control-url"] = follow.get("neo-takeover-url", "")
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
        "mysql-url-list": mysql_urls(plan, of_mariadb["database-list"]),
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


# ---- what is published


def published(plan: Plan, password: str, of: Mapping[str, Published]) -> dict[str, Any]:
    """What the instance publishes; `of` has what each child has, under its kind, and zope-NAME."""
    found = {
        "site-id": plan.site_id,
        "inituser-login": plan.inituser_login,
        "inituser-password": password,
        "mysql-url-list": mysql_urls(plan, of.get(MARIADB, {}).get("database-list", [])),
        **{f"mariadb-{key}": value for key, value in of.get(MARIADB, {}).items()},
    }
    for key, value in of.get(plan.zodb, {}).items():
        found[key if key.startswith(f"{plan.zodb}-") else f"{plan.zodb}-{key}"] = value
    if plan.zodb == "neo":
        # The cluster knows better than a parameter that may have been lost since; before a node told, that is it.
        found.setdefault("neo-partitions", neo(plan)["partitions"])
        found["takeover-url"] = found.get("neo-takeover-url", "")
    for name in plan.zope_partitions:
        own = of.get(f"{ZOPE}-{name}", {})
        found |= {f"{ZOPE}-{name}-{key}": own[key] for key in ("control-url", "monitor-url") if key in own}
    urls = of.get(BALANCER, {}).get("family-urls", {})
    return found | {f"family-{name}-url": url for name, url in urls.items()}
