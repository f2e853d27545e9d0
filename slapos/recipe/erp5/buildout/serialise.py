# SPDX-License-Identifier: GPL-2.0-or-later
"""Text form of typed buildout option values, which survives every place where buildout reads or writes an option.

The text is `!py!` and a Python literal, as the SlapOS fork of buildout writes and reads it. It is one line of ASCII
without `$`, `%`, `#`, `;` or backquotes, so that neither buildout's substitution nor its parser nor a template changes
it. One value has one text: the keys of dictionaries and the members of sets are sorted.
"""

import ast
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

PREFIX = "!py!"
_UNSAFE = re.compile(r"[^A-Za-z0-9 _./:,=@+*()<>?!~^|&\[\]-]")
_CHANGED_BY_BUILDOUT = ("${", "%(", PREFIX)


def dumps(value: Any) -> str:
    """Return the text of a value: str, bytes, bool, int, float, None, or a list, tuple, set or mapping of these.

    Raises TypeError for anything else, and for a float that is not finite, which has no literal.
    """
    return PREFIX + _literal(value)


def loads(text: str) -> Any:
    """Return the value of a text made by `dumps`. Nothing is executed: ValueError for what is not a plain literal."""
    if not text.startswith(PREFIX):
        raise ValueError(f"not a serialised value: it does not begin with {PREFIX}")
    try:
        return ast.literal_eval(text[len(PREFIX) :])
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a serialised value: {error}") from error


def encode(value: Any) -> str:
    """Return what to write in a file of options for `decode` to give the value back: text itself where that is safe."""
    return value if isinstance(value, str) and _is_plain(value) else dumps(value)


def decode(text: str) -> Any:
    """Return the value of an option read from a file: typed when it was serialised, the text itself otherwise."""
    return loads(text) if text.startswith(PREFIX) else text


def _is_plain(text: str) -> bool:
    lines = text.split("\n") if text else []
    return all(line and line == line.strip() and line.isascii() and line.isprintable() for line in lines) and not any(
        changed in text for changed in _CHANGED_BY_BUILDOUT
    )


def _literal(value: Any) -> str:
    match value:
        case None | bool() | int():
            # Through the base type, as the members of an IntEnum print otherwise.
            return repr(value if value is None or isinstance(value, bool) else int(value))
        case float() if math.isfinite(value):
            return repr(float(value))
        case str():
            return _quoted(value)
        case bytes() | bytearray():
            return "b" + _quoted(value.decode("latin-1"))
        case Mapping():
            return "{" + ", ".join(sorted(f"{_literal(k)}: {_literal(v)}" for k, v in value.items())) + "}"
        case list():
            return "[" + _joined(value) + "]"
        case tuple():
            return "(" + _joined(value) + ("," if len(value) == 1 else "") + ")"
        case set() | frozenset():
            return "{" + ", ".join(sorted(map(_literal, value))) + "}" if value else "set()"
    raise TypeError(f"options are text, a finite number, true, false, none or a collection of these, not {type(value)}")


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(map(_literal, values))


def _quoted(text: str) -> str:
    return "'" + _UNSAFE.sub(_escaped, text) + "'"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
