"""COCO-10K and COCO-1K: seeded splits that are the same on every machine, for ever (section 5.3).

    python -m transfer.splits data/coco/annotations/instances_train2017.json --size 1000 --seed 0 \
        --out data/coco/annotations/instances_train2017_1k_seed0.json

An image's place in the draw is the sha256 of the text ``SEED IMAGE_ID`` (both in decimal, one space
between, ASCII); a split holds the images with the smallest digests. So it does not depend on the
order of the file, on the platform or on any library's random numbers, no image comes twice, and
of one seed the smaller split lies in the larger one.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results.record.files import write_atomically
from transfer.data.annotation_entries import check_entries
from transfer.data.annotation_file import collector_off, read_annotations

SEEDS = range(5)  # section 5.3: the mean over five splits


def draw(image_ids: Iterable[int], size: int, seed: int) -> list[int]:
    """``size`` of the ids, without replacement; sorted.

    Raises:
        ValueError: there are fewer, one comes twice, or a number is out of range.
    """
    ids = list(image_ids)
    if len(set(ids)) != len(ids):
        raise ValueError(
            f"{len(ids) - len(set(ids))} image ids come twice; a split needs each once"
        )
    if not 1 <= size <= len(ids):
        raise ValueError(f"cannot draw {size:,} of {len(ids):,} images; set --size in between")
    if seed < 0:
        raise ValueError(f"the seed is {seed}; expected 0 or more")
    return sorted(sorted(ids, key=lambda image_id: _place(image_id, seed))[:size])


def _place(image_id: int, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {image_id}".encode("ascii")).digest()


def ids_sha256(ids: Sequence[int]) -> str:
    """sha256 of the sorted ids in decimal, each followed by a newline."""
    return hashlib.sha256("".join(f"{image_id}\n" for image_id in sorted(ids)).encode()).hexdigest()


def select(document: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """The COCO document cut down to the images of ``ids``, sorted by id; the rest as it was."""
    kept = set(ids)
    images = [image for image in document["images"] if image["id"] in kept]
    annotations = [item for item in document["annotations"] if item["image_id"] in kept]
    return {
        **document,
        "images": sorted(images, key=lambda image: image["id"]),
        "annotations": sorted(annotations, key=lambda item: item["id"]),
    }


def ids_file(split: Path) -> Path:
    """Where the ids of a split's annotation file stand."""
    return split.with_suffix(".ids.json")


def write_split(annotations: Path, size: int, seed: int, out: Path) -> dict[str, Any]:
    """Draw, and write the annotation file and its ids.

    Returns:
        What the ids file holds: the draw, the ids, and their sha256.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, how to mend it.
    """
    document, source_sha256 = read_annotations(annotations)
    check_entries(annotations, document)
    ids = draw(_ids(document, annotations), size, seed)
    manifest = {
        "algorithm": "the images with the smallest sha256 of 'SEED IMAGE_ID'",
        "source": annotations.name,
        "source_sha256": source_sha256,
        "source_images": len(document["images"]),
        "size": size,
        "seed": seed,
        "sha256": ids_sha256(ids),
        "ids": ids,
    }
    with collector_off():
        content = json.dumps(select(document, ids), separators=(",", ":")).encode()
    write_atomically(out, content)
    write_atomically(ids_file(out), (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def verify_split(annotations: Path, size: int, seed: int, out: Path) -> dict[str, Any]:
    """Check a split's two files against a new draw.

    Returns:
        What the ids file holds.

    Raises:
        ValueError, FileNotFoundError: says which of them disagrees.
    """
    mend = _mend(annotations, size, seed, out)
    document, _ = read_annotations(annotations)
    check_entries(annotations, document)
    ids = draw(_ids(document, annotations), size, seed)
    manifest = _read_ids_file(out, mend)
    listed, digest = manifest["ids"], manifest["sha256"]
    if listed != ids or digest != ids_sha256(ids):
        raise ValueError(
            f"{ids_file(out)} lists other images than size {size} and seed {seed} draw from "
            f"{annotations}: {len(set(ids) ^ set(listed))} differ; {mend}"
        )
    split, _ = read_annotations(out, mend)
    if split != select(document, ids):
        raise ValueError(f"{out} does not hold the images and annotations of its ids; {mend}")
    return manifest


def check_split(annotations: Path, size: int, seed: int, out: Path) -> dict[str, Any]:
    """Check that a split's two files agree with each other and are of this size and seed.

    Unlike :func:`verify_split` it does not read ``annotations``, so it is done before every run.

    Returns:
        What the ids file holds.

    Raises:
        ValueError, FileNotFoundError: says what is missing or disagrees.
    """
    if type(seed) is not int or seed < 0:
        raise ValueError(f"the split is {seed!r}; expected the seed that it was drawn with, 0 to 4")
    mend = _mend(annotations, size, seed, out)
    document, _ = read_annotations(out, mend)
    manifest = _read_ids_file(out, mend)
    if (manifest["size"], manifest["seed"]) != (size, seed):
        raise ValueError(
            f"{ids_file(out)} is of size {manifest['size']} and seed {manifest['seed']}, where "
            f"size {size} and seed {seed} were expected; {mend}"
        )
    listed = manifest["ids"]
    if len(listed) != size or manifest["sha256"] != ids_sha256(listed):
        raise ValueError(f"{ids_file(out)} was changed: its ids have another sha256; {mend}")
    if odd := set(listed) ^ set(_ids(document, out)):
        raise ValueError(
            f"{out} does not hold the images of its ids file: {len(odd)} are in only one of them; "
            f"{mend}"
        )
    return manifest


def _mend(annotations: Path, size: int, seed: int, out: Path) -> str:
    return (
        f"write it with: python -m transfer.splits {annotations} --size {size} --seed {seed} "
        f"--out {out}"
    )


def _read_ids_file(out: Path, mend: str) -> dict[str, Any]:
    if not ids_file(out).is_file():
        raise FileNotFoundError(f"{out} has no list of ids at {ids_file(out)}; {mend}")
    try:
        manifest: dict[str, Any] = json.loads(ids_file(out).read_bytes())
        missing = {"ids", "sha256", "size", "seed", "source_images"} - manifest.keys()
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{ids_file(out)} is no list of ids ({error}); {mend}") from None
    if missing:
        raise ValueError(
            f"{ids_file(out)} is no list of ids (it lacks {', '.join(sorted(missing))}); {mend}"
        )
    numbers = [manifest["size"], manifest["seed"], manifest["source_images"]]
    numbers += manifest["ids"] if isinstance(manifest["ids"], list) else [None]
    if {type(number) for number in numbers} != {int} or max(map(abs, numbers)) >= 2**63:
        raise ValueError(f"{ids_file(out)} is no list of ids: one is no whole number; {mend}")
    return manifest


def _ids(document: dict[str, Any], path: Path) -> list[int]:
    found = [image.get("id") if isinstance(image, dict) else None for image in document["images"]]
    ids = [image_id for image_id in found if type(image_id) is int]
    if len(ids) < len(found):
        raise ValueError(f"{path} has images without a whole number as id; unpack it again")
    return ids


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
        print(f"transfer.data.splits: {error}", file=sys.stderr)
        return 2
    print(
        f"{args.out}: {manifest['size']:,} of {manifest['source_images']:,} images, seed "
        f"{manifest['seed']}, ids sha256 {manifest['sha256'][:16]}"
        + (", as drawn" if args.verify else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
