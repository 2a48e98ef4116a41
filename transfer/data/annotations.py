"""COCO-style annotation files, read whole; every entry is checked before anything computes with it.

A file may come from a stranger. What passes here, pycocotools and mmdetection can use: numbers are
numbers, masks fill the size that they claim, and no file name leads out of the images' folder.
"""

import codecs
import gc
import hashlib
import json
import locale
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from results.record.text import some_of

Entry = dict[str, Any]  # an image, an annotation, a category, or the document that lists them

DOWNLOAD = (
    "Download train2017.zip, val2017.zip and annotations_trainval2017.zip from "
    "https://cocodataset.org/#download and unpack them in data/coco, or name the folder that has "
    "them: --data-root DIR here, --cfg-options data_root=DIR in a run. configs/_base_/demo_coco.py "
    "shows what a dataset of your own needs."
)
MAX_SIDE = 65_535  # pixels; a mask's runs are counted with 32 bits
FARTHEST = 10 * MAX_SIDE  # a coordinate; whether it lies in its image is another question
MAX_SIGNS = 7  # of one packed run length: 5 bits each, where a length has 32


def read_annotations(path: Path, if_missing: str = DOWNLOAD) -> tuple[Entry, str]:
    """The document of an annotation file, whose images, annotations and categories hold something.

    Args:
        path: the file.
        if_missing: what a user without it is told to do.

    Returns:
        The document and the file's sha256.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is not JSON, not COCO's, or empty; or names the first entry at fault.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no annotation file {path}. {if_missing}")
    content = path.read_bytes()
    with collector_off():
        document = _parse(path, content)
        for kind, checks in CHECKS.items():
            _check_entries(path, kind, document[kind], checks)
    return document, hashlib.sha256(content).hexdigest()


def indexed(document: Entry) -> COCO:
    """A document as pycocotools wants it.

    It takes an annotation's id of 0 or less for "not matched" (cocoapi#507), so they are numbered
    from 1; and it wants ``iscrowd``, which is 0 where it is absent or null.

    Args:
        document: from :func:`read_annotations`; stays as it is.
    """
    truth = COCO()
    truth.dataset = {
        **document,
        "annotations": [
            {**annotation, "id": number, "iscrowd": int(bool(annotation.get("iscrowd")))}
            for number, annotation in enumerate(document["annotations"], start=1)
        ],
    }
    with redirect_stdout(StringIO()):
        truth.createIndex()
    return truth


@contextmanager
def collector_off() -> Iterator[None]:
    """For a file of train2017's size Python's collector takes 20 s of 25, and finds nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


# ---- the document --------------------------------------------------------------------------------


def _parse(path: Path, content: bytes) -> Entry:
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(
            f"{path} begins with a byte order mark, which pycocotools does not read. Write it as "
            "plain UTF-8."
        )
    encoding = locale.getpreferredencoding(False)  # which pycocotools opens files with
    if not content.isascii() and codecs.lookup(encoding).name != "utf-8":
        raise ValueError(
            f"{path} has names beyond ASCII, which this shell's encoding, {encoding}, "
            "would change. Set PYTHONUTF8=1."
        )
    try:
        document = json.loads(content.decode())
    except (ValueError, RecursionError) as error:  # ValueError: or bytes that are no text
        raise ValueError(
            f"{path} ({len(content)} bytes) is not JSON: {error}. Its download or unpacking may "
            "have broken off; unpack it again."
        ) from error
    found = sorted(document) if isinstance(document, dict) else [type(document).__name__]
    for kind in CHECKS:
        if kind not in found or not isinstance(document[kind], list):
            raise ValueError(
                f"{path} is not in COCO's format: it needs the lists images, annotations and "
                f"categories, and has {some_of(found)}. COCO's are called instances_*.json."
            )
        if not document[kind]:
            raise ValueError(
                f"{path} has no {kind}: there is nothing to train on or to evaluate. Use the "
                "instances_*.json of annotations_trainval2017.zip, not the image_info_*.json."
            )
    return dict(document)


# ---- its entries ---------------------------------------------------------------------------------


def _check_entries(path: Path, kind: str, entries: list[Any], checks: "Checks") -> None:
    def fault(place: int, what: str) -> ValueError:
        return ValueError(
            f"{path} is not in COCO's format: an entry lacks or garbles {what} (entry {place} of "
            f"{kind}). Write the file anew with the program that made it, or unpack it again."
        )

    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise fault(place, "no object")
        for name, (fits, expected) in checks.items():
            if not fits(entry.get(name)):
                raise fault(place, f"{name!r}, expected {expected}")
    if len({entry["id"] for entry in entries}) != len(entries):
        raise ValueError(f"{path} uses an id of its {kind} twice. Write it anew.")


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_SIDE


def _is_inside(name: object) -> bool:
    """Whether a file name stays in the folder that it is relative to."""
    return (
        isinstance(name, str)
        and name != ""
        and not name.startswith("/")
        and "\0" not in name
        and ".." not in name.split("/")
    )


def _are_numbers(values: Any) -> bool:
    """Of a list, fast: train2017 has ten million coordinates."""
    return (
        isinstance(values, list)
        and set(map(type, values)) <= {int, float}
        and min(values, default=math.nan) >= -FARTHEST
        and max(values) <= FARTHEST
        and not math.isnan(sum(values))  # which min and max may pass over
    )


def _is_box(value: Any) -> bool:
    return _are_numbers(value) and len(value) == 4 and value[2] >= 0 and value[3] >= 0


def _is_mask(value: Any) -> bool:
    if isinstance(value, dict):
        size = value.get("size")
        if not isinstance(size, list) or len(size) != 2 or not all(map(_is_side, size)):
            return False
        return runs_fill(value.get("counts"), *size)
    return value is None or (
        isinstance(value, list)
        and all(_are_numbers(ring) and len(ring) >= 4 and len(ring) % 2 == 0 for ring in value)
        and (not value or len(value[0]) >= 6)  # else pycocotools takes it for a box
    )


Checks = dict[str, tuple[Callable[[Any], bool], str]]
ID = (lambda value: type(value) is int and abs(value) < 2**63, "a whole number of 64 bits")
SIDE = (_is_side, f"1 to {MAX_SIDE} pixels")
CHECKS: dict[str, Checks] = {
    "images": {
        "id": ID,
        "file_name": (_is_inside, "a path in the images' folder, neither absolute nor with '..'"),
        "width": SIDE,
        "height": SIDE,
    },
    "annotations": {
        "id": ID,
        "image_id": ID,
        "category_id": ID,
        "bbox": (_is_box, "x, y, width and height in pixels, none of the last two negative"),
        "area": (
            lambda value: type(value) in (int, float) and 0 <= value <= MAX_SIDE**2,
            "a number of pixels",
        ),
        "iscrowd": (lambda value: value is None or value in (0, 1), "0 or 1"),
        "segmentation": (_is_mask, "polygons of 2 or more points, or run lengths that fill 'size'"),
    },
    "categories": {
        "id": ID,
        "name": (
            lambda value: isinstance(value, str) and value.isprintable() and value != "",
            "a printable name",
        ),
    },
}


# ---- masks as run lengths ------------------------------------------------------------------------


def runs_fill(counts: Any, height: int, width: int) -> bool:
    """Whether a mask's run lengths fill exactly height x width pixels.

    pycocotools writes as many pixels as the runs are long, whatever the mask's size, so that runs
    from a stranger could write anywhere.

    Args:
        counts: lengths of runs, column by column, the first of zeros; a list, or packed in a text.
        height, width: of the mask in pixels.
    """
    if isinstance(counts, str):
        lengths = unpacked_runs(counts)
        if lengths is None or (lengths < 0).any():
            return False
        return int(lengths.sum()) == height * width
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int}:
        return False
    return min(counts, default=0) >= 0 and sum(counts) == height * width


def unpacked_runs(text: str) -> NDArray[np.int64] | None:
    """The run lengths (runs,) in a packed text, negative ones included; None where it is none.

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
    if (ends - starts).max() >= MAX_SIGNS:
        return None
    place = 5 * (np.arange(len(signs)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((signs & 31) << place, starts)
    values -= ((signs[ends] & 16) != 0) * (np.int64(1) << place[ends] + 5)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
