"""Values as JSON has them, none of them without end.

A file may come from a stranger: integers have to fit 64 bits, texts have to be printable and
nothing may be too large, or a table that a record goes into could be neither computed nor written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import msgspec

from results.record.files import regular_file
from results.record.text import MAX_TEXT, is_printable, shown

MAX_INTEGER = 2**63 - 1
MAX_ENTRIES = 1000  # of a list or an object
MAX_DEPTH = 20  # of lists and objects in each other; ours have up to 4


def read_json(path: str | os.PathLike[str], what: str, max_bytes: int) -> Any:
    """What a JSON file holds, not checked any further; a ValueError says that it is no `what`."""
    if regular_file(path).stat().st_size > max_bytes:
        raise ValueError(f"{path}: larger than {max_bytes >> 20} MiB; expected a {what}")
    try:
        return msgspec.json.decode(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}); expected a {what}") from error


def plain(name: str, value: object, depth: int = 0) -> Any:
    """A copy of `value` in Python's types of JSON: NumPy's numbers and tuples are converted.

    Raises:
        ValueError: no JSON, not finite, not printable or too large; `name` is the field's, for the
            message.
    """
    if isinstance(value, (Mapping, list, tuple)):
        if depth > MAX_DEPTH:
            raise ValueError(f"{name}: found lists and objects {depth} deep, expected {MAX_DEPTH}")
        if len(value) > MAX_ENTRIES:
            raise ValueError(f"{name}: found {len(value)} entries, expected {MAX_ENTRIES} at most")
    if isinstance(value, Mapping):
        return {_key(name, k): plain(f"{name}[{shown(k)}]", v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(f"{name}[{i}]", item, depth + 1) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_TEXT or not is_printable(value):
            raise ValueError(
                f"{name}: found {shown(value)} of {len(value)} characters, expected printable text "
                f"of {MAX_TEXT} at most"
            )
        return str(value)
    if isinstance(value, Integral):
        if abs(int(value)) > MAX_INTEGER:
            raise ValueError(f"{name}: found {shown(value)}, expected an integer of 64 bits")
        return int(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError(f"{name}: found {shown(value)}, expected a finite number")
        return float(value)
    kind = type(value).__name__
    raise ValueError(f"{name}: found {shown(value)} ({kind}), expected what JSON can hold")


def _key(name: str, key: object) -> str:
    if not isinstance(key, str) or not is_printable(key) or len(key) > MAX_TEXT:
        raise ValueError(
            f"{name}: found the key {shown(key)}, expected strings as keys, printable ones of "
            f"{MAX_TEXT} characters at most"
        )
    return key
