"""COCO's run-length masks, checked before pycocotools decodes them: it trusts what they say.

A mask is the lengths of its runs, column by column, the first of zeros. pycocotools writes as many
pixels as the runs are long, whatever the mask's size, so runs from a stranger could write anywhere.
"""

from typing import Any

import numpy as np

BITS = 5  # of a length in each sign of the packed form
LONGEST = 7  # signs of one length; 35 bits, where a length has 32


def fill(counts: Any, height: int, width: int) -> bool:
    """Whether runs, as a list or packed in a string, fill exactly height x width pixels."""
    if isinstance(counts, str):
        lengths = unpacked(counts)
        if lengths is None:
            return False
        return bool((lengths >= 0).all()) and int(lengths.sum()) == height * width
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int}:
        return False
    return min(counts, default=0) >= 0 and sum(counts) == height * width


def unpacked(text: str) -> np.ndarray | None:
    """The lengths (runs,) in a packed string, negative ones included; None where it is none.

    A sign holds 5 bits of a length, lowest first, a bit that says whether more follow, and is moved
    up by 48. The last bit is a length's sign. From the fourth on, a length is the difference from
    the one before the last (pycocotools' maskApi.c).
    """
    if not text.isascii():
        return None
    signs = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) - 48
    last = signs & 32 == 0
    if not len(signs) or signs.min() < 0 or signs.max() > 63 or not last[-1]:
        return None
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= LONGEST:
        return None
    place = BITS * (np.arange(len(signs)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((signs & 31) << place, starts)
    values -= ((signs[ends] & 16) != 0) * (np.int64(1) << place[ends] + BITS)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
