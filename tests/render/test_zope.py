# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file of a partition of Zopes, with every optional branch, against golden files."""

import json
from typing import Any

import pytest

from tests.render import golden_files
from tests.render.partition import complete, process, render

NEO = {"neo-cluster": "main", "neo-masters": "127.0.0.9:30000 127.0.0.9:30001", "neo-admins": "127.0.0.9:31000"}
ZEO = {"type": "zeo", "zeo-address": "[::1]:18000", "zeo-storage": "erp5"}
EVERYTHING: dict[str, Any] = {
    "families": {"web": {"instance-count": 2, "thread-amount": 8}, "jobs": {"thread-amount": 1, "hold": True}},
    "zodb": NEO | {"cache-size": 50000, "client-cache-size": 1 << 30},
    "expects-backup": True,
    "mysql-url-list": ["mysql://erp5:it%27s@127.0.0.1:20000/erp5"],
    "inituser-login": "admin",
    "inituser-password": 'a "secret" of $5',
    "products": ["/more/product"],
    "use-ipv6": True,
}
CASES: dict[str, dict] = {
    "zope-default": {"zodb": NEO},
    "zope-tls": {"zodb": NEO | {"neo-certificate-url": "http://a%2Fsecret@[::1]:24000"}},
    "zope-everything": EVERYTHING,
    "zope-zeo": {"zodb": ZEO},
}


@pytest.mark.parametrize("case", CASES)
def test_files_of_a_partition_are_the_golden_ones(case, tmp_path, request):
    rendered = render(tmp_path, "zope", CASES[case])
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))
    files = [path for part in ("bin", "etc") for path in (tmp_path / part).rglob("*") if path.is_file()]
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []


def names(folder):
    """The services, and the Zopes, of a partition."""
    services = sorted(path.name for part in ("run", "service") for path in (folder / "etc" / part).iterdir())
    zopes = json.loads((folder / "etc/zope.json").read_text())["zopes"]
    return services, {zope["name"]: zope["port"] for zope in zopes}


def test_what_zopes_read_at_their_start_restarts_them_and_nothing_else_does(tmp_path):
    render(tmp_path, "zope", EVERYTHING)
    services, zopes = names(tmp_path)
    families = EVERYTHING["families"] | {"jobs": {"thread-amount": 1, "hold": False}}
    render(tmp_path, "zope", EVERYTHING | {"expects-backup": False, "families": families})
    assert (tmp_path / "etc/plugin/zope-listening.py").exists()
    assert names(tmp_path) == (services, zopes)
    render(tmp_path, "zope", EVERYTHING | {"families": families | {"web": {"instance-count": 2, "thread-amount": 9}}})
    assert not (tmp_path / "etc/plugin/zope-listening.py").exists()
    changed, same = names(tmp_path)
    assert same == zopes and [name for name in changed if name not in services] == [
        name for name in changed if name.startswith("zope-standby-")
    ]


def test_a_port_stays_its_zopes_when_others_come_and_go(tmp_path):
    families = {"web": {"instance-count": 2}}
    render(tmp_path, "zope", {"zodb": NEO, "families": families})
    render(tmp_path, "zope", {"zodb": NEO, "families": {"added": {"instance-count": 3}, **families}})
    _, zopes = names(tmp_path)
    assert (zopes.pop("web-0"), zopes.pop("web-1")) == (14001, 14002)
    assert sorted(zopes) == ["added-0", "added-1", "added-2"]
    # Not those that are kept for Zopes which nobody asks for now.
    assert not set(zopes.values()) & set(range(14000, 14004))
    render(tmp_path, "zope", {"zodb": NEO, "families": {"added": {"instance-count": 1}}})
    assert names(tmp_path)[1] == {"added-0": zopes["added-0"]}
    render(tmp_path, "zope", {"zodb": NEO, "families": families})
    assert names(tmp_path)[1] == {"web-0": 14001, "web-1": 14002}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "Error: zodb.neo-cluster: it is empty, but zodb.type is neo; give it as the database publishes it."),
        ({"zodb": {"type": "zeo"} | NEO}, "Error: zodb.zeo-address: it is empty, but zodb.type is zeo; give it as"),
        (
            {"zodb": NEO, "inituser-password": "a:b"},
            "Error: inituser-password: it has a colon, a line break, or spaces",
        ),
        (
            {"zodb": NEO, "mysql-url-list": ["mysql://u:p@h:1/d", "mysql://u:a%20b@h:1/d"]},
            "Error: mysql-url-list[1]: its password has white space, which Zope's MySQL adapter cannot be told",
        ),
        (
            {"zodb": NEO | {"neo-certificate-url": "http://127.0.0.1:1"}},
            "Error: zodb.neo-certificate-url: it is not http://secret@host:port, expected what the NEO cluster",
        ),
    ],
)
def test_what_the_schema_cannot_refuse_is_refused_before_anything_is_rendered(parameters, said, tmp_path):
    finished = process(tmp_path, "zope", complete("zope", parameters), {})
    assert finished.returncode != 0
    assert said in finished.stdout
    assert not (tmp_path / "etc").exists()
