# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file of a balancer's partition, with every optional branch, against golden files."""

import json

import pytest

from tests.render import golden_files
from tests.render.partition import render

FAMILIES = {
    "default": {"addresses": ["127.0.0.1:2200", "127.0.0.1:2201"]},
    "empty": {"addresses": []},
    "one": {"addresses": ["[::1]:2202"]},
    # haproxy takes no two backends of one name.
    "one-standby": {"addresses": ["127.0.0.1:2203"]},
}
CASES: dict[str, dict] = {
    "balancer-default": {},
    "balancer-families": {"families": FAMILIES},
    "balancer-ipv6": {"families": {"default": FAMILIES["default"]}, "use-ipv6": True},
}


@pytest.mark.parametrize("case", CASES)
def test_files_of_a_balancer_are_the_golden_ones(case, tmp_path, request):
    rendered = render(tmp_path, "balancer", CASES[case])
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))


def test_a_family_keeps_its_port_whatever_the_others_do_and_no_service_is_renamed(tmp_path):
    urls, services = [], []
    for names in (["default", "one"], ["one"], ["added", "default", "one"]):
        families = {name: FAMILIES.get(name, {"addresses": ["127.0.0.1:2203"]}) for name in names}
        rendered = render(tmp_path, "balancer", {"families": families})
        urls.append(json.loads(rendered["published.json"])["family-urls"])
        services.append(sorted(path.name for path in (tmp_path / "etc/service").iterdir()))
    assert [sorted(found) for found in urls] == [["default", "one"], ["one"], ["added", "default", "one"]]
    assert urls[2]["one"] == urls[1]["one"] == urls[0]["one"]
    assert urls[2]["default"] == urls[0]["default"]
    assert len(set(urls[2].values())) == 3
    assert services == [["balancer"]] * 3


def test_only_the_account_itself_may_read_what_is_rendered(tmp_path):
    render(tmp_path, "balancer", CASES["balancer-families"])
    files = [path for path in (tmp_path / "etc").rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []
