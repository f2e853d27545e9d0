# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `zope-check`: refuses parameters of Zopes that the schema cannot refuse."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5.buildout import port
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.zope import mysql_url, tls

OF_NEO = ("neo-cluster", "neo-masters", "neo-admins")
OF_ZEO = ("zeo-address",)


class Recipe:
    """Option in: `configuration` (the parameters). Raises UserError while the section is initialised, one sentence that
    names the parameter, and quotes no value."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        parameters = options["configuration"]
        for sentence in (*of_database(parameters["zodb"]), *of_user(parameters)):
            raise UserError(sentence)
        try:
            mysql_url.connection_strings(parameters["mysql-url-list"])
            if url := parameters["zodb"]["neo-certificate-url"]:
                tls.check(url)
        except ConfigurationError as error:
            raise UserError(str(error)) from error

    def install(self) -> tuple[str, ...]:
        return ()

    update = install


def of_database(zodb: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the parameter `zodb`."""
    kind = zodb["type"]
    needed, foreign = (OF_NEO, OF_ZEO) if kind == "neo" else (OF_ZEO, (*OF_NEO, "neo-certificate-url"))
    for key in needed:
        if not zodb[key].strip():
            yield f"zodb.{key}: it is empty, but zodb.type is {kind}; give it as the database publishes it."
    for key in foreign:
        if zodb[key].strip():
            yield f"zodb.{key}: it is given, but zodb.type is {kind}; leave it out, or give the other type."
    for key in ("neo-masters", "neo-admins", "zeo-address"):
        if any(int(address.rpartition(":")[2]) > port.HIGHEST for address in zodb[key].split()):
            yield f"zodb.{key}: it has a port above {port.HIGHEST}; give it as the database publishes it."
    for key in ("neo-cluster", "zeo-storage"):
        if zodb[key] and (zodb[key] != zodb[key].strip() or "\n" in zodb[key]):
            yield f"zodb.{key}: it has a line break, or spaces at its ends; give it as the database publishes it."


def of_user(parameters: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the first user: Zope reads a line of name and password from a file."""
    for key in ("inituser-login", "inituser-password"):
        text = parameters[key] or ""
        if set(":\r\n") & set(text) or text != text.strip():
            yield f"{key}: it has a colon, a line break, or spaces at its ends, which Zope cannot have; change it."
