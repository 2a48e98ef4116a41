"""Values and JSON types of a dataclass's fields, by their annotations. Standard library only.

What a file holds may come from a stranger: integers have to fit 64 bits, texts have to be printable
and nothing may be without end, or a table that a record goes into could be neither computed nor
written. The limits stand here, for the schema as well.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Mapping, Sized
from numbers import Integral, Real
from typing import Any

MAX_INTEGER = 2**63 - 1
MAX_TEXT = 4096  # characters, of a key too; no path is longer
MAX_NAME = 300  # characters of a name that becomes a row, a heading or a part of a file name
MAX_ENTRIES = 1000  # of a list or an object
MAX_DEPTH = 20  # of lists and objects in each other; ours have up to 4
_JSON_TYPES = {str: "string", int: "integer", float: "number"}
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not \t and \n


def conform(name: str, value: Any, hint: Any) -> Any:
    """`value` as the annotation `hint` wants it (lists as tuples, NumPy numbers as Python's).

    `Any` stands for all that JSON can say.

    Raises:
        ValueError: it is of another type, not finite, too large or long, or not printable; `name`
            is the field's, for the message.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        _check_json(name, value)
        return value
    if origin in (typing.Union, types.UnionType):  # only "X | None" is used
        return None if value is None else conform(name, value, arguments[0])
    if origin is tuple and isinstance(value, (list, tuple)):
        _check_entries(name, value)
        return tuple(conform(f"{name}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        _check_entries(name, value)
        return {key: conform(_inside(name, key), item, arguments[1]) for key, item in value.items()}
    if hint is float and not isinstance(value, bool) and isinstance(value, Real):
        if not is_finite(value):
            raise ValueError(f"{name}: found {shown(value)}, expected a finite number")
        return float(value)
    if hint is int and not isinstance(value, bool) and isinstance(value, Integral):
        if abs(int(value)) > MAX_INTEGER:
            raise ValueError(f"{name}: found {shown(value)}, expected an integer of 64 bits")
        return int(value)
    if hint is str and isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(
                f"{name}: found {shown(value)} of {len(value)} characters, expected {MAX_TEXT} at "
                "most"
            )
        if not is_printable(value):
            raise ValueError(f"{name}: found {shown(value)}, expected printable text")
        return value
    expected = hint.__name__ if origin is None else str(hint)
    raise ValueError(f"{name}: found {shown(value)} ({type(value).__name__}), expected {expected}")


def is_printable(text: str) -> bool:
    """Whether a text can be written as UTF-8 and shown without moving a terminal's cursor."""
    return not _UNPRINTABLE.search(text)


def is_finite(value: Real) -> bool:
    """Whether a number is one, and a float can hold it."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """A value for a message; what is long, by its beginning."""
    text = ascii(value) if isinstance(value, str) and not is_printable(value) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _check_json(name: str, value: Any, depth: int = 0) -> None:
    """Check what stands under `Any`; what is no JSON at all is found when it is written."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{name}: lists and objects in each other, expected {MAX_DEPTH} at most")
    if isinstance(value, (Mapping, list, tuple)):
        _check_entries(name, value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_json(_inside(name, key), item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _check_json(f"{name}[{place}]", item, depth + 1)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        conform(name, value, next(kind for kind in (str, int, float) if isinstance(value, kind)))


def _check_entries(name: str, value: Sized) -> None:
    if len(value) > MAX_ENTRIES:
        raise ValueError(f"{name}: found {len(value)} entries, expected {MAX_ENTRIES} at most")


def _inside(name: str, key: Any) -> str:
    """The name of an object's value."""
    if not isinstance(key, str) or not is_printable(key) or len(key) > MAX_TEXT:
        raise ValueError(
            f"{name}: found the key {shown(key)}, expected strings as keys, printable ones of "
            f"{MAX_TEXT} characters at most"
        )
    return f"{name}[{shown(key)}]"


def json_type(hint: Any) -> dict[str, Any]:
    """What JSON Schema says of a field with the annotation `hint`.

    `Any` refers to ANY_JSON, which the schema has to hold. How deep values lie in each other, at
    most MAX_DEPTH, is the only limit that a schema cannot say.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {"$ref": "#/$defs/json"}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [json_type(arguments[0]), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": json_type(arguments[0]), "maxItems": MAX_ENTRIES}
    if origin is dict:
        values = {"additionalProperties": json_type(arguments[1])}
        keys = {"propertyNames": {"maxLength": MAX_TEXT}, "maxProperties": MAX_ENTRIES}
        return {"type": "object"} | values | keys
    return {"type": _JSON_TYPES[hint]} | ({"maxLength": MAX_TEXT} if hint is str else {})


ANY_JSON = {
    "anyOf": [
        {"type": ["boolean", "number", "null"]},
        *(json_type(hint) for hint in (str, tuple[Any, ...], dict[str, Any])),
    ]
}
