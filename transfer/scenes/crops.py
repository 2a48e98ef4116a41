"""The shapes of the drawn scenes, cut out, as labelled class folders: what a readout is run on.

    python -m transfer.scenes.crops SCENES OUT

SCENES is what ``python -m transfer.scenes SCENES --format coco`` wrote. Every object of at least
``LEAST_PX`` is cut out, a square around its box, into OUT/train/CATEGORY/ or OUT/val/CATEGORY/.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from results.record.files import regular_file
from transfer.data.annotations import read_annotations
from transfer.scenes.datasets import appearing_when_complete

SPLITS = {"train2017": "train", "val2017": "val"}
LEAST_PX = 12  # of a box's shorter side
MARGIN = 1.2  # side of the square over the box's longer side


def write_crops(scenes: Path, out: Path) -> Counter[str]:
    """Cut out the objects of all scenes; ``out`` appears when it is complete, not before.

    Returns:
        How many there are of each ``SPLIT/CATEGORY``.

    Raises:
        ValueError: ``out`` is there already.
        FileNotFoundError: ``scenes`` does not hold drawn scenes.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; remove it, or name another folder")
    command = f"write it with: python -m transfer.scenes {scenes} --format coco"
    found: Counter[str] = Counter()
    with appearing_when_complete(out) as folder:
        for split, name in SPLITS.items():
            document, _ = read_annotations(scenes / f"annotations/instances_{split}.json", command)
            categories = {item["id"]: item["name"] for item in document["categories"]}
            files = {item["id"]: scenes / split / item["file_name"] for item in document["images"]}
            for item in document["annotations"]:
                if min(item["bbox"][2:]) < LEAST_PX:
                    continue
                place = f"{name}/{categories[item['category_id']]}"
                (folder / place).mkdir(parents=True, exist_ok=True)
                picture = crop(files[item["image_id"]], item["bbox"])
                picture.save(folder / place / f"{item['id']}.png")
                found[place] += 1
    return found


def crop(path: Path, box: list[Any]) -> Image.Image:
    """The square around a box (x, y, width, height in pixels), moved into the picture."""
    with Image.open(regular_file(path)) as picture:
        x, y, width, height = box
        side = min(round(MARGIN * max(width, height)), *picture.size)
        left = min(max(0, round(x + width / 2 - side / 2)), picture.width - side)
        top = min(max(0, round(y + height / 2 - side / 2)), picture.height - side)
        return picture.convert("RGB").crop((left, top, left + side, top + side))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, 2 where the input is at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m transfer.scenes.crops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenes", type=Path, metavar="SCENES")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args(arguments)
    try:
        found = write_crops(options.scenes, options.out)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = (f"{count} {name}" for name, count in sorted(found.items()))
    print(f"{options.out}: " + ", ".join(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
