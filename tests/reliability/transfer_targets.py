"""The readers of transfer/."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import decode, encode

from tests.reliability.mutations import (
    TEXTS,
    canary,
    changed,
    hostile_bytes,
    hostile_checkpoint,
    hostile_json,
    hostile_picture,
    odd_value,
    write,
)
from tests.reliability.targets import Read, Spoil, Target
from transfer.data.annotations import read_annotations
from transfer.data.cityscapes import _is_up_to_date, read_instances
from transfer.data.dataset_check import check_coco
from transfer.data.image_sizes import check_sizes
from transfer.data.splits import check_split, select, verify_split, write_split
from transfer.stored_detector import stored_config

SIDE = 24
MANY = 10**7  # pixels of a mask that is decoded


def valid_document() -> dict[str, Any]:
    """COCO's format: three images; polygons, a run-length crowd, a compressed one."""
    box = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    box[4:12, 4:12] = 1
    compressed = {"size": [SIDE, SIDE], "counts": encode(box)["counts"].decode()}
    lengths = {"size": [SIDE, SIDE], "counts": [100, 8, SIDE * SIDE - 108]}
    shapes = ([[4, 4, 12, 4, 12, 12, 4, 12]], lengths, compressed)
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in (1, 2, 3)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4.0, 4.0, 8.0, 8.0], "area": 64.0,
             "iscrowd": int(i == 2), "segmentation": shape}
            for i, shape in enumerate(shapes, start=1)
        ],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}],
    }  # fmt: skip


ODD_COUNTS: tuple[Any, ...] = (
    [], [-1, 577], [10**9, 10**9], [1.5, 2], ["a"], "", "0", "\x7f" * 50, "oooooooooooooooo", "\0",
    [2**32, 5], "P" * 1_000, [0] * 50, None, "ÿÿ", [576, 576],
)  # fmt: skip
ODD_POLYGONS: tuple[Any, ...] = (
    [[]], [[1, 2]], [[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[float("nan")] * 6], [],
    [[], []], [[1e9] * 6], [["a"] * 6], [[0] * 6], {}, "x", [1, 2, 3, 4, 5, 6],
    [[-3, -3, 28, -3, 28, 28]], [[True] * 8], [[1, 1, 5, 1, 5, 5], []],
)  # fmt: skip
ODD_BOX = (4, 4, 8, 0, -8, 1e-9, 1e9, float("nan"), float("inf"), "4", None, True)
ODD_NAMES = (*TEXTS, "../1.png", "/etc/passwd", "loop.png", "a/../1.png", "./1.png", "pipe")


def hostile_document(random: Random) -> bytes:
    """An annotation file spoilt where masks, boxes, ids and names are, or anywhere."""
    document = valid_document()
    if random.randrange(2):
        return hostile_json(random, document)
    for _ in range(random.choice((1, 1, 2))):
        annotation, image = (
            random.choice(document["annotations"]),
            random.choice(document["images"]),
        )
        mask, change = annotation["segmentation"], random.randrange(8)
        packed = isinstance(mask, dict) and isinstance(mask.get("counts"), str)
        if change == 0 and isinstance(mask, dict):
            mask["counts"] = random.choice(ODD_COUNTS)
        elif change == 1 and packed:
            mask["counts"] = hostile_bytes(random, mask["counts"].encode()).decode("latin1")
        elif change <= 2:
            annotation["segmentation"] = random.choice(ODD_POLYGONS)
        elif change == 3:
            annotation["bbox"] = [random.choice(ODD_BOX) for _ in range(random.choice((4, 4, 3)))]
        elif change == 4:
            image["file_name"] = random.choice(ODD_NAMES)
        elif change == 5:
            image[random.choice(("width", "height", "id"))] = odd_value(random)
        elif change == 6:
            annotation[random.choice(list(annotation))] = odd_value(random)
        else:
            document["categories"] += [random.choice(document["categories"])]
    return json.dumps(document).encode()


def annotations(folder: Path) -> tuple[Spoil, Read]:
    """What is accepted lies in the images' folder, and pycocotools can use it to the last mask."""
    images = folder / "images"
    images.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (SIDE, SIDE)).save(images / f"{number}.png")
    (images / "loop.png").symlink_to("loop.png")
    write(folder / "1.png", b"outside")

    def spoil(random: Random) -> Path:
        return write(folder / "instances.json", hostile_document(random))

    def read(path: Path) -> None:
        summary = check_coco(path, images)
        document, _ = read_annotations(path)
        for entry in document["images"]:
            inside = (images / entry["file_name"]).resolve()
            assert inside.is_relative_to(images.resolve()), entry["file_name"]
        truth = COCO()
        truth.dataset = document
        with redirect_stdout(io.StringIO()):
            truth.createIndex()
        for annotation in truth.dataset["annotations"]:
            image = truth.imgs[annotation["image_id"]]
            if annotation.get("segmentation") and image["width"] * image["height"] < MANY:
                mask = decode(truth.annToRLE(annotation))
                assert mask.shape == (image["height"], image["width"])
        assert summary.images == len(truth.imgs) and summary.annotations == len(truth.anns)

    return spoil, read


def image_sizes(folder: Path) -> tuple[Spoil, Read]:
    """The headers of pictures that an annotation file lists."""

    def spoil(random: Random) -> Path:
        return write(folder / "a.jpg", hostile_picture(random))

    def read(path: Path) -> None:
        check_sizes(path.parent, [{"file_name": path.name, "width": 32, "height": 24}])

    return spoil, read


def split(folder: Path) -> tuple[Spoil, Read]:
    """A split's annotation file, its list of ids, and the file that it was drawn from."""
    source, out = folder / "all.json", folder / "split.json"
    document = valid_document()
    write(source, json.dumps(document).encode())
    manifest = write_split(source, 2, 0, out)
    drawn = select(document, manifest["ids"])
    files = {source: document, out: drawn, out.with_suffix(".ids.json"): manifest}

    def spoil(random: Random) -> Path:
        spoilt = random.choice(list(files))
        for path, content in files.items():
            valid = json.dumps(content).encode()
            write(path, hostile_json(random, content) if path == spoilt else valid)
        return spoilt

    def read(path: Path) -> None:
        check_split(source, 2, 0, out)
        verify_split(source, 2, 0, out)

    return spoil, read


def cityscapes_picture(folder: Path) -> tuple[Spoil, Read]:
    """A picture of gtFine with its photograph."""
    truth, photograph = folder / "a_instanceIds.png", folder / "a_leftImg8bit.png"

    def spoil(random: Random) -> Path:
        ids = np.full((24, 32), random.choice((0, 26_001, 24, 65_535, 1)), dtype=np.uint16)
        Image.fromarray(ids).save(truth)
        Image.new("RGB", (32, 24)).save(photograph)
        spoilt = random.choice((truth, photograph))
        hostile = hostile_bytes(random, spoilt.read_bytes())
        return write(spoilt, random.choice((hostile_picture(random), hostile)))

    def read(path: Path) -> None:
        width, height, found = read_instances((truth, photograph))
        assert (width, height) and all(thing["area"] > 0 for thing in found)

    return spoil, read


def cityscapes_document(folder: Path) -> tuple[Spoil, Read]:
    """The annotation file that an earlier conversion left."""
    picture = write(folder / "a.png", b"")

    def spoil(random: Random) -> Path:
        content = hostile_json(random, {"info": {"source": "s"}, "images": []})
        return write(folder / "gtFine.json", content)

    def read(path: Path) -> None:
        _is_up_to_date(path, "s", [(picture, picture)])

    return spoil, read


STORED = {
    "method": "loco",
    "model": {"type": "MaskRCNN", "backbone": {"type": "TransferBackbone", "depth": (1, 2)}},
    "val_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": [{"type": "Resize"}]}},
    "lr": 1e-05,
}


def stored_detector(folder: Path) -> tuple[Spoil, Read]:
    """Checkpoint of a detector that is to be drawn, before it is built."""

    def spoil(random: Random) -> Path:
        value: Any = changed(random, STORED, random.choice((0, 0, 1)))
        if isinstance(value, dict) and random.randrange(3) == 0:
            value["model"] = {"type": "os.mkdir", "path": canary()}
        text = json.dumps(value)
        if random.randrange(3) == 0:
            text = hostile_json(random, value).decode(errors="replace")
        meta = {"iter": 1, "world_size": 1, "config_text": text}
        content = {"meta": meta, "state_dict": {}}
        return write(folder / "epoch_1.pth", hostile_checkpoint(random, content))

    def read(path: Path) -> None:
        stored_config(path)

    return spoil, read


TARGETS: dict[str, Target] = {
    "annotation file": annotations,
    "sizes of listed images": image_sizes,
    "split": split,
    "Cityscapes picture": cityscapes_picture,
    "Cityscapes document": cityscapes_document,
    "stored detector": stored_detector,
}
