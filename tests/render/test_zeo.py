# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file of a ZEO partition, with every optional branch, against golden files."""

import pytest

from tests.render import golden_files
from tests.render.partition import complete, process, render

CASES: dict[str, dict] = {
    "zeo-default": {},
    "zeo-everything": {
        "storages": ["root", "catalog-2"],
        "backup": {"enable": False, "periodicity": "30 2 * * *", "retention-days": 30},
        "invalidation-queue-size": 5000,
        "use-ipv6": True,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_files_are_the_golden_ones(case, tmp_path, request):
    rendered = render(tmp_path, "zeo", CASES[case])
    golden_files.check(case, rendered, request.config.getoption("--update-golden"))


def test_only_the_account_itself_may_read_what_is_rendered(tmp_path):
    render(tmp_path, "zeo", {})
    files = [path for part in ("bin", "etc") for path in (tmp_path / part).rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []


def services(folder):
    return {path.name for path in (folder / "etc/service").iterdir()}


def test_what_the_server_reads_at_its_start_renames_its_service_and_nothing_else_does(tmp_path):
    first = services(render(tmp_path, "zeo", {}) and tmp_path)
    others = {"backup": {"periodicity": "hourly", "retention-days": 3}}
    assert services(render(tmp_path, "zeo", others) and tmp_path) == first
    changed = services(render(tmp_path, "zeo", {"storages": ["root", "more"]}) and tmp_path)
    (before,) = first - changed
    (after,) = changed - first
    assert before.startswith("zeo-") and after.startswith("zeo-")


@pytest.mark.parametrize("storages", [[], ["root", "root"], ["Root"], ["../root"], ["a b"]])
def test_storages_that_cannot_be(storages):
    with pytest.raises(AssertionError, match=r"\$\.storages"):
        complete("zeo", {"storages": storages})


def test_a_second_processing_changes_nothing(tmp_path):
    assert render(tmp_path, "zeo", {}) == render(tmp_path, "zeo", {})
    finished = process(tmp_path, "zeo", complete("zeo", {}), {})
    assert finished.returncode == 0, finished.stdout
