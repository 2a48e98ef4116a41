"""Are the images as large as the annotation file says? Their headers are read, not their pixels.

A camera's note (EXIF) may say that the picture is to be turned. mmdetection turns it
(OpenCV does), so the size that counts here is the one after the turn. Pretraining takes pictures as
they are stored: there nothing else refers to their pixels.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from results.record.files import regular_file
from transfer.data.annotations import Entry

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # of headers that Pillow reads; others are decoded
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # EXIF's
WORKERS = 16  # threads; most of their time they wait for the disk or the network


def check_sizes(folder: Path, images: Sequence[Entry], progress: bool = False) -> None:
    """Compare every image's size with its entry.

    Args:
        folder: what the file names are relative to.
        images: the ``images`` of a COCO-style annotation file.
        progress: show a progress bar with the remaining time on stderr.

    Raises:
        ValueError: images of another size, or that are none; names the first five.
    """
    bar = {"total": len(images), "desc": f"sizes in {folder.name}", "unit": "image", "delay": 2}
    with ThreadPoolExecutor(WORKERS) as pool:
        looked_at = pool.map(partial(_fault, folder), images)
        faults = [*filter(None, tqdm(looked_at, **bar, disable=not progress, mininterval=1))]
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(
            f"{folder}: {len(faults)} of {len(images)} images are not what the annotations say: "
            f"{'; '.join(faults[:5])}{more}. Unpack the images again, and take those that the "
            "annotations were made for"
        )


def _fault(folder: Path, entry: Entry) -> str | None:
    """In words, how an image differs from its entry."""
    name = entry["file_name"]
    try:
        *size, turned = _size(regular_file(os.path.join(folder, name)))
    except Exception as error:  # Pillow raises of every kind
        return f"{name} cannot be read ({type(error).__name__})"
    listed = [entry["width"], entry["height"]]
    if size == listed:
        return None
    why = ", once turned as its EXIF orientation says" if turned else ""
    return f"{name} has {size[0]}x{size[1]} pixels{why}, listed are {listed[0]}x{listed[1]}"


def _size(path: Path) -> tuple[int, int, bool]:
    """Width and height as mmdetection loads the image, and whether after a quarter turn."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            exif = Image.Exif()  # image.getexif() would take XMP's too, which OpenCV does not
            exif.load(image.info.get("exif", b""))
            turned = exif.get(ORIENTATION) in QUARTER_TURNS
            width, height = image.size[::-1] if turned else image.size
            return width, height, turned
    except UnidentifiedImageError:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise
        return pixels.shape[1], pixels.shape[0], False
