# SPDX-License-Identifier: GPL-2.0-or-later
"""The recipes of Zopes: ports that stay by name, how families were created, and what is refused."""

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import zope_check, zope_instances

FAMILY = {"instance-count": 1, "thread-amount": 4, "hold": False}
NEO = {"neo-cluster": "main", "neo-masters": "a:1", "neo-admins": "a:2", "neo-certificate-url": ""}
ZODB = {"type": "neo", "zeo-address": "", "zeo-storage": "root"} | NEO
NOTHING = dict.fromkeys(NEO, "")


def processed(folder, families, install=True):
    """The options after a processing."""
    options = {"families": families, "ip": "::1", "partition": "slappart3", "folder": str(folder)}
    options |= {"range": "14000-17999", "classes": "40"}
    recipe = zope_instances.Recipe(None, "zopes", options)
    if install:
        assert recipe.install() == ()
    return options


def ports(options):
    return {zope["name"]: zope["port"] for zope in options["zopes"]}


def test_zopes_of_all_families(tmp_path):
    options = processed(tmp_path, {"web": FAMILY | {"instance-count": 2}, "jobs": FAMILY | {"thread-amount": 1}})
    found = ports(options)
    assert list(found) == ["jobs-0", "web-0", "web-1"] and len(set(found.values())) == 3
    assert {port % 40 for port in found.values()} == {3}
    first = {"name": "jobs-0", "family": "jobs", "host": "::1", "threads": 1, "port": found["jobs-0"]}
    assert options["zopes"][0] == first
    address = f"[::1]:{found['jobs-0']}"
    assert options["published"][0] == {"name": "jobs-0", "family": "jobs", "address": address}


def test_ports_stay_by_name(tmp_path):
    before = ports(processed(tmp_path, {"web": FAMILY | {"instance-count": 2}}))
    more = ports(processed(tmp_path, {"added": FAMILY, "web": FAMILY | {"instance-count": 2}}))
    assert more.items() >= before.items()
    others = ports(processed(tmp_path, {"other": FAMILY}))
    assert not set(others.values()) & set(more.values())
    assert ports(processed(tmp_path, {"web": FAMILY})) == {"web-0": before["web-0"]}


def test_nothing_is_written_before_the_part_is_installed(tmp_path):
    processed(tmp_path / "kept", {"web": FAMILY}, install=False)
    assert list(tmp_path.iterdir()) == []


def test_hold_counts_when_a_family_is_created(tmp_path):
    held = FAMILY | {"hold": True}
    assert processed(tmp_path, {"web": FAMILY, "jobs": held})["hold"] == ["jobs"]
    assert processed(tmp_path, {"web": held, "jobs": FAMILY})["hold"] == ["jobs"]
    assert processed(tmp_path, {"web": held, "jobs": FAMILY, "new": held})["hold"] == ["jobs", "new"]
    assert processed(tmp_path, {"web": held, "new": held})["hold"] == ["new"]
    assert processed(tmp_path, {"web": held, "jobs": FAMILY})["hold"] == []


@pytest.mark.parametrize("content", ["[]", "x"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "zope-families.json").write_text(content)
    with pytest.raises(UserError, match="zope-families.json should hold how families were created but does not"):
        processed(tmp_path, {"web": FAMILY})


def refusal(**parameters):
    configuration = {"zodb": ZODB, "inituser-login": "zope", "inituser-password": None, "mysql-url-list": []}
    configuration |= parameters
    with pytest.raises(UserError) as error:
        zope_check.Recipe(None, "check", {"configuration": configuration})
    return str(error.value)


def test_what_is_refused():
    assert refusal(zodb=ZODB | {"neo-admins": " "}) == (
        "zodb.neo-admins: it is empty, but zodb.type is neo; give it as the database publishes it."
    )
    assert refusal(zodb=ZODB | {"zeo-address": "a:1"}) == (
        "zodb.zeo-address: it is given, but zodb.type is neo; leave it out, or give the other type."
    )
    assert refusal(zodb=ZODB | NOTHING | {"type": "zeo"}).startswith("zodb.zeo-address: it is empty, but zodb.type is")
    zeo = {"type": "zeo", "zeo-address": "a:1"}
    assert refusal(zodb=ZODB | zeo).startswith("zodb.neo-cluster: it is given, but zodb.type is zeo")
    assert refusal(zodb=ZODB | {"neo-masters": "a:1 [::1]:65536"}) == (
        "zodb.neo-masters: it has a port above 65535; give it as the database publishes it."
    )
    for name in (" main", "main\n"):
        assert refusal(zodb=ZODB | {"neo-cluster": name}) == (
            "zodb.neo-cluster: it has a line break, or spaces at its ends; give it as the database publishes it."
        )
    secret = NOTHING | {"neo-certificate-url": "http://SECRET@a:1"}
    assert "SECRET" not in refusal(zodb=ZODB | zeo | secret)
    for password in ("SECRET:b", "SECRET\nb", " SECRET"):
        said = refusal(**{"inituser-password": password})
        assert said.startswith("inituser-password: it has a colon, a line break, or spaces at its ends")
        assert "SECRET" not in said
    assert refusal(**{"inituser-login": "a:b"}).startswith("inituser-login: it has a colon")
    said = refusal(zodb=ZODB | {"neo-certificate-url": "https://SECRET@a:1"})
    assert said.startswith("zodb.neo-certificate-url: it is not http://secret@host:port") and "SECRET" not in said
    said = refusal(**{"mysql-url-list": ["mysql://u:p@h/d", "mysql://u:SEC%20RET@h/d"]})
    assert said.startswith("mysql-url-list[1]: its password has white space, which Zope's MySQL adapter cannot be told")
    assert "SEC" not in said


def test_what_is_not_refused():
    tls = ZODB | {"neo-certificate-url": "http://secret@[::1]:24000"}
    for zodb in (ZODB, tls, ZODB | NOTHING | {"type": "zeo", "zeo-address": "a:1"}):
        parameters = {"zodb": zodb, "inituser-login": "zope", "inituser-password": "it's"}
        parameters["mysql-url-list"] = ["mysql://user:it%27s@[::1]:20000/erp5"]
        assert zope_check.Recipe(None, "check", {"configuration": parameters}).install() == ()
