"""COCO-10K and COCO-1K: seeded splits that are the same on every machine, for ever (section 5.3).

An image's place in the draw is the sha256 of the text ``SEED IMAGE_ID`` (both in decimal, one space
between, ASCII); a split holds the images with the smallest digests. So it does not depend on the
order of the file, on the platform or on any library's random numbers, no image comes twice, and
of one seed the smaller split lies in the larger one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict, cast

from results.record.files import regular_file, write_atomically
from transfer.data.annotations import Entry, collector_off, read_annotations


class Manifest(TypedDict):
    """What the file of ids beside a split's annotation file says of it."""

    algorithm: str
    source: str  # name of the annotation file that it was drawn from
    source_sha256: str
    source_images: int
    size: int
    seed: int
    sha256: str  # see ids_sha256
    ids: list[int]


def draw(image_ids: Iterable[int], size: int, seed: int) -> list[int]:
    """``size`` of the ids, without replacement; sorted.

    Raises:
        ValueError: there are fewer, one comes twice, or a number is out of range.
    """
    ids = list(image_ids)
    if twice := len(ids) - len(set(ids)):
        raise ValueError(f"{twice} image ids come twice; a split needs each once")
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


def select(document: Entry, ids: Sequence[int]) -> Entry:
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


def write_split(annotations: Path, size: int, seed: int, out: Path) -> Manifest:
    """Draw, and write the annotation file and its ids.

    Raises:
        ValueError, FileNotFoundError: from :func:`read_annotations` and :func:`draw`.
    """
    document, source_sha256 = read_annotations(annotations)
    ids = draw((image["id"] for image in document["images"]), size, seed)
    manifest: Manifest = {
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


def verify_split(annotations: Path, size: int, seed: int, out: Path) -> Manifest:
    """Check a split's two files against a new draw.

    Raises:
        ValueError, FileNotFoundError: says which of them disagrees.
    """
    command = _command(annotations, size, seed, out)
    document, _ = read_annotations(annotations)
    ids = draw((image["id"] for image in document["images"]), size, seed)
    manifest = _read_ids_file(out, command)
    if manifest["ids"] != ids or manifest["sha256"] != ids_sha256(ids):
        raise ValueError(
            f"{ids_file(out)} lists other images than size {size} and seed {seed} draw from "
            f"{annotations}: {len(set(ids) ^ set(manifest['ids']))} differ; {command}"
        )
    split, _ = read_annotations(out, command)
    if split != select(document, ids):
        raise ValueError(f"{out} does not hold the images and annotations of its ids; {command}")
    return manifest


def check_split(annotations: Path, size: int, seed: int, out: Path) -> Manifest:
    """Check that a split's two files agree with each other and are of this size and seed.

    Unlike :func:`verify_split` it does not read ``annotations``, so it is done before every run.

    Raises:
        ValueError, FileNotFoundError: says what is missing or disagrees.
    """
    command = _command(annotations, size, seed, out)
    document, _ = read_annotations(out, command)
    manifest = _read_ids_file(out, command)
    ids = manifest["ids"]
    if (manifest["size"], manifest["seed"]) != (size, seed):
        raise ValueError(
            f"{ids_file(out)} is of size {manifest['size']} and seed {manifest['seed']}, where "
            f"size {size} and seed {seed} were expected; {command}"
        )
    if len(ids) != size or manifest["sha256"] != ids_sha256(ids):
        raise ValueError(f"{ids_file(out)} was changed: its ids have another sha256; {command}")
    if odd := set(ids) ^ {image["id"] for image in document["images"]}:
        raise ValueError(
            f"{out} does not hold the images of its ids file: {len(odd)} are in only one of them; "
            f"{command}"
        )
    return manifest


def _command(annotations: Path, size: int, seed: int, out: Path) -> str:
    return (
        f"write it with: python -m transfer.splits {annotations} --size {size} --seed {seed} "
        f"--out {out}"
    )


def _read_ids_file(out: Path, command: str) -> Manifest:
    path = ids_file(out)
    if not path.exists():
        raise FileNotFoundError(f"{out} has no list of ids at {path}; {command}")
    try:
        manifest = json.loads(regular_file(path).read_bytes())
        numbers = [*manifest["ids"], *(manifest[k] for k in ("size", "seed", "source_images"))]
        if {type(number) for number in numbers} != {int} or max(map(abs, numbers)) >= 2**63:
            raise ValueError("one is no whole number")
        if not isinstance(manifest["sha256"], str):
            raise ValueError("sha256 is no text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise ValueError(f"{path} is no list of ids ({what}); {command}") from None
    return cast(Manifest, manifest)
