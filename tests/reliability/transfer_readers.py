"""The readers of transfer/ and of tools/, each with a valid input and a way to spoil it."""

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

from results.plan.planned_run import Run
from tests.reliability.mutations import (
    TEXTS,
    canary,
    changed,
    hostile_bytes,
    hostile_json,
    hostile_picture,
    odd_value,
    write,
)
from tests.reliability.pretrain_readers import odd_content, saved
from tests.reliability.results_readers import valid_record
from tools.reproduce.state import Place, state
from transfer.data.annotation_file import read_annotations
from transfer.data.cityscapes import _is_up_to_date, read_instances
from transfer.data.image_sizes import check_sizes
from transfer.data.prepare import check_coco
from transfer.data.splits import check_split, select, verify_split, write_split
from transfer.dumped_config import read_dumped
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


def hostile_document(random: Random) -> bytes:
    """An annotation file spoilt where masks, boxes, ids and names are, or anywhere."""
    document = valid_document()
    if random.random() < 0.5:
        return hostile_json(random, document)
    for _ in range(random.choice((1, 1, 2))):
        annotation = random.choice(document["annotations"])
        change = random.randrange(8)
        if change == 0 and isinstance(annotation["segmentation"], dict):
            annotation["segmentation"]["counts"] = random.choice(ODD_COUNTS)
        elif change <= 1:
            annotation["segmentation"] = random.choice(ODD_POLYGONS)
        elif change == 2:
            numbers = [4, 4, 8, 0, -8, 1e-9, 1e9, float("nan"), float("inf"), "4", None, True]
            annotation["bbox"] = [random.choice(numbers) for _ in range(random.choice((4, 4, 3)))]
        elif change == 3:
            names = (*TEXTS, "../1.png", "/etc/passwd", "loop.png", "a/../1.png", "./1.png", "pipe")
            random.choice(document["images"])["file_name"] = random.choice(names)
        elif change == 4:
            image = random.choice(document["images"])
            image[random.choice(("width", "height", "id"))] = odd_value(random)
        elif change == 5:
            annotation[random.choice(list(annotation))] = odd_value(random)
        elif change == 6:
            document["categories"] += [random.choice(document["categories"])]
        else:
            mask = annotation["segmentation"]
            if isinstance(mask, dict) and isinstance(mask.get("counts"), str):
                mask["counts"] = hostile_bytes(random, mask["counts"].encode()).decode("latin1")
    return json.dumps(document).encode()


class Annotations:
    """An annotation file: what is accepted, pycocotools can use to the last mask."""

    share = 14.0

    def __init__(self, folder: Path) -> None:
        self.file, self.images = folder / "instances.json", folder / "images"
        for number in (1, 2, 3):
            self.images.mkdir(exist_ok=True)
            Image.new("RGB", (SIDE, SIDE)).save(self.images / f"{number}.png")
        (self.images / "loop.png").symlink_to("loop.png")
        write(folder / "1.png", b"outside")

    def spoil(self, random: Random) -> Path:
        return write(self.file, hostile_document(random))

    def read(self, path: Path) -> None:
        summary = check_coco(path, self.images)
        document, _ = read_annotations(path)
        for entry in document["images"]:
            inside = (self.images / entry["file_name"]).resolve()
            assert inside.is_relative_to(self.images.resolve()), entry["file_name"]
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


class Sizes:
    """The pictures that an annotation file lists, their headers read."""

    share = 4.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "a.jpg"

    def spoil(self, random: Random) -> Path:
        return write(self.file, hostile_picture(random))

    def read(self, path: Path) -> None:
        check_sizes(path.parent, [{"file_name": path.name, "width": 32, "height": 24}])


class Splits:
    """A split's annotation file and its list of ids."""

    share = 5.0

    def __init__(self, folder: Path) -> None:
        self.source, self.out = folder / "all.json", folder / "split.json"
        self.document = valid_document()
        write(self.source, json.dumps(self.document).encode())
        self.manifest = write_split(self.source, 2, 0, self.out)

    def spoil(self, random: Random) -> Path:
        split = select(self.document, self.manifest["ids"])
        files = {
            self.source: self.document,
            self.out: split,
            self.out.with_suffix(".ids.json"): self.manifest,
        }
        spoilt = random.choice(list(files))
        for path, content in files.items():
            valid = json.dumps(content).encode()
            write(path, hostile_json(random, content) if path == spoilt else valid)
        return spoilt

    def read(self, path: Path) -> None:
        check_split(self.source, 2, 0, self.out)
        verify_split(self.source, 2, 0, self.out)


class CityscapesPicture:
    """A picture of gtFine with its photograph."""

    share = 3.0

    def __init__(self, folder: Path) -> None:
        self.truth, self.photograph = folder / "a_instanceIds.png", folder / "a_leftImg8bit.png"

    def spoil(self, random: Random) -> Path:
        ids = np.full((24, 32), random.choice((0, 26_001, 24, 65_535, 1)), dtype=np.uint16)
        Image.fromarray(ids).save(out := io.BytesIO(), "PNG")
        content, photograph = out.getvalue(), io.BytesIO()
        Image.new("RGB", (32, 24)).save(photograph, "PNG")
        spoilt = random.choice((self.truth, self.photograph))
        for path, valid in ((self.truth, content), (self.photograph, photograph.getvalue())):
            hostile = random.choice((hostile_picture(random), hostile_bytes(random, valid)))
            write(path, hostile if path == spoilt else valid)
        return spoilt

    def read(self, path: Path) -> None:
        width, height, found = read_instances((self.truth, self.photograph))
        assert (width, height) and all(thing["area"] > 0 for thing in found)


class CityscapesDocument:
    """The annotation file that an earlier conversion left."""

    share = 1.5

    def __init__(self, folder: Path) -> None:
        self.file, self.picture = folder / "gtFine.json", write(folder / "a.png", b"")

    def spoil(self, random: Random) -> Path:
        return write(self.file, hostile_json(random, {"info": {"source": "s"}, "images": []}))

    def read(self, path: Path) -> None:
        _is_up_to_date(path, "s", [(self.picture, self.picture)])


STORED = {
    "method": "loco",
    "model": {"type": "MaskRCNN", "backbone": {"type": "TransferBackbone", "depth": (1, 2)}},
    "val_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": [{"type": "Resize"}]}},
    "lr": 1e-05,
}


def _as_python(random: Random, value: Any) -> str:
    """A config as mmengine dumps it; some values are calls that a careless reader would run."""
    calls = (
        f"__import__('os').mkdir({canary()!r})", f"open({canary()!r}, 'w')", "dict(**{'a': 1})",
        "dict([('a', 1)])", "[x for x in (1, 2)]", "lambda: 1", "f'{1}'", "(1).__class__",
        "1 if True else 2", "9 ** 9 ** 9", "'a' * 10 ** 10", "-1", "+1", "-'a'", "dict(a=1, a=2)",
        "{1: 2, **{}}", "inf", "(" * 300 + ")" * 300, "[" * 5_000, "{[]: 1}", "{{}}", "...", "b'a'",
        "1j", "None", "not True", "a.b", "'\\ud800'",
    )  # fmt: skip
    text = "".join(f"{key} = {item!r}\n" for key, item in value.items() if str(key).isidentifier())
    if random.random() < 0.7:
        text += f"x = {random.choice(calls)}\n"
    if random.random() < 0.2:
        text += random.choice(
            (f"import os; os.mkdir({canary()!r})\n", "_base_ = ['/etc/passwd']\n", "x: int = 1\n",
             "x += 1\n", "del lr\n", "def f():\n  pass\n", "a, b = 1, 2\n", "a = b = 1\n", "\0",
             "#\n" * 10, "while True: pass\n", "{{fileDirname}}\n")
        )  # fmt: skip
    return text


class DumpedConfig:
    """The config in a run's folder, which is Python: read, never run."""

    share = 4.0

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.py"

    def spoil(self, random: Random) -> Path:
        value = changed(random, STORED, random.randrange(3))
        text = _as_python(random, value if isinstance(value, dict) else {"a": value})
        content = text.encode(errors="surrogatepass")
        return write(
            self.file, hostile_bytes(random, content) if random.random() < 0.3 else content
        )

    def read(self, path: Path) -> None:
        assert isinstance(read_dumped(path), dict)


class StoredDetector:
    """A run's folder whose detector is to be drawn: checkpoint and config, before it is built."""

    share = 2.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spoil(self, random: Random) -> Path:
        value: Any = changed(random, STORED, random.choice((0, 0, 1)))
        if isinstance(value, dict) and random.random() < 0.3:
            value["model"] = {"type": "os.mkdir", "path": canary()}
        text = json.dumps(value)
        if random.random() < 0.3:
            text = hostile_json(random, value).decode(errors="replace")
        content = {
            "meta": {"iter": 1, "world_size": 1, "config_text": text},
            "state_dict": {},
        }
        python = _as_python(random, value) if isinstance(value, dict) else ""
        write(self.folder / "config.py", python.encode(errors="surrogatepass"))
        return write(self.folder / "epoch_1.pth", saved(random, odd_content(random, content)))

    def read(self, path: Path) -> None:
        stored_config(self.folder, path)


class PlannedRun:
    """What a planned run has left in its folder."""

    share = 2.0

    def __init__(self, folder: Path) -> None:
        self.place, self.file = Place(str(folder), str(folder)), folder / "a" / "record.json"
        self.run = Run("a", "transfer", (), "configs/a.py", method="loco", encoder="resnet50")

    def spoil(self, random: Random) -> Path:
        return write(self.file, hostile_json(random, valid_record()))

    def read(self, path: Path) -> None:
        state(self.run, self.place)


READERS = {
    "annotation file": Annotations,
    "sizes of listed images": Sizes,
    "split": Splits,
    "Cityscapes picture": CityscapesPicture,
    "Cityscapes document": CityscapesDocument,
    "dumped config": DumpedConfig,
    "stored detector": StoredDetector,
    "planned run": PlannedRun,
}
