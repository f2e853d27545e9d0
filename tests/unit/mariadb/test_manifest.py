# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest: what it keeps, the names it refuses, and that a broken one is never taken for an empty one."""

import dataclasses
import json
import re

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.manifest import Entry
from tests.unit.mariadb import partition

ENTRY = Entry(
    name="20261122T223000Z.sql.zst",
    kind="logical",
    size=1234,
    sha256="0123456789abcdef" * 4,
    gtid="0-7-42",
    start="2026-11-22T22:30:00Z",
    end="2026-11-22T22:31:07Z",
    server_version="10.11.19-MariaDB",
)
LATER = dataclasses.replace(ENTRY, name="20261123T000000Z.sql.zst", start="2026-11-23T00:00:00Z", gtid="0-7-50,1-8-3")


def test_no_manifest_is_no_backup(tmp_path):
    assert manifest.load(tmp_path) == ()
    assert manifest.newest(()) is None


def test_what_is_saved_is_loaded_in_the_order_of_start(tmp_path):
    manifest.save(tmp_path, [LATER, ENTRY])
    assert manifest.load(tmp_path) == (ENTRY, LATER)
    assert manifest.newest((LATER, ENTRY)) == LATER
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_file_is_plain_json_for_others(tmp_path):
    manifest.save(tmp_path, [ENTRY])
    path = tmp_path / "manifest.json"
    assert json.loads(path.read_text()) == {
        "format": 1,
        "backups": [
            {
                "name": "20261122T223000Z.sql.zst",
                "kind": "logical",
                "size": 1234,
                "sha256": "0123456789abcdef" * 4,
                "gtid": "0-7-42",
                "start": "2026-11-22T22:30:00Z",
                "end": "2026-11-22T22:31:07Z",
                "server-version": "10.11.19-MariaDB",
            }
        ],
    }
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["20261122T223000Z.sql.zst", "20261122T223000Z-1.sql.zst", "20261122T223000Z-999.xbstream.zst"]
)
def test_names(name):
    assert manifest.is_name(name)


BAD_NAMES = [
    "",
    ".",
    "..",
    "manifest.json",
    "../20261122T223000Z.sql.zst",
    "a/20261122T223000Z.sql.zst",
    "20261122T223000Z.sql.zst/..",
    "20261122T223000Z.sql.zst\n",
    "20261122T223000Z.sql.zst\x00",
    ".20261122T223000Z.sql.zst",
    "20261122T223000Z.sql",
    "20261122T223000Z..zst",
    "20261122T223000Z.SQL.zst",
    "２０２６1122T223000Z.sql.zst",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_other_names_are_refused_both_ways(tmp_path, name):
    entry = dataclasses.replace(ENTRY, name=name)
    sentence = re.escape(
        f"{tmp_path}/manifest.json cannot be used as a list of backups: {name!r} is no name of a backup: "
        "move it away (the backups stay)"
    )
    with pytest.raises(BackupError, match=f"^{sentence}$"):
        manifest.save(tmp_path, [ENTRY, entry])
    assert not (tmp_path / "manifest.json").exists()
    (tmp_path / "manifest.json").write_text(manifest.text([entry]))
    with pytest.raises(BackupError, match=f"^{sentence}$"):
        manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "ABC"}, "the sha256 of 20261122T223000Z.sql.zst is 'ABC'"),
        ({"size": -1}, "the size of 20261122T223000Z.sql.zst is -1"),
        ({"end": "yesterday"}, "time data 'yesterday' does not match format '%Y-%m-%dT%H:%M:%SZ'"),
    ],
)
def test_values_that_we_would_not_have_written(change, reason):
    with pytest.raises(BackupError) as caught:
        manifest.parse(manifest.text([dataclasses.replace(ENTRY, **change)]), "M")
    assert str(caught.value) == f"M cannot be used as a list of backups: {reason}: move it away (the backups stay)"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "M is not an object but of type list"),
        ('{"format": 1}', "M lacks: backups"),
        ('{"format": 2, "backups": []}', "its format is 2, and this program knows 1"),
        ('{"format": 1, "backups": [], "more": 1}', "M has unknown keys: more"),
        ('{"format": 1, "backups": {}}', "M, backups is not a list but of type dict"),
    ],
)
def test_a_broken_manifest_is_an_error_and_not_an_empty_one(content, reason):
    with pytest.raises(BackupError) as caught:
        manifest.parse(content, "M")
    assert str(caught.value) == f"M cannot be used as a list of backups: {reason}: move it away (the backups stay)"


def test_a_manifest_that_is_a_folder(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(BackupError, match="cannot be used as a list of backups: .*Is a directory"):
        manifest.load(tmp_path)


def test_the_same_name_twice():
    with pytest.raises(BackupError, match="20261122T223000Z.sql.zst is listed more than once"):
        manifest.parse(manifest.text([ENTRY, ENTRY]), "M")


def test_a_save_that_fails_leaves_the_old_one(tmp_path):
    manifest.save(tmp_path, [ENTRY])
    with pytest.raises(BackupError):
        manifest.save(tmp_path, [ENTRY, ENTRY])
    assert manifest.load(tmp_path) == (ENTRY,)


# ---- physical backups

FULL, INCREMENTAL = partition.chain(1, 1)
ODD = "which does not go with the rest of it"


def test_a_chain_goes_through_the_file(tmp_path):
    manifest.save(tmp_path, [INCREMENTAL, FULL, ENTRY])
    assert manifest.load(tmp_path) == (FULL, INCREMENTAL, ENTRY)
    full, incremental, dump = json.loads((tmp_path / "manifest.json").read_text())["backups"]
    assert "physical" not in dump
    assert full["physical"] == {
        **{"base": "", "from-lsn": 0, "to-lsn": 1000, "plain-size": 1000, "tablespaces": 4, "database": "D"},
    }
    assert incremental["physical"]["base"] == full["name"] == "20261101T000000Z.full.zst"
    assert incremental["name"] == "20261102T000000Z.incremental.zst"


def physical(entry, **values):
    return dataclasses.replace(entry, physical=dataclasses.replace(entry.physical, **values))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (dataclasses.replace(FULL, kind="logical"), f"X is of the kind 'logical', {ODD}"),
        (dataclasses.replace(FULL, physical=None), f"X is of the kind 'physical-full', {ODD}"),
        (physical(FULL, base=INCREMENTAL.name), f"the base of X is '{INCREMENTAL.name}'"),
        (physical(FULL, to_lsn=-1), "the to-lsn of X is -1"),
        (physical(FULL, plain_size=-1), "the plain-size of X is -1"),
        (physical(INCREMENTAL, base="../x"), "the base of X is '../x'"),
        (physical(INCREMENTAL, base=""), "the base of X is ''"),
    ],
)
def test_chains_that_we_would_not_have_written(entry, reason):
    with pytest.raises(BackupError) as caught:
        manifest.parse(manifest.text([entry]), "M")
    reason = reason.replace("X", entry.name)
    assert str(caught.value) == f"M cannot be used as a list of backups: {reason}: move it away (the backups stay)"
