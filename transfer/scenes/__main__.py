"""Draws scenes as a dataset in COCO's or in Cityscapes' own format.

    python -m transfer.scenes OUT --format coco --train 240 --val 60 --size 128x128 --seed 0

The pictures alone (OUT/train2017) also serve as the unlabelled pretraining set.
"""

import argparse
import sys
from pathlib import Path

from transfer.scenes.datasets import WRITERS, write_scenes

SIZES = {"coco": (128, 128), "cityscapes": (256, 128)}


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 128x128")
    return int(width), int(height)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m transfer.scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the dataset's folder")
    parser.add_argument("--format", choices=sorted(WRITERS), default="coco")
    parser.add_argument("--train", type=int, default=240, help="scenes for training")
    parser.add_argument("--val", type=int, default=60, help="scenes for validation")
    parser.add_argument("--size", type=_size, help="default 128x128, Cityscapes 256x128")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    size = args.size or SIZES[args.format]
    try:
        folder = write_scenes(
            args.format, args.out, args.train, args.val, size, args.seed, progress=True
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{'reused' if folder.reused else 'wrote'} {args.train} + {args.val} scenes of "
        f"{size[0]}x{size[1]} in {folder.root} (sha256 {folder.fingerprint[:16]})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
