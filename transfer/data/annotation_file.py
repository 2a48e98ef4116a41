"""COCO-style annotation files: large JSON documents, read whole and with care."""

import codecs
import gc
import hashlib
import json
import locale
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

COCO_MEND = (
    "Download train2017.zip, val2017.zip and annotations_trainval2017.zip from "
    "https://cocodataset.org/#download and unpack them in data/coco, or name the folder that has "
    "them: --data-root DIR here, --cfg-options data_root=DIR in a run. configs/_base_/demo_coco.py "
    "shows what a dataset of your own needs."
)
OWN = "configs/_base_/demo_coco.py shows how a config of a dataset of your own says them"


@contextmanager
def collector_off() -> Iterator[None]:
    """For a file of train2017's size Python's collector takes 20 s of 25, and finds nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def read_annotations(path: Path, mend: str = COCO_MEND) -> tuple[dict[str, Any], str]:
    """The document, whose images, annotations and categories are lists that hold something.

    Args:
        path: the file.
        mend: what a user without it is told to do.

    Returns:
        The document and the file's sha256.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is not JSON, not COCO's, or empty. What its entries hold is not looked at:
            :func:`transfer.data.annotation_entries.check_entries`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no annotation file {path}. {mend}")
    content = path.read_bytes()
    with collector_off():
        return _parse(path, content), hashlib.sha256(content).hexdigest()


def indexed(document: dict[str, Any]) -> COCO:
    """A document as pycocotools wants it, with values that it does not read in a way of its own.

    It takes an annotation's id for whether it was matched (0 or less: not; cocoapi#507), so they
    are numbered from 1; and it wants ``iscrowd``, which is 0 where it is absent or null.

    Args:
        document: from :func:`read_annotations`; stays as it is.
    """
    truth = COCO()
    truth.dataset = {
        **document,
        "annotations": [
            {**annotation, "id": number, "iscrowd": int(bool(annotation.get("iscrowd")))}
            for number, annotation in enumerate(document["annotations"], start=1)
        ],
    }
    with redirect_stdout(StringIO()):
        truth.createIndex()
    return truth


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be; found out by making one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(
            f"{path} begins with a byte order mark, which pycocotools does not read. Write it as "
            "plain UTF-8 (in Python: encoding='utf-8', not 'utf-8-sig' or 'utf-16')."
        )
    encoding = locale.getpreferredencoding(False)  # which pycocotools opens files with
    if not content.isascii() and codecs.lookup(encoding).name != "utf-8":
        raise ValueError(
            f"{path} has names beyond ASCII, which this shell's encoding, {encoding}, "
            "would change. Set PYTHONUTF8=1."
        )
    try:
        document = json.loads(content.decode())  # as pycocotools does
    except (ValueError, RecursionError) as error:  # ValueError: or bytes that are no text
        raise ValueError(
            f"{path} ({len(content)} bytes) is not JSON: {error}. Perhaps its download or "
            "unpacking broke off; unpack it again."
        ) from error
    found = sorted(document) if isinstance(document, dict) else [type(document).__name__]
    for key in ("images", "annotations", "categories"):
        if key not in found or not isinstance(document[key], list):
            raise ValueError(
                f"{path} is not in COCO's format: it needs the lists images, annotations and "
                f"categories, and has {_names(found)}. COCO's are "
                "called instances_*.json; captions, keypoints and image_info files do not serve."
            )
        if not document[key]:
            raise ValueError(
                f"{path} has no {key}: there is nothing to train on or to evaluate. Use the "
                "instances_*.json of annotations_trainval2017.zip, not the image_info_*.json."
            )
    return document


def _names(found: list[str]) -> str:
    """For a message: the first few, and nothing in them that a terminal would obey."""
    names = ", ".join(found[:9]) or "nothing"
    return names[:200] if names.isprintable() else ascii(names[:200])
