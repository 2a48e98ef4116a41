"""The readers under attack. Each target writes valid files and returns how they are read.

A target names which of its files are spoilt. What its ``read`` asserts must hold of what is read.
"""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import decode, encode

from pretrain.backbone_file import Provenance, load_backbone, read_provenance, write_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.resume import checkpoint_to_resume
from pretrain.engine.run_folder import LAST
from pretrain.export import export_checkpoint, import_torchvision
from pretrain.images.image_lists import ImageList
from pretrain.images.labelled_images import LabelledImages
from pretrain.images.two_views import TwoViewImages
from pretrain.train import NAMES
from results.figures.artifacts import load_losses, load_scenes
from results.figures.tsne import read_features
from results.plan.run import Run
from results.record.protocol import SUPERVISED
from results.record.run_record import RunRecord
from results.report.report import render_report
from results.report.trace import find_cell, trace
from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints, read_footprints
from results.tables.load import load_records
from results.tables.paper import read_values
from results.tables.writers import FORMATS
from tests.helpers.run_records import SHA, make_record
from tests.reliability.mutations import TEXTS, Odd, canary, hostile_file
from tools.reproduce.state import Place, look
from tools.setup.machine import ROOT
from transfer.data.annotations import read_annotations
from transfer.data.cityscapes import _is_up_to_date, read_instances
from transfer.data.dataset_check import check_coco
from transfer.data.image_sizes import check_sizes
from transfer.data.splits import check_split, verify_split, write_split
from transfer.stored_detector import stored_config

Read = Callable[[Path], object]
ENCODER = "shufflenetv2_tiny"
SIDE = 24  # of a picture
MANY = 10**7  # pixels of a mask that is decoded


@dataclass(frozen=True)
class Target:
    """A reader: what writes its valid files and says how to read, which are spoilt, and how."""

    write: Callable[[Path], Read]
    spoilt: tuple[str, ...]  # names of files
    odd: Odd
    reads_folder: bool  # whether `read` and errors are about the folder

    def open(self, folder: Path) -> tuple[Callable[[Random], Path], Read]:
        """In an empty folder: what writes a hostile input there, and what reads it."""
        read = self.write(folder)
        valid = {path: path.read_bytes() for path in map(folder.joinpath, self.spoilt)}

        def spoil(random: Random) -> Path:
            for path, content in valid.items():
                path.write_bytes(content)
            spoilt = random.choice(list(valid))
            content = hostile_file(random, spoilt.suffix, valid[spoilt], self.odd)
            spoilt.write_bytes(content)
            return folder if self.reads_folder else spoilt

        return spoil, read


TARGETS: dict[str, Target] = {}


def target(
    name: str, *spoilt: str, odd: Odd | None = None, folder: bool = False
) -> Callable[[Callable[[Path], Read]], None]:
    """Enter a target."""

    def enter(write: Callable[[Path], Read]) -> None:
        TARGETS[name] = Target(write, spoilt, odd or {}, folder)

    return enter


# ---- pretrain ------------------------------------------------------------------------------------

CONFIG = {"model": {"type": "A", "units": ["a", "b"]}, "epochs": 3, "seed": 0}
PROVENANCE = replace(
    Provenance.from_elsewhere("loco", ENCODER, "drawn", 0), epochs=1, settings={"units": "loco"}
)


@target("backbone file", "backbone.safetensors")
def backbone_file(folder: Path) -> Read:
    encoder = build_encoder(ENCODER)
    write_backbone(encoder, folder / "backbone.safetensors", PROVENANCE)

    def read(path: Path) -> None:
        read_provenance(path)
        found = load_backbone(encoder, path)
        assert Provenance(**asdict(found)) == found
        assert [type(value) for value in found.mean + found.std] == [float] * 6

    return read


@target("pretraining checkpoint", "epoch_1.pth")
def pretraining_checkpoint(folder: Path) -> Read:
    tensors = build_encoder(ENCODER).state_dict()
    state = {f"encoder.{name}": tensor for name, tensor in tensors.items()}
    meta = {"provenance": asdict(PROVENANCE), "config_text": '{"train_cfg": {"max_epochs": 1}}'}
    torch.save({"meta": meta, "state_dict": state}, folder / "epoch_1.pth")

    def read(path: Path) -> None:
        export_checkpoint(path, folder / "out.safetensors")
        load_backbone(build_encoder(ENCODER), folder / "out.safetensors")

    return read


@target("torchvision weights", "weights.pth")
def torchvision_weights(folder: Path) -> Read:
    torch.save(dict(build_encoder(ENCODER).state_dict()), folder / "weights.pth")

    def read(path: Path) -> None:
        with patch.dict(SUPERVISED, {ENCODER: ""}):  # weights of any sha256
            import_torchvision(path, ENCODER, folder / "out.safetensors")
        load_backbone(build_encoder(ENCODER), folder / "out.safetensors")

    return read


POINTERS = ("", "..", "../../etc/passwd", "\0", "x" * 5_000)


@target("resumed checkpoint", "epoch_1.pth", "pointer.txt", odd={0: POINTERS})
def resumed_checkpoint(folder: Path) -> Read:
    meta = {"iter": 5, "world_size": 1, "config_text": json.dumps(CONFIG)}
    torch.save({"meta": meta, "state_dict": {"a": torch.zeros(2)}}, folder / "epoch_1.pth")
    (folder / "pointer.txt").write_text("epoch_1.pth")

    def read(path: Path) -> None:
        (folder / LAST).write_bytes((folder / "pointer.txt").read_bytes())
        checkpoint_to_resume(folder, LAST, json.dumps(CONFIG, sort_keys=True), 1)

    return read


ODD_LINES = ("/dev/zero", "/dev/stdin", "images", "images/loop.jpg", "#", "a" * 5_000)


@target("list of images", "list.txt", odd=dict.fromkeys(range(3), ODD_LINES))
def list_of_images(folder: Path) -> Read:
    lines = ("images/a.jpg", "images/b c.png", "images/d.jpg")
    (folder / "images").mkdir()
    for name in lines:
        (folder / name).write_bytes(b"1")
    (folder / "images/loop.jpg").symlink_to("loop.jpg")
    (folder / "list.txt").write_text("\n".join(lines))

    def read(path: Path) -> None:
        found = ImageList.read(path)
        found.describe().encode(errors="surrogateescape")
        assert all(found.path(index).is_file() for index in range(len(found)))

    return read


@target("pretraining image", "a.jpg", folder=True)
def pretraining_image(folder: Path) -> Read:
    Image.new("RGB", (SIDE, SIDE)).save(folder / "a.jpg")

    def read(path: Path) -> None:
        images = TwoViewImages(str(path), "drawn", {"size": 16}, max_unreadable_share=0)
        views = images[0]["views"]
        assert views.shape == (2, 3, 16, 16) and views.dtype == torch.uint8

    return read


@target("labelled image", "train/a/x.png")
def labelled_image(folder: Path) -> Read:
    (folder / "train/a").mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE)).save(folder / "train/a/x.png")

    def read(path: Path) -> None:
        for augment in (False, True):
            image = LabelledImages(str(folder), "train", 16, 24, augment=augment)[0]["image"]
            assert image.shape == (3, 16, 16) and image.dtype == torch.uint8

    return read


OPTIONS = (
    "epochs=3", "epochs=x", "epocs=3", "seed=[1,2", "seed=(1", "seed=" + "[" * 2_000,
    "model.type=__import__('os').mkdir('CANARY')", "seed=CANARY", "model.unit=1", "model=1",
    "model.type.x=1", "model.units.0=x", "model.units.7=x", "model.units.a=x", "=1", "a", "",
    "model._delete_=True", "_base_=x", "model.=1", ".model=1", "model..type=1", "seed=1e999",
    "seed=" + "9" * 5_000, "seed=nan", "custom_imports.imports=os", "epochs=\ud800", "epochs=\0",
    "seed=exec('1')", "__class__=1", "model.__class__=1", "keys=1", "model.keys=1", "copy.x=1",
    "model.units=[a,b]", "seed=((1,2),[3])", "model={type:B}", "model={'type':'B'}", "seed=,",
)  # fmt: skip


@target("config options", "options.txt", odd={0: OPTIONS, 1: OPTIONS})
def config_options(folder: Path) -> Read:
    text = "".join(f"{key} = {value!r}\n" for key, value in CONFIG.items())
    (folder / "config.py").write_text(text)
    (folder / "options.txt").write_text("epochs=3\nseed=1")

    def read(path: Path) -> None:
        text = path.read_bytes().decode(errors="surrogateescape").replace("CANARY", canary())
        config = str(folder / "config.py")
        parsed = argument_parser("x").parse_args([config, "--cfg-options", *text.split("\n")])
        load_config(parsed, NAMES)

    return read


# ---- results -------------------------------------------------------------------------------------

FREE = ("encoder", "dataset", "protocol", "config", "git_commit", "norm", "precision")  # texts


@target("record", "record.json")
def record(folder: Path) -> Read:
    make_record(settings={"units": "loco", "decoder": {"conv_blocks": 1}}).write(folder)

    def read(path: Path) -> None:
        found = RunRecord.read(path)
        assert RunRecord.read(found.write(path.with_name("again.json"))) == found

    return read


@target("records to tables and report", "1/record.json", "2/record.json", "3/record.json",
        odd=dict.fromkeys(FREE, TEXTS), folder=True)  # fmt: skip
def tables(folder: Path) -> Read:
    make_record().write(folder / "1")
    make_record(kind="pretrain", protocol="pretrain", metrics={"loss_res5": 1.0}).write(
        folder / "2"
    )
    metrics = {"top1_res5": 60.0, "knn_top1_res5": 50.0}
    linear = make_record(kind="linear", dataset="imagenet1k", protocol="linear", metrics=metrics)
    linear.write(folder / "3")
    calls = iter(range(10**9))

    def read(path: Path) -> None:
        records, problems = load_records([path])
        found = all_tables(records)
        for table in found:
            for form in FORMATS.values():
                form(table).encode()
            for cell in table.all_cells():
                json.dumps(trace(cell, records))
        for problem in problems:
            str(problem).encode()
        if next(calls) % 25 == 0:
            render_report(records, problems)[0].encode()
        try:
            find_cell(found, "table2", "loco", "coco ap")
        except ValueError:
            return

    return read


@target("losses.csv", "losses.csv")
def losses(folder: Path) -> Read:
    artifacts = {"losses": "losses.csv"}
    make_record(kind="pretrain", protocol="pretrain", metrics={}, artifacts=artifacts).write(folder)
    rows = [f"{i},1,0.5,{i / 7}\n" for i in range(20)]
    (folder / "losses.csv").write_text("".join(["iteration,epoch,a,b\n", *rows]))
    records, _ = load_records([folder])

    def read(path: Path) -> None:
        frames, problems = load_losses(records)
        assert all((frame["iteration"] >= 0).all() for frame in frames.values())
        assert len(frames) + len(problems) == 1

    return read


@target("picture of a record", "p.png")
def recorded_picture(folder: Path) -> Read:
    make_record(artifacts={"pictures": ["p.png"]}).write(folder)
    Image.new("RGB", (SIDE, SIDE)).save(folder / "p.png")
    records, _ = load_records([folder])

    def read(path: Path) -> None:
        scenes, problems = load_scenes(records)
        assert len(scenes) + len(problems) == 1

    return read


@target("footprint report", "footprint_a.json", "footprints.json")
def footprint(folder: Path) -> Read:
    stages = [{"name": n, "memory_percent": 50.0, "flops_percent": 50.0} for n in ("res2", "res3")]
    method = {"peak_memory_mib": 1.0, "saving_ratio": 1.0, "work_ratio": 1.0, "setting": ""}
    valid = {
        "encoder": "resnet50", "image_size": 224, "batch_size": 64, "world_size": 1,
        "precision": "float32", "flops_g": 4.1, "stages": stages,
        "methods": {"simclr": method, "loco": dict(method)},
    }  # fmt: skip
    (folder / "footprint_a.json").write_text(json.dumps(valid))
    (folder / "footprints.json").write_text(json.dumps({"reports": [valid, valid]}))

    def read(path: Path) -> None:
        read_footprints(path)
        reports, _ = load_footprints([path])
        for table in all_tables(load_records([])[0], reports):
            for form in FORMATS.values():
                form(table).encode()

    return read


@target("features .npz", "loco.npz")
def features(folder: Path) -> Read:
    np.savez(
        folder / "loco.npz", features=np.ones((6, 4), np.float32), labels=np.array([0, 1, 2] * 2),
        class_names=np.array(["a", "b", "c"]), stage="res5", method="loco", encoder="resnet50",
        epochs=1, weights_sha256=SHA,
    )  # fmt: skip

    def read(path: Path) -> None:
        found = read_features(path)
        assert found.features.shape[0] == len(found.classes)

    return read


@target("paper.csv", "paper.csv")
def paper_values(folder: Path) -> Read:
    lines = (ROOT / "results/tables/paper.csv").read_text().splitlines()[:40]
    (folder / "paper.csv").write_text("\n".join(lines))

    def read(path: Path) -> None:
        values = read_values(path)
        assert values["value"].notna().all() and len(values)

    return read


@target("planned run", "a/record.json")
def planned_run(folder: Path) -> Read:
    make_record().write(folder / "a")
    run = Run("a", "transfer", (), "configs/a.py", method="loco", encoder="resnet50")

    def read(path: Path) -> None:
        assert look(run, Place(str(folder), str(folder)))[0] in ("done", "other run", "damaged")

    return read


# ---- transfer ------------------------------------------------------------------------------------


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


NAN, BIG = float("nan"), 10**9
ODD_ANNOTATIONS: dict[str, tuple[Any, ...]] = {
    "counts": (
        [], [-1, 577], [BIG, BIG], [1.5, 2], ["a"], "", "0", "\x7f" * 50, "o" * 16, "\0",
        [2**32, 5], "P" * 1_000, [0] * 50, None, "ÿÿ", [576, 576],
    ),
    "segmentation": (
        [[]], [[1, 2]], [[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[NAN] * 6], [],
        [[], []], [[1e9] * 6], [["a"] * 6], [[0] * 6], {}, "x", [1, 2, 3, 4, 5, 6],
        [[-3, -3, 28, -3, 28, 28]], [[True] * 8], [[1, 1, 5, 1, 5, 5], []],
    ),
    "bbox": (
        [4, 4, 0, 4], [4, 4, -8, 4], [4, NAN, 8, 8], [4, 4, float("inf"), 8], [BIG, 0, 1, 1],
        [4, 4, 8], ["4", 4, 8, 8], [None] * 4, [True] * 4, [1e-9] * 4,
    ),
    "file_name": (
        *TEXTS, "../1.png", "/etc/passwd", "loop.png", "a/../1.png", "./1.png", "pipe",
    ),
}  # fmt: skip


@target("annotation file", "instances.json", odd=ODD_ANNOTATIONS)
def annotations(folder: Path) -> Read:
    images = folder / "images"
    images.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (SIDE, SIDE)).save(images / f"{number}.png")
    (images / "loop.png").symlink_to("loop.png")
    (folder / "1.png").write_bytes(b"outside")
    (folder / "instances.json").write_text(json.dumps(valid_document()))

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

    return read


@target("sizes of listed images", "a.jpg")
def image_sizes(folder: Path) -> Read:
    Image.new("RGB", (SIDE, SIDE)).save(folder / "a.jpg")
    return lambda path: check_sizes(
        path.parent, [{"file_name": path.name, "width": 32, "height": 24}]
    )


@target("split", "all.json", "split.json", "split.ids.json")
def split(folder: Path) -> Read:
    source, out = folder / "all.json", folder / "split.json"
    source.write_text(json.dumps(valid_document()))
    write_split(source, 2, 0, out)

    def read(path: Path) -> None:
        check_split(source, 2, 0, out)
        verify_split(source, 2, 0, out)

    return read


@target("Cityscapes picture", "a_instanceIds.png", "a_leftImg8bit.png")
def cityscapes_picture(folder: Path) -> Read:
    truth, photograph = folder / "a_instanceIds.png", folder / "a_leftImg8bit.png"
    Image.fromarray(np.full((24, 32), 26_001, dtype=np.uint16)).save(truth)
    Image.new("RGB", (32, 24)).save(photograph)

    def read(path: Path) -> None:
        width, height, found = read_instances((truth, photograph))
        assert (width, height) and all(thing["area"] > 0 for thing in found)

    return read


@target("Cityscapes document", "gtFine.json")
def cityscapes_document(folder: Path) -> Read:
    picture = folder / "a.png"
    picture.touch()
    (folder / "gtFine.json").write_text('{"info": {"source": "s"}, "images": []}')
    return lambda path: _is_up_to_date(path, "s", [(picture, picture)])


HARM = ({"type": "os.mkdir", "path": "made"},)  # mmengine would import and call it


@target("stored detector", "epoch_1.pth", odd={"model": HARM})
def stored_detector(folder: Path) -> Read:
    config = {
        "method": "loco",
        "model": {"type": "MaskRCNN", "backbone": {"type": "TransferBackbone", "depth": (1, 2)}},
        "val_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": [{"type": "Resize"}]}},
        "lr": 1e-05,
    }
    meta = {"iter": 1, "world_size": 1, "config_text": json.dumps(config)}
    torch.save({"meta": meta, "state_dict": {}}, folder / "epoch_1.pth")
    return stored_config
