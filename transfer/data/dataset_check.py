"""Is a dataset whole, and does it serve a detector of masks? Asked before anything runs on it."""

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.record.text import some_of
from transfer.data.annotations import DOWNLOAD, Entry, collector_off, read_annotations
from transfer.data.image_sizes import check_sizes

OWN_DATASET = "configs/_base_/demo_coco.py shows how a config of a dataset of your own says them"
MARGIN = 5  # pixels that an annotator's stroke may overshoot the image's border by


@dataclass(frozen=True)
class Objects:
    """How many annotations are what to a detector of some categories."""

    ordinary: int  # trained on and looked for
    crowds: int
    too_small: int  # of no area, narrower than a pixel or outside; training leaves them out
    filtered: int  # on images that the filter leaves out
    other: int  # of other categories


@dataclass(frozen=True)
class DatasetSummary:
    """What an annotation file and its image folder hold, once they are found to be whole."""

    annotation_file: Path
    images: int
    annotations: int
    objects: Objects
    images_left: int  # by mmdetection's filter, for training
    categories: tuple[str, ...]
    fingerprint: str  # sha256 of the annotation file


@collector_off()
def check_coco(
    annotation_file: str | Path,
    image_folder: str | Path,
    categories: Sequence[str] | None = None,
    if_missing: str = DOWNLOAD,
    compare_sizes: slice | None = None,
    filter_cfg: Mapping[str, Any] | None = None,
) -> DatasetSummary:
    """Check that an annotation file is COCO's, agrees with itself, and has all its images.

    Args:
        annotation_file: COCO-style JSON.
        image_folder: the folder that its file names are relative to.
        categories: the names it must have, in this order, by which mmdet numbers labels, beside
            others; None takes what there is.
        if_missing: what a user without the dataset is told to do.
        compare_sizes: also read the headers of these images, with a progress bar: some thousand a
            second.
        filter_cfg: what of the images mmdetection leaves for training: ``min_size``, in pixels of
            the shorter side, and ``filter_empty_gt``; None: all.

    Raises:
        FileNotFoundError: the folder, the annotation file or some images are missing.
        ValueError: the file is not COCO's, is empty or contradicts itself, has other categories,
            no object, objects without masks, a file name that leads out of the folder, or images
            of other sizes; or the filter leaves none.
    """
    path, folder = Path(annotation_file), Path(image_folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {folder}. {if_missing}")
    document, fingerprint = read_annotations(path, if_missing)
    images = document["images"]
    names = tuple(category["name"] for category in document["categories"])
    check_categories(path, names, categories)
    missing = missing_images(folder, [image["file_name"] for image in images])
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(images)} images that {path} lists: "
            f"{some_of(missing)}. Unpack the images again. {if_missing}"
        )
    left = images_left(document, categories or names, filter_cfg or {})
    if not left:
        raise ValueError(
            f"{path}: filter_cfg ({dict(filter_cfg or {})}) leaves none of its {len(images)} images "
            "for training. Set its min_size, in pixels of the shorter side, to what they have."
        )
    objects = check_objects(path, document, categories, left)
    if compare_sizes:
        check_sizes(folder, images[compare_sizes], progress=True)
    count = len(document["annotations"])
    return DatasetSummary(path, len(images), count, objects, len(left), names, fingerprint)


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
            raise ValueError(f"{what} {some_of(twice)} twice. Name each category once.")
    if wanted is None:
        return
    if missing := [name for name in wanted if name not in set(found)]:
        unexpected = [name for name in found if name not in set(wanted)]
        raise ValueError(
            f"{path} has {len(found)} categories and {len(wanted)} were expected; missing: "
            f"{some_of(missing)}; unexpected: {some_of(unexpected)}. Use the annotation file of the "
            f"config's dataset, or set the config's classes to the file's; {OWN_DATASET}."
        )
    order = [name for name in found if name in set(wanted)]
    if order != list(wanted):
        odd = next(k for k, (a, b) in enumerate(zip(order, wanted, strict=True)) if a != b)
        raise ValueError(
            f"{path} has the categories expected, in another order: number {odd + 1} is "
            f"{order[odd]}, not {wanted[odd]}; labels would take each other's names. Write the "
            "config's classes in the order of the file's categories."
        )


def missing_images(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of the files (or links to files) that are not there, in the order of ``names``."""
    present = {  # a listing per folder: asking for each image takes far longer
        os.path.join(parent, entry.name) if parent else entry.name
        for parent in {os.path.dirname(name) for name in names}
        if os.path.isdir(folder / parent)
        for entry in os.scandir(folder / parent)
        if _is_file(entry)
    }
    return [name for name in names if name not in present]


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether a file, or a link to one: no pipe, on which a reader would wait for ever."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def images_left(
    document: Entry, categories: Sequence[str], filter_cfg: Mapping[str, Any]
) -> set[int]:
    """Ids of the images that mmdetection's filter (see :func:`check_coco`) leaves for training."""
    wanted = {each["id"] for each in document["categories"] if each["name"] in categories}
    annotated = {a["image_id"] for a in document["annotations"] if a["category_id"] in wanted}
    return {
        image["id"]
        for image in document["images"]
        if min(image["width"], image["height"]) >= filter_cfg.get("min_size", 0)
        and (image["id"] in annotated or not filter_cfg.get("filter_empty_gt", False))
    }


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
    annotations: list[Entry] = document["annotations"]

    def refuse(having: Callable[[Entry], Any], fault: str, what_to_do: str) -> None:
        if ids := [annotation["id"] for annotation in annotations if having(annotation)]:
            raise ValueError(
                f"{path}: {len(ids)} of {len(annotations)} annotations {fault} (annotation ids "
                f"{some_of(ids)}). {what_to_do}"
            )

    apart = (
        "Images and annotations come from different datasets, or the file was cut: write it anew "
        "with the program that made it, or unpack it again."
    )
    refuse(lambda a: a["image_id"] not in sizes, "belong to images that it does not list", apart)
    refuse(
        lambda a: a["category_id"] not in names, "have category ids that it does not list", apart
    )
    refuse(
        lambda a: not _fits(a, *sizes[a["image_id"]]),
        f"reach more than {MARGIN} pixels outside their image", apart,
    )  # fmt: skip
    wanted = {k for k, name in names.items() if categories is None or name in categories}
    refuse(
        lambda a: a["category_id"] in wanted and not a.get("segmentation"), "have no mask",
        "Mask R-CNN learns from masks: give each its polygons or run lengths, or leave it out.",
    )  # fmt: skip
    refuse(
        lambda a: a["category_id"] in wanted and a.get("ignore"),
        "say ignore, which training leaves out and COCO's evaluation counts as missed",
        'Say "iscrowd": 1 instead, or leave them out.',
    )
    counted = [annotation for annotation in annotations if annotation["category_id"] in wanted]
    whole = [annotation for annotation in counted if not annotation.get("iscrowd")]
    shown = [annotation for annotation in whole if annotation["image_id"] in left]
    ordinary = sum(_is_large_enough(a, *sizes[a["image_id"]]) for a in shown)
    objects = Objects(
        ordinary=ordinary,
        crowds=len(counted) - len(whole),
        too_small=len(shown) - ordinary,
        filtered=len(whole) - len(shown),
        other=len(annotations) - len(counted),
    )
    if not ordinary:
        raise ValueError(
            f"{path} has no object to learn or to find: of {len(annotations)} annotations "
            f"{objects.crowds} are crowds, {objects.too_small} too small, {objects.filtered} on "
            f"images that filter_cfg leaves out and {objects.other} of other categories. "
            'Set "iscrowd" to 0 where an annotation is a single object, or take another file.'
        )
    return objects


def _is_large_enough(annotation: Entry, width: int, height: int) -> bool:
    """Whether mmdetection's ``CocoDataset`` takes it."""
    x, y, wide, high = annotation["bbox"]
    inside = min(x + wide, width) > max(x, 0) and min(y + high, height) > max(y, 0)
    return bool(inside and annotation["area"] > 0 and wide >= 1 and high >= 1)


def _fits(annotation: Entry, width: int, height: int) -> bool:
    """Whether box and polygons lie in the image; a mask of run lengths must have its size."""
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
