# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `parameters`: slapos.cookbook's validated parameters, refused in sentences that quote no secret.

The refusal goes into logs that others can read, and to the Master; the validator's own messages quote whole values.
"""

import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema import ValidationError
from slapos.recipe.slapconfiguration import JsonSchema
from zc.buildout import UserError

LONGEST = 60
"""Characters of a value, or of an unknown name, that a message shows."""
SECRET = ("password", "secret", "token", "url")
"""Words in names of parameters whose values are never shown: published URLs hold a password or a token."""
TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
LIMITS = {
    "maximum": "at most {}",
    "maxLength": "at most {} characters",
    "minProperties": "at least {} in it",
    "minimum": "at least {}",
    "minLength": "at least {} character(s)",
    "pattern": "a string that matches {}",
}


class Recipe(JsonSchema):
    """Options in and out as of slapos.cookbook:slapconfiguration.jsonschema.

    Raises UserError, and reports it to the Master: a line for each thing that is wrong.
    """

    def _validateMain(self, schema: dict, validator: Any, parameter_dict: Any) -> dict:  # noqa: N802 (slapos.cookbook's)
        if not isinstance(parameter_dict, dict):
            raise UserError(f"Invalid parameters:\n  all parameters: {_kind(parameter_dict)}, expected an object")
        lines = sentences(validator.validate(schema, parameter_dict))
        if lines:
            raise UserError("Invalid parameters:\n" + "\n".join(f"  {line}" for line in lines))
        return parameter_dict


def sentences(errors: Iterable[ValidationError]) -> list[str]:
    """Say each error in one line: `name.of.parameter[index].part: observed, expected`, and the remedy."""
    # Of several names that are missing in one place, each has an error that tells of all.
    return list(dict.fromkeys(line for error in errors for line in _sentences(error)))


def _sentences(error: ValidationError) -> Iterator[str]:
    path, schema = list(error.absolute_path), error.schema
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    match error.validator:
        case "additionalProperties" if isinstance(error.instance, dict):
            for name in sorted(error.instance.keys() - properties.keys()):
                yield f"{_dotted([*path, _short(name)])}: no such parameter, expected {_nearest(name, properties)}"
        case "required":
            for name in error.validator_value:
                if name not in error.instance:
                    part = properties.get(name, {})
                    yield f"{_dotted([*path, name])}: missing, expected {_types(part)}{_description(part)}"
        case keyword:
            observed, expected = _observed(error.instance, path, schema), _expected(keyword, error.validator_value)
            yield f"{_dotted(path)}: {observed}, expected {expected}{_description(schema)}"


def _dotted(path: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "all parameters"


def _short(name: str) -> str:
    # Whatever a user wrote, in one line: a name may hold the end of one.
    text = json.dumps(name)[1:-1]
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"{near[0]}, perhaps" if near else "one of " + ", ".join(sorted(known))


def _expected(keyword: str, wanted: Any) -> str:
    if keyword == "type":
        return _types({"type": wanted})
    if keyword == "enum":
        return "one of " + ", ".join(map(str, wanted))
    return LIMITS.get(keyword, "what the schema says of " + keyword).format(wanted)


def _types(schema: Any) -> str:
    types = schema.get("type", []) if isinstance(schema, dict) else []
    return " or ".join(TYPES[name] for name in ([types] if isinstance(types, str) else types)) or "a value"


def _observed(value: Any, path: list[str | int], schema: Any) -> str:
    """Show a value that is plain, short and cannot be or hold a password; say only the type of any other."""
    types = schema.get("type", []) if isinstance(schema, dict) else ["object"]
    # In place of a list or an object somebody may have written all of it as text, with its passwords.
    structured = {"array", "object"} & set([types] if isinstance(types, str) else types)
    secret = any(word in step.lower() for step in path if isinstance(step, str) for word in SECRET)
    if secret or structured or not isinstance(value, str | int | float | bool):
        return _kind(value)
    if isinstance(value, str) and len(value) > LONGEST:
        return f"a string of {len(value)} characters"
    return json.dumps(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _description(schema: Any) -> str:
    text = schema.get("description", "") if isinstance(schema, dict) else ""
    return f" ({text})" if text else ""
