"""Turns Cityscapes' gtFine into the COCO-style annotation files that detectors read.

What counts as an instance is cityscapesScripts' definition: of the labels that have instances and
enter the evaluation, an id of 1000 or more in `*_instanceIds.png` is one object (label id * 1000 +
its number), and the bare label id marks a group that nobody could tell apart: a crowd.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels
from PIL import Image, ImageFile
from pycocotools import mask as coco_mask
from tqdm import tqdm

from results.record.files import regular_file, write_atomically
from results.record.text import some_of
from transfer.data.annotations import Entry

Pair = tuple[Path, Path]  # instance ids, picture
CLASSES = {
    label.id: label.name for label in labels if label.hasInstances and not label.ignoreInEval
}
TRUTH, PICTURE = "_gtFine_instanceIds.png", "_leftImg8bit.png"
MAX_PIXELS = 64_000_000  # what Cityscapes has is 2 million
CONVERTER_VERSION = 1  # raise it with every change that alters what is written
DOWNLOAD = (
    "Download gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip from "
    "https://www.cityscapes-dataset.com/downloads (a login is needed) and unpack both in {root}, "
    "or name another folder with --data-root."
)
NOT_PREPARED = "Run: python -m transfer.prepare cityscapes --data-root {root}"


def annotation_file(data_root: Path, split: str) -> Path:
    """Where the annotations of a split are written, under mmdetection's file name."""
    return data_root / "annotations" / f"instancesonly_filtered_gtFine_{split}.json"


def find_pairs(data_root: Path, split: str) -> list[Pair]:
    """The (instance ids, picture) files of a split, ordered by name.

    Raises:
        FileNotFoundError: no gtFine, no leftImg8bit, or a file of one without its partner.
    """
    download = DOWNLOAD.format(root=data_root)
    if not data_root.is_dir():
        raise FileNotFoundError(f"There is no folder {data_root}. {download}")
    truth, pictures = data_root / "gtFine" / split, data_root / "leftImg8bit" / split
    for folder in (truth, pictures):
        if not folder.is_dir():
            there = some_of(sorted(path.name for path in data_root.iterdir())) or "nothing"
            raise FileNotFoundError(f"{data_root} holds {there} but no {folder}. {download}")
    annotated, pictured = _stems(truth, TRUTH), _stems(pictures, PICTURE)
    for folder, ending, lacking in (
        (pictures, PICTURE, annotated - pictured),
        (truth, TRUTH, pictured - annotated),
    ):
        if lacking:
            raise FileNotFoundError(
                f"{folder} lacks {len(lacking)} of {len(annotated | pictured)} files, such as "
                f"{some_of(stem + ending for stem in sorted(lacking))}; gtFine and leftImg8bit "
                f"must hold the same pictures. {download}"
            )
    if not annotated:
        raise FileNotFoundError(f"{truth} holds no <city>/*{TRUTH}. {download}")
    return [(truth / (stem + TRUTH), pictures / (stem + PICTURE)) for stem in sorted(annotated)]


def _stems(folder: Path, ending: str) -> set[str]:
    """<city>/<name> of every file with that ending, hidden ones (``._x``) left out."""
    found = folder.glob(f"*/[!.]*{ending}")
    return {path.relative_to(folder).as_posix().removesuffix(ending) for path in found}


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be; found out by making one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def convert(data_root: Path, split: str, workers: int = 1, progress: bool = False) -> bool:
    """Write a split's annotation file, unless it is there and nothing has changed since.

    Args:
        data_root: the folder with gtFine/ and leftImg8bit/.
        split: "train" or "val".
        workers: processes that read the images.
        progress: show a progress bar with the remaining time on stderr.

    Returns:
        Whether the file had to be written.

    Raises:
        FileNotFoundError: see :func:`find_pairs`.
        ValueError: an image that cannot be read, one whose size differs from its annotation's, an
            annotation file that something else wrote, or a folder that cannot be written to.
    """
    pairs = find_pairs(data_root, split)
    target = annotation_file(data_root, split)
    source = _source(data_root, pairs)
    if _is_up_to_date(target, source, pairs):
        return False
    if not is_writable(target.parent):
        raise ValueError(
            f"{target.parent} cannot be written to, where the annotations of {split} belong; make "
            "it writable, or name another folder, with links to gtFine and leftImg8bit, with "
            "--data-root"
        )
    bar = partial(tqdm, total=len(pairs), desc=f"cityscapes {split}", unit="image",
                  disable=not progress, mininterval=1)  # fmt: skip
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            instances = list(bar(pool.map(read_instances, pairs, chunksize=8)))
    else:
        instances = list(bar(map(read_instances, pairs)))
    images: list[Entry] = []
    annotations: list[Entry] = []
    folder = data_root / "leftImg8bit" / split
    for (_, picture), (width, height, found) in zip(pairs, instances, strict=True):
        image_id, name = len(images) + 1, picture.relative_to(folder).as_posix()
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for fields in found:  # ids from 1: COCO's evaluation takes a match with 0 for none
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **fields})
    document = {
        "info": {"description": f"Cityscapes gtFine {split} as COCO instances", "source": source},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": label_id, "name": name} for label_id, name in CLASSES.items()],
    }
    write_atomically(target, json.dumps(document).encode())
    return True


def read_instances(pair: Pair) -> tuple[int, int, list[Entry]]:
    """Width, height and the annotations (without ids) of one picture, ordered by instance id.

    Raises:
        ValueError: a file cannot be read, or they have different sizes.
    """
    with _png(pair[0], "gtFine_trainvaltest.zip") as image:
        ids = np.asarray(image)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"{pair[0]} is a colour image, where instance ids in one channel of 16 bits were "
            "expected. Unpack gtFine_trainvaltest.zip again."
        )
    height, width = ids.shape
    with _png(pair[1], "leftImg8bit_trainvaltest.zip") as picture:
        if picture.size != (width, height):
            raise ValueError(
                f"{pair[1]} has {picture.width}x{picture.height} pixels, {pair[0].name} "
                f"{width}x{height}. Unpack leftImg8bit_trainvaltest.zip and "
                "gtFine_trainvaltest.zip again."
            )
    annotations = []
    for instance_id in np.flatnonzero(np.bincount(ids.ravel())).tolist():
        crowd = instance_id < 1000
        label_id = instance_id if crowd else instance_id // 1000
        if label_id not in CLASSES:
            continue
        mask = coco_mask.encode(np.asfortranarray(ids == instance_id, dtype=np.uint8))
        annotations.append(
            {
                "category_id": label_id,
                "iscrowd": int(crowd),
                "area": int(coco_mask.area(mask)),
                "bbox": coco_mask.toBbox(mask).tolist(),
                "segmentation": {"size": [height, width], "counts": mask["counts"].decode("ascii")},
            }
        )
    return width, height, annotations


@contextmanager
def _png(path: Path, archive: str) -> Iterator[ImageFile.ImageFile]:
    """A PNG file, of no other format and of no size that nobody photographs."""
    try:
        with Image.open(regular_file(path), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            yield image
    except Exception as error:  # Pillow raises of every kind
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(f"{path} cannot be read ({error}). Unpack {archive} again.") from error


def _source(data_root: Path, pairs: list[Pair]) -> str:
    """A digest of the names and sizes of what is read; the same on every machine."""
    digest = hashlib.sha256(f"converter {CONVERTER_VERSION}\n".encode())
    for path, _ in pairs:
        name = path.relative_to(data_root).as_posix()
        digest.update(f"{name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _is_up_to_date(target: Path, source: str, pairs: list[Pair]) -> bool:
    if not target.exists():
        return False
    try:
        found = json.loads(regular_file(target).read_bytes())["info"]["source"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{target} was not written by this command, and is not overwritten. "
            f"Move it away: mv {target} {target}.old"
        ) from error
    newest = max(path.stat().st_mtime for path, _ in pairs)
    return bool(found == source and newest <= target.stat().st_mtime <= time.time())
