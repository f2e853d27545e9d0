# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that a Zope reads at its start, made from the partition's configuration."""

import json
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.neo import logs
from slapos.recipe.erp5.zope import mysql_url
from slapos.recipe.erp5.zope.config import Config, Instance, Neo, Zeo

ZCML = """\
<configure xmlns="http://namespaces.zope.org/zope" xmlns:five="http://namespaces.zope.org/five">
  <include package="Zope2.App"/>
  <five:loadProducts file="meta.zcml"/>
  <five:loadProducts/>
  <five:loadProductsOverrides/>
</configure>
"""


def make(config: Config, zope: Instance) -> Path:
    """(Re)write the files of one Zope, which must not run; returns its zope.ini.

    inituser is written each time, as Zope removes it also when it then fails to write into the database. A Zope of ours
    creates that user only in a database that has none (py2/zope_serve.py).
    """
    home = config.home(zope.name)
    logs.make_ready(config.neo_log(zope.name))
    for folder in ("etc", "var", "Extensions"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    config.path("var", "log").mkdir(parents=True, exist_ok=True)
    _write(home / "etc" / "site.zcml", ZCML)
    _write(home / "etc" / "zope.conf", zope_conf(config, zope))
    _write(home / "etc" / "zope.ini", zope_ini(config, zope))
    _write(mysql_file(home), json.dumps(mysql_url.connection_strings(config.mysql_urls)) + "\n")
    _write(home / "inituser", inituser(config))
    return home / "etc" / "zope.ini"


def _write(path: Path, content: str) -> None:
    process.write_atomically(path, content, durable=False)


def mysql_file(home: Path) -> Path:
    """The connection strings of mysql_0 and so on, passwords included, as JSON: what py2/zope_serve.py reads."""
    return home / "etc" / "mysql.json"


def inituser(config: Config) -> str:
    """A line of name and password; no colon in either, and no space at the ends."""
    user = config.inituser
    if not user.name or not user.password or set(":\n") & set(user.name + user.password):
        raise ConfigurationError("name or password of the initial user is empty or has a colon or a line break")
    return f"{user.name}:{user.password}\n"


def zope_conf(config: Config, zope: Instance) -> str:
    home = config.home(zope.name)
    head, storage = _neo(config, config.neo, zope) if config.neo else ("", _zeo(config.zeo, zope))
    return f"""\
{head}instancehome {quoted(home)}
pid-filename {quoted(home / "var" / "zope.pid")}
<environment>
  CHAMELEON_CACHE {quoted(home / "var")}
</environment>
<zodb_db main>
  mount-point /
  cache-size {config.zodb_cache_size}
{storage}</zodb_db>
"""


def _neo(config: Config, neo: Neo, zope: Instance) -> tuple[str, str]:
    """The import of the storage's type, and the storage."""
    keys = {
        "master_nodes": " ".join(neo.masters),
        "name": neo.cluster,
        "logfile": config.neo_log(zope.name),
        "cache-size": neo.cache_size,
        **dict(zip(("ca", "cert", "key"), neo.tls, strict=False)),
    }
    return "%import neo.client\n", _section("NEOStorage", keys)


def _zeo(zeo: Zeo | None, zope: Instance) -> str:
    assert zeo
    keys = {"server": zeo.address, "storage": zeo.storage, "name": zope.name, "cache-size": zeo.cache_size}
    return _section("zeoclient", keys)


def _section(name: str, keys: dict[str, object]) -> str:
    lines = "".join(f"    {key} {quoted(value)}\n" for key, value in keys.items())
    return f"  <{name}>\n{lines}  </{name}>\n"


def quoted(value: object) -> str:
    """A value as ZConfig reads it, which would substitute what follows a dollar."""
    text = str(value)
    if "\n" in text or text != text.strip() or not text:
        raise ConfigurationError("a value for zope.conf is empty, has a line break, or spaces at its ends")
    return text.replace("$", "$$")


def zope_ini(config: Config, zope: Instance) -> str:
    """`listen` is for whoever runs this by hand: the standby supervisor has the socket, and gives it to Zope."""
    host = f"[{zope.host}]" if ":" in zope.host else zope.host
    event, access = config.logs(zope.name)
    return f"""\
[app:zope]
use = egg:Zope#main
zope_conf = %(here)s/zope.conf

[pipeline:main]
pipeline = egg:Zope#httpexceptions translogger zope

[filter:translogger]
use = egg:Paste#translogger
setup_console_handler = False

[server:main]
use = egg:waitress#main
listen = {host}:{zope.port}
threads = {zope.threads}

[loggers]
keys = root, access

[handlers]
keys = event, access

[formatters]
keys = event, access

[logger_root]
level = INFO
handlers = event

[logger_access]
level = INFO
handlers = access
qualname = wsgi
propagate = 0

# Files that logrotate has renamed are left for new ones.
[handler_event]
class = logging.handlers.WatchedFileHandler
args = ({str(event)!r}, "a")
formatter = event

[handler_access]
class = logging.handlers.WatchedFileHandler
args = ({str(access)!r}, "a")
formatter = access

[formatter_event]
format = %(asctime)s %(levelname)s %(name)s %(message)s

[formatter_access]
format = %(message)s
"""
