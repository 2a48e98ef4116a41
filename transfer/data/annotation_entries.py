"""The entries of a COCO-style document, looked at one by one before anything computes with them.

The document may come from a stranger. What passes here, pycocotools and mmdetection can use:
numbers are numbers, masks have the size that they claim, and no file name leads out of the images'
folder.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transfer.data import run_lengths

Entry = dict[str, Any]
MAX_SIDE = 65_535  # pixels; a mask's runs are counted with 32 bits
FARTHEST = 10 * MAX_SIDE  # a coordinate; whether it lies in its image is another question


def check_entries(path: Path, document: dict[str, Any]) -> None:
    """Check the images, annotations and categories of a document that has these lists.

    Raises:
        ValueError: names the file and the first entry at fault, and what was expected.
    """
    for kind, checks in CHECKS.items():
        entries = document[kind]
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise _garbled(path, kind, place, "no object")
            for name, (fits, expected) in checks.items():
                if not fits(entry.get(name)):
                    raise _garbled(path, kind, place, f"{name!r}, expected {expected}")
        if len({entry["id"] for entry in entries}) != len(entries):
            raise ValueError(f"{path} uses an {NAMES[kind]} id twice. Write it anew.")


def is_inside(name: object) -> bool:
    """Whether a file name stays in the folder that it is relative to."""
    return (
        isinstance(name, str)
        and name != ""
        and not name.startswith("/")
        and "\0" not in name
        and ".." not in name.split("/")
    )


def _garbled(path: Path, kind: str, place: int, fault: str) -> ValueError:
    return ValueError(
        f"{path} is not in COCO's format: an entry lacks or garbles {fault} (entry {place} of "
        f"{kind}). Write the file anew with the program that made it, or unpack it again."
    )


def _is_id(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_SIDE


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


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


def _is_area(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_SIDE**2  # type: ignore[operator]


def _is_flag(value: object) -> bool:
    return value is None or value in (0, 1)


def _is_mask(value: Any) -> bool:
    if isinstance(value, dict):
        size = value.get("size")
        return (
            isinstance(size, list)
            and len(size) == 2
            and all(map(_is_side, size))
            and run_lengths.fill(value.get("counts"), *size)
        )
    return value is None or (
        isinstance(value, list)
        and all(_are_numbers(ring) and len(ring) >= 4 and len(ring) % 2 == 0 for ring in value)
        and (not value or len(value[0]) >= 6)  # else pycocotools takes it for a box
    )


ID = {"id": (_is_id, "a whole number of 64 bits")}
CHECKS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "images": {
        **ID,
        "file_name": (is_inside, "a path in the images' folder, neither absolute nor with '..'"),
        "width": (_is_side, f"1 to {MAX_SIDE} pixels"),
        "height": (_is_side, f"1 to {MAX_SIDE} pixels"),
    },
    "annotations": {
        **ID,
        "image_id": ID["id"],
        "category_id": ID["id"],
        "bbox": (_is_box, "x, y, width and height in pixels, none of the last two negative"),
        "area": (_is_area, "a number of pixels"),
        "iscrowd": (_is_flag, "0 or 1"),
        "segmentation": (_is_mask, "polygons of 2 or more points, or run lengths that fill 'size'"),
    },
    "categories": {**ID, "name": (_is_name, "a printable name")},
}  # fmt: skip
NAMES = {"images": "image", "annotations": "annotation", "categories": "category"}
