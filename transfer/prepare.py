"""Checks a detection dataset before anything runs on it, and prepares Cityscapes.

python -m transfer.prepare check --data-root data/coco
python -m transfer.prepare cityscapes --data-root data/cityscapes
python -m transfer.prepare check --data-root data/cityscapes --format cityscapes
"""

import argparse
import os
import sys
from pathlib import Path

from transfer.data import cityscapes
from transfer.data.dataset_check import check_coco

PUBLISHED_IMAGES = {  # Cityscapes' test pictures have no annotations
    "coco": {"train": 118_287, "val": 5_000},
    "cityscapes": {"train": 2_975, "val": 500, "test": 1_525},
}


def check(options: argparse.Namespace) -> None:
    """``check``: is the dataset whole, and what is missing.

    Raises:
        ValueError, FileNotFoundError: from :func:`check_coco` and :func:`cityscapes.find_pairs`.
    """
    root: Path = options.data_root
    published = PUBLISHED_IMAGES[options.format]
    for split in options.split:
        if options.format == "cityscapes":
            cityscapes.find_pairs(root, split)
            found = check_coco(
                cityscapes.annotation_file(root, split),
                root / "leftImg8bit" / split,
                tuple(cityscapes.CLASSES.values()),
                cityscapes.NOT_PREPARED.format(root=root),
                compare_sizes=slice(None),
            )
        else:
            file = root / "annotations" / f"instances_{split}2017.json"
            images = root / f"{split}2017"
            found = check_coco(file, images, options.categories, compare_sizes=slice(None))
        whole = published[split]
        part = "the whole split" if found.images == whole else f"the published one has {whole:,}"
        print(
            f"{found.annotation_file}: {found.images:,} images, all present and of the sizes "
            f"listed ({part}); "
            f"{found.annotations:,} annotations, {found.objects.crowds:,} of them crowds; "
            f"{len(found.categories)} categories; sha256 {found.fingerprint[:16]}"
        )
    test = root / "leftImg8bit" / "test"
    if options.format == "cityscapes" and test.is_dir():
        count = sum(1 for _ in test.glob(f"*/*{cityscapes.PICTURE}"))
        print(f"{test}: {count:,} of {published['test']:,} images; nothing uses them")
    if not cityscapes.is_writable(root / "annotations"):
        print(
            f"{root / 'annotations'}: cannot be written to; splits and conversions need a copy of "
            f"{root} elsewhere, links to its images are enough"
        )


def convert(options: argparse.Namespace) -> None:
    """``cityscapes``: write gtFine as COCO-style annotations.

    Raises:
        ValueError, FileNotFoundError: from :func:`cityscapes.convert`.
    """
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
    checks = commands.add_parser("check", help="is the dataset whole, and what is missing")
    checks.set_defaults(run=check)
    checks.add_argument("--format", choices=("coco", "cityscapes"), default="coco")
    checks.add_argument("--categories", nargs="+", metavar="NAME", help="the names expected")
    converts = commands.add_parser("cityscapes", help="write gtFine as COCO-style annotations")
    converts.set_defaults(run=convert, format="cityscapes")
    converts.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    for command in (checks, converts):
        command.add_argument("--data-root", type=Path, help="default: data/<format>")
        command.add_argument(
            "--split", nargs="+", choices=("train", "val"), default=["train", "val"]
        )
    options = parser.parse_args(arguments)
    options.data_root = options.data_root or Path("data", options.format)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
