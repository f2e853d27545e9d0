# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that a Zope reads at its start: whole, for NEO and for ZEO, and what cannot be written into them."""

import dataclasses
import stat
from pathlib import Path

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control.configuration import Control
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import instance, start
from slapos.recipe.erp5.zope.config import Config, Instance, Neo, Software, User, Zeo

NEO = Neo("main", ("10.0.0.1:26000", "[2001:db8::1]:26000"), ("10.0.0.1:26100",))
SOFTWARE = Software(
    "/zope/bin/python", "/scripts/zope_serve.py", "/neo/bin/python", "/scripts/neo_ask.py", "/logrotate", "/zstd"
)
CONFIG = Config(
    instance="Zopes",
    partition="/p",
    software=SOFTWARE,
    neo=NEO,
    zeo=None,
    zopes=(Instance("web-0", "web", "10.0.0.2", 22000, 4), Instance("web-1", "web", "2001:db8::2", 22001, 1)),
    inituser=User("zope", "secret"),
    zodb_cache_size=50000,
    products=("/erp5/product",),
    hold=(),
    control=Control("10.0.0.2", 28000),
)
WEB = CONFIG.zopes[0]
NEO_CONF = """\
%import neo.client
instancehome /p/var/zope/web-0
pid-filename /p/var/zope/web-0/var/zope.pid
<environment>
  CHAMELEON_CACHE /p/var/zope/web-0/var
</environment>
<zodb_db main>
  mount-point /
  cache-size 50000
  <NEOStorage>
    master_nodes 10.0.0.1:26000 [2001:db8::1]:26000
    name main
    logfile /p/var/log/web-0-neo.log
    cache-size 20971520
  </NEOStorage>
</zodb_db>
"""


def storage_of(config: Config) -> list[str]:
    """The lines of the storage."""
    lines = instance.zope_conf(config, WEB).splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def test_zope_conf_for_neo():
    assert instance.zope_conf(CONFIG, WEB) == NEO_CONF


def test_zope_conf_for_neo_with_tls():
    config = dataclasses.replace(CONFIG, neo=dataclasses.replace(NEO, tls=("/p/ca", "/p/cert", "/p/key")))
    assert storage_of(config)[4:] == ["ca /p/ca", "cert /p/cert", "key /p/key"]


def test_connections_to_mysql_are_in_a_file_of_their_own(tmp_path: Path):
    urls = ("mysql://user:se%25cret@10.0.0.9:21000/erp5", "mysql://user:other@[2001:db8::9]:21000/erp5")
    config = dataclasses.replace(CONFIG, partition=str(tmp_path), mysql_urls=urls)
    ini = instance.make(config, WEB)
    kept = instance.mysql_file(config.home(WEB.name))
    assert kept.read_text() == '["erp5@10.0.0.9:21000 user se%cret", "erp5@[2001:db8::9]:21000 user other"]\n'
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    words = start.command(config, WEB, str(ini), 5, 6)
    assert words[words.index("--mysql") + 1] == str(kept)
    assert [text for text in ("se%", "other") if text in " ".join(words) + repr(config)] == []
    assert "--mysql" not in start.command(dataclasses.replace(config, mysql_urls=()), WEB, str(ini), 5, 6)


def test_a_url_that_cannot_be_told_starts_no_zope(tmp_path: Path):
    config = dataclasses.replace(CONFIG, partition=str(tmp_path), mysql_urls=("mysql://user:a%20b@h:1/erp5",))
    with pytest.raises(ConfigurationError, match=r"mysql-url-list\[0\]: its password has white space"):
        instance.make(config, WEB)


def test_zope_conf_for_zeo():
    config = dataclasses.replace(CONFIG, neo=None, zeo=Zeo("10.0.0.1:23000", "root", 1 << 20))
    assert "%import" not in instance.zope_conf(config, WEB) and "  <zeoclient>\n" in instance.zope_conf(config, WEB)
    assert storage_of(config) == ["server 10.0.0.1:23000", "storage root", "name web-0", "cache-size 1048576"]


def test_dollars_are_kept():
    assert instance.quoted("a$b") == "a$$b"


@pytest.mark.parametrize("value", ["", " a", "a\nb", "a\n"])
def test_what_cannot_be_a_value(value: str):
    with pytest.raises(ConfigurationError, match="empty, has a line break, or spaces at its ends"):
        instance.quoted(value)


@pytest.mark.parametrize("number, listen", [(0, "listen = 10.0.0.2:22000"), (1, "listen = [2001:db8::2]:22001")])
def test_zope_ini_has_address_and_threads(number: int, listen: str):
    zope = CONFIG.zopes[number]
    lines = instance.zope_ini(CONFIG, zope).splitlines()
    assert listen in lines and f"threads = {zope.threads}" in lines
    assert f"args = ('/p/var/log/{zope.name}-event.log', \"a\")" in lines


@pytest.mark.parametrize("user", [User("", "x"), User("x", ""), User("a:b", "x"), User("x", "a\nb")])
def test_an_initial_user_that_cannot_be(user: User):
    with pytest.raises(ConfigurationError, match="name or password of the initial user") as error:
        instance.inituser(dataclasses.replace(CONFIG, inituser=user))
    assert user.password not in str(error.value) or user.password in ("", "x")


def test_all_is_made_for_its_owner_alone(tmp_path: Path):
    config = dataclasses.replace(CONFIG, partition=str(tmp_path))
    for _ in range(2):
        ini = instance.make(config, WEB)
    assert ini == tmp_path / "var/zope/web-0/etc/zope.ini"
    made = [ini, ini.with_name("zope.conf"), ini.with_name("site.zcml"), config.home("web-0") / "inituser"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert made[-1].read_text() == "zope:secret\n"


def test_the_command_has_no_secret():
    words = start.command(CONFIG, WEB, "/ini", 5, 6)
    assert words == [
        *("/zope/bin/python", "/scripts/zope_serve.py", "--ini", "/ini", "--home", "/p/var/zope/web-0"),
        *("--socket", "5", "--ready", "6", "--neo", "--products", "/erp5/product"),
    ]


# The partition's file


def test_the_partitions_file_is_read_back(tmp_path: Path):
    shapes.save(tmp_path / "zope.json", CONFIG)
    assert configuration.load(tmp_path / "zope.json") == CONFIG


@pytest.mark.parametrize("changes", [{"neo": None}, {"zeo": Zeo("10.0.0.1:23000", "root")}])
def test_exactly_one_database(tmp_path: Path, changes: dict):
    shapes.save(tmp_path / "zope.json", dataclasses.replace(CONFIG, **changes))
    with pytest.raises(ConfigurationError, match="names both or none of neo and zeo"):
        configuration.load(tmp_path / "zope.json")


def test_a_zope_that_is_not_there():
    with pytest.raises(ConfigurationError, match="there is no Zope x in this partition, expected one of web-0, web-1"):
        CONFIG.zope("x")
