"""Draws COCO-10K and COCO-1K (section 5.3), or verifies what is there.

    python -m transfer.splits data/coco/annotations/instances_train2017.json --size 1000 --seed 0 \
        --out data/coco/annotations/instances_train2017_1k_seed0.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from transfer.data.splits import verify_split, write_split


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 2 where the input is at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m transfer.splits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("annotations", type=Path, help="instances_train2017.json")
    parser.add_argument("--size", type=int, required=True, help="images: 10000 or 1000")
    parser.add_argument("--seed", type=int, required=True, help="0 to 4 in the tables")
    parser.add_argument("--out", type=Path, required=True, help="the split's annotation file")
    parser.add_argument("--verify", action="store_true", help="check what is there; write nothing")
    args = parser.parse_args(arguments)
    work = verify_split if args.verify else write_split
    try:
        manifest = work(args.annotations, args.size, args.seed, args.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.out}: {manifest['size']:,} of {manifest['source_images']:,} images, seed "
        f"{manifest['seed']}, ids sha256 {manifest['sha256'][:16]}"
        + (", as drawn" if args.verify else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
