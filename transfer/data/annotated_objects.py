"""What the annotations of a document are to a detector: objects, crowds, or left out.

The document's entries have been looked at one by one (:mod:`transfer.data.annotation_entries`).
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.data.annotation_file import OWN

MARGIN = 5  # pixels that an annotator's stroke may overshoot the image's border by
Entry = dict[str, Any]


def some(things: Iterable[Any]) -> str:
    """The first five, and how many more there are; nothing that a terminal would obey."""
    listed = [str(thing) for thing in things]
    listed = [text if text.isprintable() else ascii(text) for text in listed]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return (", ".join(text[:200] for text in listed[:5]) or "none") + more


def check_categories(path: Path, found: Sequence[str], wanted: Sequence[str] | None) -> None:
    """Compare a file's categories with those of a detector, which may be some of them.

    Args:
        path: of the file.
        found: its categories, in its order, by which mmdetection numbers labels.
        wanted: the detector's classes; None: whatever there is.

    Raises:
        ValueError: a name comes twice or is not there, or the order is another.
    """
    for names, what in ((found, f"{path} has the categories"), (wanted or (), "classes are")):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{what} {some(twice)} twice. Name each category once.")
    if wanted is None:
        return
    if missing := [name for name in wanted if name not in set(found)]:
        unexpected = [name for name in found if name not in set(wanted)]
        raise ValueError(
            f"{path} has {len(found)} categories and {len(wanted)} were expected; missing: "
            f"{some(missing)}; unexpected: {some(unexpected)}. Use the annotation file of the "
            f"dataset that the config is for, or set the config's classes to the file's; {OWN}."
        )
    order = [name for name in found if name in set(wanted)]
    if order != list(wanted):
        odd = next(k for k, (a, b) in enumerate(zip(order, wanted, strict=True)) if a != b)
        raise ValueError(
            f"{path} has the categories expected, in another order: number {odd + 1} is "
            f"{order[odd]}, not {wanted[odd]}; labels would take each other's names. Write the "
            "config's classes in the order of the file's categories."
        )


@dataclass(frozen=True)
class Objects:
    """How many annotations are what to a detector of some categories."""

    ordinary: int  # trained on and looked for
    crowds: int
    too_small: int  # of no area, narrower than a pixel or outside; training leaves them out
    filtered: int  # on images that the filter leaves out
    other: int  # of other categories


def check_objects(
    path: Path, document: Entry, categories: Sequence[str] | None, left: Container[int]
) -> Objects:
    """Check that annotations agree with images and categories, and serve a detector of masks.

    Args:
        path: of the file, for messages.
        document: what it holds.
        categories: the detector's, by name; None: all.
        left: ids of the images that the filter leaves.

    Raises:
        ValueError: some belong to no image or category, lie outside, have no mask or are marked to
            be ignored; or there is no ordinary object.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
    names = {category["id"]: category["name"] for category in document["categories"]}
    wanted = set(names if categories is None else (k for k in names if names[k] in categories))
    annotations: list[Entry] = document["annotations"]
    faults: Mapping[str, Callable[[Entry], bool]] = {
        "belong to images that it does not list": lambda a: a["image_id"] not in sizes,
        "have category ids that it does not list": lambda a: a["category_id"] not in names,
        f"reach more than {MARGIN} pixels outside their image": lambda a: (
            not _fits(a, *sizes[a["image_id"]])
        ),
    }
    for fault, has in faults.items():
        if ids := [annotation["id"] for annotation in annotations if has(annotation)]:
            raise ValueError(
                f"{path}: {len(ids)} of {len(annotations)} annotations {fault} (annotation ids "
                f"{some(ids)}). Images and annotations come from different datasets, or the file "
                "was cut: write it anew with the program that made it, or unpack it again."
            )
    counted = [annotation for annotation in annotations if annotation["category_id"] in wanted]
    if ids := [annotation["id"] for annotation in counted if not annotation.get("segmentation")]:
        raise ValueError(
            f"{path}: {len(ids)} of {len(annotations)} annotations have no mask (annotation ids "
            f"{some(ids)}). Mask R-CNN learns and is judged by masks: give each its polygons or "
            "run lengths, or leave it out."
        )
    if ids := [annotation["id"] for annotation in counted if annotation.get("ignore")]:
        raise ValueError(
            f"{path}: {len(ids)} of {len(annotations)} annotations say ignore (annotation ids "
            f"{some(ids)}), which mmdetection leaves out of training and COCO's evaluation counts "
            'as missed. Say "iscrowd": 1 instead, which both leave alone, or leave them out.'
        )
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in counted)
    whole = [annotation for annotation in counted if not annotation.get("iscrowd")]
    shown = [annotation for annotation in whole if annotation["image_id"] in left]
    ordinary = sum(_is_large_enough(a, *sizes[a["image_id"]]) for a in shown)
    filtered = len(whole) - len(shown)
    other = len(annotations) - len(counted)
    objects = Objects(ordinary, crowds, len(shown) - ordinary, filtered, other)
    if not ordinary:
        raise ValueError(
            f"{path} has no object to learn or to find: of {len(annotations)} annotations {crowds} "
            f"are crowds, {objects.too_small} too small, {filtered} on images that filter_cfg "
            f"leaves out and {other} of other categories. "
            'Set "iscrowd" to 0 where an annotation is a single object, or take another file.'
        )
    return objects


def images_left(
    document: Entry, categories: Sequence[str], filter_cfg: Mapping[str, Any] | None
) -> set[int]:
    """Ids of the images that mmdetection's filter leaves for training.

    Args:
        document: of the training set.
        categories: the detector's.
        filter_cfg: of the dataset's config: ``min_size``, in pixels of the shorter side, and
            ``filter_empty_gt``, whether an image has to have an annotation.
    """
    rules = filter_cfg or {}
    wanted = {each["id"] for each in document["categories"] if each["name"] in categories}
    shown = {a["image_id"] for a in document["annotations"] if a["category_id"] in wanted}
    return {
        image["id"]
        for image in document["images"]
        if min(image["width"], image["height"]) >= rules.get("min_size", 0)
        and (image["id"] in shown or not rules.get("filter_empty_gt", False))
    }


def _is_large_enough(annotation: Entry, width: int, height: int) -> bool:
    """Whether mmdetection's ``CocoDataset`` takes it."""
    x, y, wide, high = annotation["bbox"]
    inside = min(x + wide, width) > max(x, 0) and min(y + high, height) > max(y, 0)
    return bool(inside and annotation["area"] > 0 and wide >= 1 and high >= 1)


def _fits(annotation: Entry, width: int, height: int) -> bool:
    """Whether box and polygons lie in the image; an RLE mask must have its size."""
    x, y, wide, high = annotation["bbox"]
    right, bottom = width + MARGIN, height + MARGIN
    if x < -MARGIN or y < -MARGIN or x + wide > right or y + high > bottom:
        return False
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        return bool(list(shape["size"]) == [height, width])
    return not shape or all(
        min(polygon) >= -MARGIN and max(polygon[::2]) <= right and max(polygon[1::2]) <= bottom
        for polygon in shape
    )
