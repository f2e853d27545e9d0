# SPDX-License-Identifier: GPL-2.0-or-later
"""A password or server id is made once, kept in a private file, and replaced only by another requested one."""

import re
import stat
from typing import Any

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import keep


def kept(path, kind: str, requested: Any = "", **options: Any) -> str:
    options = {"kind": kind, "storage-path": str(path), "requested": requested, **options}
    assert keep.Recipe({}, "section", options).install() == ()
    return options["value"]


def test_a_password_is_made_once_and_kept_privately(tmp_path):
    path = tmp_path / "secrets" / "password"
    password = kept(path, "password")
    assert len(password) == 32 and password.isascii() and password.isalnum()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert kept(path, "password") == password
    assert [entry.name for entry in path.parent.iterdir()] == ["password"]


def test_no_two_passwords_are_the_same(tmp_path):
    assert len({kept(tmp_path / str(number), "password") for number in range(20)}) == 20


def test_nothing_is_written_before_the_part_is_installed(tmp_path):
    path = tmp_path / "srv" / "password"
    options = {"kind": "password", "storage-path": str(path)}
    recipe = keep.Recipe({}, "section", options)
    assert list(tmp_path.iterdir()) == []
    recipe.update()
    assert path.read_text() == options["value"]
    # A request that some other section refuses is initialised only.
    keep.Recipe({}, "section", options | {"requested": "other"})
    assert kept(path, "password") == options["value"]


def test_what_another_process_writes_meanwhile_stays(tmp_path):
    path = tmp_path / "password"
    kept(path, "password")
    recipe = keep.Recipe({}, "section", {"kind": "password", "storage-path": str(path)})
    path.write_text("rotated")
    recipe.update()
    assert path.read_text() == "rotated"


def test_the_length_can_be_chosen(tmp_path):
    assert len(kept(tmp_path / "password", "password", length="16")) == 16


@pytest.mark.parametrize("requested", [" a b ", "${buildout:directory}", "%s\n'\"\\", "pässwörd\u2603\r\n"])
def test_a_requested_password_is_kept_to_the_last_character(tmp_path, requested):
    path = tmp_path / "password"
    first = kept(path, "password")
    assert first != requested
    assert kept(path, "password", requested) == requested
    assert kept(path, "password", None) == requested


def test_server_ids_are_numbers_of_32_bits_that_differ(tmp_path):
    numbers = [int(kept(tmp_path / str(number), "server-id")) for number in range(50)]
    assert len(set(numbers)) == 50
    assert all(1 <= number < 2**32 for number in numbers)
    assert max(numbers) > 2**24
    assert kept(tmp_path / "0", "server-id") == str(numbers[0])


@pytest.mark.parametrize("requested", [1, "4294967295"])
def test_a_requested_server_id_is_kept(tmp_path, requested):
    assert kept(tmp_path / "id", "server-id", requested) == str(requested)
    assert kept(tmp_path / "id", "server-id") == str(requested)


@pytest.mark.parametrize("requested", [0, -1, 2**32, "one", True, "1 "])
def test_what_is_no_server_id_is_refused(tmp_path, requested):
    with pytest.raises(UserError) as error:
        kept(tmp_path / "id", "server-id", requested, parameter="server-id")
    assert str(error.value) == (
        f"server-id: {requested} is not a number between 1 and 4294967295;"
        " give one, or leave the parameter out to have one chosen."
    )
    assert not (tmp_path / "id").exists()


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="^section: kind is secret; it can be password, token or server-id.$"):
        kept(tmp_path / "x", "secret")


def test_a_token_has_128_bits_as_hexadecimal_digits(tmp_path):
    token = kept(tmp_path / "token", "token")
    assert re.fullmatch("[0-9a-f]{32}", token)
    assert kept(tmp_path / "token", "token") == token
