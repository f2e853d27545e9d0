# SPDX-License-Identifier: GPL-2.0-or-later
"""A JSON file becomes a frozen dataclass, or one sentence that names the file and the key."""

import dataclasses
import json
from dataclasses import dataclass

import pytest

from slapos.recipe.erp5 import config
from slapos.recipe.erp5.errors import ConfigurationError


@dataclass(frozen=True)
class Inner:
    some_name: str
    flag: bool = False


@dataclass(frozen=True)
class Outer:
    number: int
    ratio: float
    inner: Inner
    many: tuple[Inner, ...]
    maybe: str | None = None


GOOD = {"number": 1, "ratio": 2, "inner": {"some-name": "x"}, "many": [{"some-name": "y", "flag": True}]}


def load(tmp_path, data: object) -> Outer:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data))
    return config.load(path, Outer)


def test_a_complete_file(tmp_path):
    loaded = load(tmp_path, GOOD)
    assert loaded == Outer(1, 2, Inner("x"), (Inner("y", True),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.number = 2  # type: ignore[misc]


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_saved_is_loaded_again(tmp_path, durable):
    path, value = tmp_path / "x.json", Outer(1, 2.5, Inner("é"), (Inner("y", True), Inner("z")), "m")
    config.save(path, value, durable)
    assert config.load(path, Outer) == value
    assert '"some-name": "é"' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_null_where_it_is_allowed(tmp_path):
    assert load(tmp_path, {**GOOD, "maybe": None}).maybe is None
    assert load(tmp_path, {**GOOD, "maybe": "x"}).maybe == "x"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"nmber": 1, "x": 2}, " has unknown keys: nmber, x"),
        ({"number": None}, ", number is not of type int but NoneType"),
        ({"number": "1"}, ", number is not of type int but str"),
        ({"number": True}, ", number is not of type int but bool"),
        ({"inner": {"some-name": "x", "flag": 1}}, ", inner, flag is not of type bool but int"),
        ({"inner": {}}, ", inner lacks: some-name"),
        ({"inner": []}, ", inner is not an object but of type list"),
        ({"inner": {"some_name": "x", "some-name": "x"}}, ", inner has unknown keys: some_name"),
        ({"many": {}}, ", many is not a list but of type dict"),
        ({"many": [{"some-name": "y"}, {"some-name": 5}]}, ", many[1], some-name is not of type str but int"),
        ({"maybe": 3}, ", maybe is not of type str but int"),
    ],
)
def test_what_is_refused(tmp_path, change, message):
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, {**GOOD, **change})
    assert str(raised.value) == f"{tmp_path}/x.json{message}"


def test_missing_keys_are_all_named(tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, {"number": 1})
    assert str(raised.value) == f"{tmp_path}/x.json lacks: inner, many, ratio"


def test_a_file_that_is_missing_or_no_json(tmp_path):
    with pytest.raises(ConfigurationError, match=f"^{tmp_path}/none cannot be read as JSON: .*No such file"):
        config.load(tmp_path / "none", Outer)
    (tmp_path / "bad").write_text("{")
    with pytest.raises(ConfigurationError, match=f"^{tmp_path}/bad cannot be read as JSON: Expecting"):
        config.load(tmp_path / "bad", Outer)
