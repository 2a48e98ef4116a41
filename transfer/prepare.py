"""Checks a detection dataset before anything runs on it, and prepares Cityscapes.

python -m transfer.prepare check --data-root data/coco
python -m transfer.prepare cityscapes --data-root data/cityscapes
python -m transfer.prepare check --data-root data/cityscapes --format cityscapes
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.annotation_entries import check_entries
from transfer.annotation_file import COCO_MEND, collector_off, is_writable, read_annotations
from transfer.image_sizes import check_sizes

CITYSCAPES_MEND = "Run: python -m transfer.prepare cityscapes --data-root {root}"
IMAGES = {  # of the datasets as they are published; Cityscapes' test pictures have no annotations
    "coco": {"train": 118_287, "val": 5_000},
    "cityscapes": {"train": 2_975, "val": 500, "test": 1_525},
}
MARGIN = 5  # pixels that an annotator's stroke may overshoot the image's border by


@dataclass(frozen=True)
class DatasetSummary:
    """What an annotation file and its image folder hold, once they are found to be whole."""

    annotation_file: Path
    image_folder: Path
    images: int
    annotations: int
    crowds: int
    categories: tuple[str, ...]
    fingerprint: str  # sha256 of the annotation file


@collector_off()
def check_coco(
    annotation_file: str | Path,
    image_folder: str | Path,
    categories: Sequence[str] | None = None,
    mend: str = COCO_MEND,
    compare_sizes: bool = False,
) -> DatasetSummary:
    """Checks that an annotation file is COCO's, agrees with itself, and has all its images.

    Args:
        annotation_file: COCO-style JSON.
        image_folder: the folder that its file names are relative to.
        categories: the names it must have, in this order, which mmdet numbers labels by; None takes
            what there is.
        mend: what a user without the dataset is told to do.
        compare_sizes: also read the header of every image, with a progress bar: takes its time.

    Raises:
        FileNotFoundError: the folder, the annotation file or some images are missing.
        ValueError: the file is not COCO's, is empty or contradicts itself, has other categories,
            a file name that leads out of the folder, or images of other sizes.
    """
    annotation_file, image_folder = Path(annotation_file), Path(image_folder)
    if not image_folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {image_folder}. {mend}")
    document, fingerprint = read_annotations(annotation_file, mend)
    check_entries(annotation_file, document)
    images, annotations = document["images"], document["annotations"]
    names = tuple(category["name"] for category in document["categories"])
    _check_categories(annotation_file, names, categories)
    _check_images(annotation_file, image_folder, images, mend)
    _check_annotations(annotation_file, document)
    if compare_sizes:
        check_sizes(image_folder, images, progress=True)
    return DatasetSummary(
        annotation_file=annotation_file,
        image_folder=image_folder,
        images=len(images),
        annotations=len(annotations),
        crowds=sum(bool(annotation.get("iscrowd")) for annotation in annotations),
        categories=names,
        fingerprint=fingerprint,
    )


def _check_categories(path: Path, found: Sequence[str], wanted: Sequence[str] | None) -> None:
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has the categories {_some(twice)} twice. Write it anew.")
    if wanted is None or list(found) == list(wanted):
        return
    if set(found) == set(wanted):
        odd = next(k for k, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
        raise ValueError(
            f"{path} has the categories expected, in another order: number {odd + 1} is "
            f"{found[odd]}, not {wanted[odd]}; labels would take each other's names. Write its "
            "categories in the order of the config's classes."
        )
    missing = [name for name in wanted if name not in set(found)]
    unexpected = [name for name in found if name not in set(wanted)]
    raise ValueError(
        f"{path} has {len(found)} categories and {len(wanted)} were expected; missing: "
        f"{_some(missing)}; unexpected: {_some(unexpected)}. Use the annotation file of the "
        "dataset that the config is for, or set the config's classes to the file's."
    )


def _check_images(path: Path, folder: Path, images: list[dict[str, Any]], mend: str) -> None:
    names = [image["file_name"] for image in images]
    present = {  # a listing per folder: asking for each image takes far longer
        os.path.join(parent, entry.name) if parent else entry.name
        for parent in {os.path.dirname(name) for name in names}
        if os.path.isdir(folder / parent)
        for entry in os.scandir(folder / parent)
        if _is_file(entry)
    }
    missing = [name for name in names if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(names)} images that {path} lists: "
            f"{_some(missing)}. Unpack the images again. {mend}"
        )


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether a file, or a link to one: no pipe, on which a reader would wait for ever."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _check_annotations(path: Path, document: dict[str, Any]) -> None:
    sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
    known = {category["id"] for category in document["categories"]}
    stray, unknown, outside = [], [], []
    for annotation in document["annotations"]:
        size = sizes.get(annotation["image_id"])
        if size is None:
            stray.append(annotation["id"])
        elif annotation["category_id"] not in known:
            unknown.append(annotation["id"])
        elif not _fits(annotation, *size):
            outside.append(annotation["id"])
    total = len(document["annotations"])
    for ids, fault in (
        (stray, "belong to images that it does not list"),
        (unknown, "have category ids that it does not list"),
        (outside, f"reach more than {MARGIN} pixels outside their image"),
    ):
        if ids:
            raise ValueError(
                f"{path}: {len(ids)} of {total} annotations {fault} (annotation ids {_some(ids)}). "
                "Images and annotations come from different datasets, or the file was cut: write "
                "it anew with the program that made it, or unpack it again."
            )


def _fits(annotation: dict[str, Any], width: int, height: int) -> bool:
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


def _some(things: Iterable[Any]) -> str:
    """The first five, and how many more there are."""
    listed = [str(thing) for thing in things]
    listed = [text if text.isprintable() else ascii(text) for text in listed]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return (", ".join(text[:200] for text in listed[:5]) or "none") + more


def _check_command(options: argparse.Namespace) -> None:
    root: Path = options.data_root
    for split in options.split:
        if options.format == "cityscapes":
            from transfer import prepare_cityscapes as cityscapes

            cityscapes.find_pairs(root, split)
            summary = check_coco(
                cityscapes.annotation_file(root, split),
                root / "leftImg8bit" / split,
                tuple(cityscapes.CLASSES.values()),
                CITYSCAPES_MEND.format(root=root),
                compare_sizes=True,
            )
        else:
            annotations = root / "annotations" / f"instances_{split}2017.json"
            images = root / f"{split}2017"
            summary = check_coco(annotations, images, options.categories, compare_sizes=True)
        whole = IMAGES[options.format][split]
        part = "the whole split" if summary.images == whole else f"the published one has {whole:,}"
        print(
            f"{summary.annotation_file}: {summary.images:,} images, all present and of the sizes "
            f"listed ({part}); "
            f"{summary.annotations:,} annotations, {summary.crowds:,} of them crowds; "
            f"{len(summary.categories)} categories; sha256 {summary.fingerprint[:16]}"
        )
    test = root / "leftImg8bit" / "test"
    if options.format == "cityscapes" and test.is_dir():
        count = sum(1 for _ in test.glob("*/*_leftImg8bit.png"))
        print(f"{test}: {count:,} of {IMAGES['cityscapes']['test']:,} images; nothing uses them")
    if not is_writable(root / "annotations"):
        print(
            f"{root / 'annotations'}: cannot be written to; splits and conversions need a copy of "
            f"{root} elsewhere, links to its images are enough"
        )


def _cityscapes_command(options: argparse.Namespace) -> None:
    from transfer import prepare_cityscapes as cityscapes

    for split in options.split:
        written = cityscapes.convert(options.data_root, split, options.workers, progress=True)
        verb = "wrote" if written else "up to date:"
        print(verb, cityscapes.annotation_file(options.data_root, split))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status, 2 where the data is at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m transfer.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{check,cityscapes}")
    check = commands.add_parser("check", help="is the dataset whole, and what is missing")
    check.set_defaults(run=_check_command)
    check.add_argument("--format", choices=("coco", "cityscapes"), default="coco")
    check.add_argument("--categories", nargs="+", metavar="NAME", help="the names expected")
    convert = commands.add_parser("cityscapes", help="write gtFine as COCO-style annotations")
    convert.set_defaults(run=_cityscapes_command)
    convert.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    for command in (check, convert):
        command.add_argument("--data-root", type=Path, help="default: data/<format>")
        command.add_argument(
            "--split", nargs="+", choices=("train", "val"), default=["train", "val"]
        )
    options = parser.parse_args(arguments)
    options.data_root = options.data_root or Path("data", getattr(options, "format", "cityscapes"))
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"transfer.prepare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
