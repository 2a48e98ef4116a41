"""Checks a detection dataset before anything runs on it, and prepares Cityscapes.

python -m transfer.prepare check --data-root data/coco
python -m transfer.prepare cityscapes --data-root data/cityscapes
python -m transfer.prepare check --data-root data/cityscapes --format cityscapes
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.data.annotated_objects import (
    Objects,
    check_categories,
    check_objects,
    images_left,
    some,
)
from transfer.data.annotation_entries import check_entries
from transfer.data.annotation_file import COCO_MEND, collector_off, is_writable, read_annotations
from transfer.data.image_sizes import check_sizes

CITYSCAPES_MEND = "Run: python -m transfer.prepare cityscapes --data-root {root}"
IMAGES = {  # of the datasets as they are published; Cityscapes' test pictures have no annotations
    "coco": {"train": 118_287, "val": 5_000},
    "cityscapes": {"train": 2_975, "val": 500, "test": 1_525},
}


@dataclass(frozen=True)
class DatasetSummary:
    """What an annotation file and its image folder hold, once they are found to be whole."""

    annotation_file: Path
    image_folder: Path
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
    mend: str = COCO_MEND,
    compare_sizes: slice | None = None,
    filter_cfg: Mapping[str, Any] | None = None,
) -> DatasetSummary:
    """Checks that an annotation file is COCO's, agrees with itself, and has all its images.

    Args:
        annotation_file: COCO-style JSON.
        image_folder: the folder that its file names are relative to.
        categories: the names it must have, in this order, which mmdet numbers labels by, beside
            others; None takes what there is.
        mend: what a user without the dataset is told to do.
        compare_sizes: also read the headers of these images, with a progress bar: some thousand a
            second.
        filter_cfg: what of the images mmdetection leaves for training; None: all.

    Raises:
        FileNotFoundError: the folder, the annotation file or some images are missing.
        ValueError: the file is not COCO's, is empty or contradicts itself, has other categories,
            no object, objects without masks, a file name that leads out of the folder, or images
            of other sizes; or the filter leaves none.
    """
    annotation_file, image_folder = Path(annotation_file), Path(image_folder)
    if not image_folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {image_folder}. {mend}")
    document, fingerprint = read_annotations(annotation_file, mend)
    check_entries(annotation_file, document)
    images = document["images"]
    names = tuple(category["name"] for category in document["categories"])
    check_categories(annotation_file, names, categories)
    _check_images(annotation_file, image_folder, images, mend)
    left = images_left(document, categories or names, filter_cfg)
    if not left:
        raise ValueError(
            f"{annotation_file}: filter_cfg ({dict(filter_cfg or {})}) leaves none of its "
            f"{len(images)} images for training. Set its min_size, in pixels of the shorter side, "
            "to what the images have."
        )
    objects = check_objects(annotation_file, document, categories, left)
    if compare_sizes:
        check_sizes(image_folder, images[compare_sizes], progress=True)
    return DatasetSummary(
        annotation_file=annotation_file,
        image_folder=image_folder,
        images=len(images),
        annotations=len(document["annotations"]),
        objects=objects,
        images_left=len(left),
        categories=names,
        fingerprint=fingerprint,
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
            f"{some(missing)}. Unpack the images again. {mend}"
        )


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether a file, or a link to one: no pipe, on which a reader would wait for ever."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _check_command(options: argparse.Namespace) -> None:
    root: Path = options.data_root
    for split in options.split:
        if options.format == "cityscapes":
            from transfer.data import cityscapes

            cityscapes.find_pairs(root, split)
            summary = check_coco(
                cityscapes.annotation_file(root, split),
                root / "leftImg8bit" / split,
                tuple(cityscapes.CLASSES.values()),
                CITYSCAPES_MEND.format(root=root),
                compare_sizes=slice(None),
            )
        else:
            annotations = root / "annotations" / f"instances_{split}2017.json"
            images = root / f"{split}2017"
            summary = check_coco(annotations, images, options.categories, compare_sizes=slice(None))
        whole = IMAGES[options.format][split]
        part = "the whole split" if summary.images == whole else f"the published one has {whole:,}"
        print(
            f"{summary.annotation_file}: {summary.images:,} images, all present and of the sizes "
            f"listed ({part}); "
            f"{summary.annotations:,} annotations, {summary.objects.crowds:,} of them crowds; "
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
    from transfer.data import cityscapes

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
        print(f"transfer.data.prepare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
