"""Text from a stranger: what may be shown, and how it is shown in a message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

MAX_TEXT = 4096  # characters, of a key too; no path is longer
MAX_SHOWN = 200  # characters of a value in a message
MAX_NAMED = 5  # names of a list in a message
MAX_LISTED = 400  # characters of each: a path, and what is wrong with it
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not \t and \n


def is_printable(text: str) -> bool:
    """Whether a text can be written as UTF-8 and shown without moving a terminal's cursor."""
    return not _UNPRINTABLE.search(text)


def shown(value: object) -> str:
    """A value for a message: the beginning of what is long, escapes for what is not printable."""
    text = repr(value) if not isinstance(value, str) or is_printable(value) else ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def some_of(names: Iterable[object]) -> str:
    """The first few names for a message, without quotes; "..." where there are more."""
    first = list(islice(names, MAX_NAMED + 1))
    texts = (str(name) for name in first[:MAX_NAMED])
    safe = (text if text.isprintable() else ascii(text)[1:-1] for text in texts)
    return ", ".join(text[:MAX_LISTED] for text in safe) + (", ..." if first[MAX_NAMED:] else "")
