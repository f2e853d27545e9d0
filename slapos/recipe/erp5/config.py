# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns a partition's JSON files into frozen dataclasses, refusing what it does not know, and back.

Messages name keys and types, never values, as those may be passwords.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError

T = typing.TypeVar("T")


def load(path: str | Path, cls: type[T]) -> T:
    """Read the JSON object at `path` as an instance of the dataclass `cls`.

    Raises ConfigurationError, naming the file and the key, when the file cannot be read, a key is
    unknown or missing, or a value has another type than its field.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON: {error}") from error
    return build(cls, data, str(path))


def build(cls: type[T], data: object, where: str) -> T:
    """Build the dataclass `cls` from a JSON object; keys are field names with `-` for `_`."""
    if not isinstance(data, dict):
        raise ConfigurationError(f"{where} is not an object but of type {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ConfigurationError(f"{where} has unknown keys: {', '.join(unknown)}")
    missing = sorted(key for key, field in fields.items() if key not in data and _required(field))
    if missing:
        raise ConfigurationError(f"{where} lacks: {', '.join(missing)}")
    values = {
        fields[key].name: convert(hints[fields[key].name], value, f"{where}, {key}") for key, value in data.items()
    }
    return cls(**values)


def convert(hint: typing.Any, value: object, where: str) -> typing.Any:
    """Check `value` against the type `hint`: a dataclass, tuple[X, ...], X | None, or a plain JSON type."""
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigurationError(f"{where} is not a list but of type {type(value).__name__}")
        return tuple(convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is types.UnionType:
        return None if value is None else convert(arguments[0], value, where)
    # bool is a subclass of int, and a JSON 1 is not a true.
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ConfigurationError(f"{where} is not of type {hint.__name__} but {type(value).__name__}")
    return value


def dashed(value: typing.Any) -> typing.Any:
    """The same plain value (such as dataclasses.asdict makes) with `-` for `_` in all keys, as `build` reads it."""
    if isinstance(value, dict):
        return {key.replace("_", "-"): dashed(item) for key, item in value.items()}
    return [dashed(item) for item in value] if isinstance(value, list | tuple) else value


def save(path: str | Path, value: typing.Any, durable: bool = True) -> None:
    """Write the dataclass instance `value` so that `load` reads it, whole or not at all (process.write_atomically)."""
    text = json.dumps(dashed(dataclasses.asdict(value)), indent=2, ensure_ascii=False)
    process.write_atomically(path, text + "\n", durable=durable)


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
