"""Values and JSON types of a dataclass's fields, by their annotations. Standard library only."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

_JSON_TYPES = {str: "string", int: "integer", float: "number"}


def conform(name: str, value: Any, hint: Any) -> Any:
    """`value` as the annotation `hint` wants it (lists as tuples, NumPy numbers as Python's).

    Raises:
        ValueError: it is of another type, or not finite; `name` is the field's, for the message.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):  # only "X | None" is used
        return None if value is None else conform(name, value, arguments[0])
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(conform(f"{name}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f"{name}: found the key {odd[0]!r}, expected strings as keys")
        return {key: conform(f"{name}[{key!r}]", item, arguments[1]) for key, item in value.items()}
    if hint is float and not isinstance(value, bool) and isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError(f"{name}: found {value!r}, expected a finite number")
        return float(value)
    if hint is int and not isinstance(value, bool) and isinstance(value, Integral):
        return int(value)
    if hint is str and isinstance(value, str):
        return value
    expected = hint.__name__ if origin is None else str(hint)
    raise ValueError(f"{name}: found {value!r} ({type(value).__name__}), expected {expected}")


def json_type(hint: Any) -> dict[str, Any]:
    """What JSON Schema says of a field with the annotation `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [json_type(arguments[0]), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": json_type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": json_type(arguments[1])}
    return {"type": _JSON_TYPES[hint]}
