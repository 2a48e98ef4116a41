"""The places where a kill may fall: what a command is given, what it is, how it goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import torch

from pretrain.backbone_file import Provenance, write_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.refresh import VARIABLE
from pretrain.engine.run_folder import LAST
from pretrain.export import export_checkpoint
from results.plan.demo_tables import DEMO
from results.plan.run import TRAINERS, in_order
from tests.reliability.files import DROPPED, files
from tests.reliability.session import Session, loader_workers, second_process
from tools.measure.tables import made_up, record
from tools.setup.machine import ROOT
from transfer.data.cityscapes import annotation_file
from transfer.data.splits import write_split
from transfer.scenes.datasets import write_cityscapes, write_coco

EVERY_2 = ("default_hooks.checkpoint.interval=2", "default_hooks.checkpoint.by_epoch=False")
EVERY_1 = ("default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=99")
RECORDS, OLDER_RECORDS = 100, 30
TABLE = "table1"  # three pretrainings and three readouts on crops of drawn scenes
DETECTOR = "configs/demo/mask_rcnn_loco.py"
Steps = list[list[str]]  # modules with their arguments


@dataclass(frozen=True)
class Place:
    """One command of the project.

    ``base`` is the folder of the campaign, ``folder`` that of one run in it.
    """

    name: str
    inputs: Callable[[Path], None]  # of base: makes what all runs share
    steps: Callable[[Path, Path], Steps]  # of base, folder
    older: Callable[[Path, Path], None] = lambda base, folder: None  # what lies there before
    needs: Place | None = None  # whose undisturbed run is an input
    environment: Callable[[Path, Path], Mapping[str, str]] = lambda base, folder: {VARIABLE: "0"}
    processes: int = 1
    resumes: bool = False  # a training: goes on with --resume, and SIGTERM makes it save and end 75
    starts: bool = False  # whether signals fall before its first write
    loses: str = ""  # a file that a user deletes before it goes on
    part: Callable[[Session], list[int]] | None = None  # the processes one of which is hit instead
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL, signal.SIGTERM)

    def undisturbed(self, base: Path) -> Path:
        """The folder of the run that nobody disturbs; places of one command share it."""
        return base / f"{self.steps.__name__}_{self.processes}" / "undisturbed"


# ---- trainings -----------------------------------------------------------------------------------


def scenes(base: Path) -> None:
    """Drawn scenes in COCO's format, twelve for training."""
    write_coco(base / "coco", train=12, val=2, size=(64, 64), seed=0)


def pretrain(base: Path, folder: Path) -> Steps:
    """Three epochs of three iterations, saved every two."""
    options = (f"data_root={base}/coco/train2017", "epochs=3", "warmup_epochs=1",
               "global_batch_size=4", "custom_hooks.0.interval=1", *EVERY_2)  # fmt: skip
    return [["pretrain.train", "configs/demo/pretrain_loco.py", "--work-dir", str(folder),
             "--cfg-options", *options]]  # fmt: skip


def shortly(base: Path, folder: Path) -> Mapping[str, str]:
    """A process that hangs is noticed after eight seconds."""
    return {VARIABLE: "0", "COLLECTIVE_TIMEOUT": "8"}


PARTS = (signal.SIGKILL, signal.SIGSTOP)
PRETRAINING = Place("pretraining", scenes, pretrain, resumes=True)
MISSING_POINTER = replace(PRETRAINING, name="a missing pointer", loses=LAST)
START_UP = replace(PRETRAINING, name="start-up", processes=2, starts=True)
A_PROCESS = replace(
    START_UP, name="a process that never comes", part=second_process, environment=shortly,
    signals=PARTS,
)  # fmt: skip
A_WORKER = replace(
    PRETRAINING, name="a loader worker", part=loader_workers, environment=shortly, signals=PARTS
)


def backbone(base: Path) -> None:
    """The drawn scenes, and a backbone file of random weights that says it is LoCo's."""
    scenes(base)
    path = base / "backbone.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        provenance = Provenance.from_elsewhere("loco", "resnet_tiny", dataset="scenes", seed=0)
        write_backbone(build_encoder("resnet_tiny"), path, replace(provenance, epochs=1))


def detector_inputs(base: Path) -> tuple[str, str]:
    """The options that training and evaluation share."""
    return f"data_root={base}/coco", f"backbone_file={base}/backbone.safetensors"


def train_detector(base: Path, folder: Path) -> Steps:
    """Eight epochs of three iterations, saved every two, validated at the end."""
    options = (*detector_inputs(base), "max_epochs=8", "train_cfg.val_interval=8",
               "global_batch_size=4", "param_scheduler.0.end=4", *EVERY_2)  # fmt: skip
    return [["transfer.train", DETECTOR, "--work-dir", str(folder), "--cfg-options", *options]]


TRANSFER = Place("transfer", backbone, train_detector, resumes=True)


# ---- what updates files --------------------------------------------------------------------------


def finished_detector(base: Path, folder: Path) -> None:
    """The folder of a finished training, whose record the evaluation updates."""
    run = TRANSFER.undisturbed(base)
    last = Path((run / LAST).read_text()).name
    for path in files(run):
        if path.name == last or not DROPPED.fullmatch(path.name):
            copy = folder / path.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def evaluate(base: Path, folder: Path) -> Steps:
    """Of the last checkpoint."""
    last = Path((folder / LAST).read_text()).name
    options = ("--record", "--cfg-options", *detector_inputs(base))
    where = (str(folder / last), "--work-dir", f"{folder}/evaluation")
    return [["transfer.evaluate", DETECTOR, *where, *options]]


def street_scenes(base: Path) -> None:
    """Drawn scenes in both formats."""
    scenes(base)
    write_cityscapes(base / "cityscapes", train=40, val=20, size=(128, 64), seed=0)


def older_annotations(base: Path, folder: Path) -> None:
    """A root of links to Cityscapes, with annotations that are out of date; another split."""
    root = folder / "cityscapes"
    root.mkdir(parents=True)
    for name in ("gtFine", "leftImg8bit"):
        (root / name).symlink_to(base / "cityscapes" / name)
    for split in ("train", "val"):
        path = annotation_file(root, split)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"info": {"source": "older"}, "images": []}))
    annotations = base / "coco/annotations/instances_train2017.json"
    write_split(annotations, 4, 1, folder / "split.json")


def prepare(base: Path, folder: Path) -> Steps:
    """Cityscapes converted, then a split drawn, as a script does."""
    return [
        ["transfer.prepare", "cityscapes", "--data-root", f"{folder}/cityscapes",
         "--workers", "2"],
        ["transfer.splits", f"{base}/coco/annotations/instances_train2017.json",
         "--size", "4", "--seed", "0", "--out", f"{folder}/split.json"],
    ]  # fmt: skip


def older_export(base: Path, folder: Path) -> None:
    """The backbone of an earlier checkpoint under the same name."""
    run = PRETRAINING.undisturbed(base)
    export_checkpoint(run / "iter_2.pth", folder / "backbone.safetensors")


def export(base: Path, folder: Path) -> Steps:
    """Of the last checkpoint."""
    checkpoint = PRETRAINING.undisturbed(base) / "iter_9.pth"
    out = f"{folder}/backbone.safetensors"
    return [["pretrain.export", "checkpoint", str(checkpoint), "--out", out]]


def records(base: Path) -> None:
    """Run records, and the tables of the first of them."""
    for number, one in enumerate(islice(made_up(), RECORDS)):
        kind = "first" if number < OLDER_RECORDS else "others"
        one.write(base / "records" / kind / f"run{number}")
    if not (base / "older_tables/report.html").exists():
        words = ["-m", "results", f"{base}/records/first", "--out", f"{base}/older_tables"]
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def older_tables(base: Path, folder: Path) -> None:
    """The tables before the other runs had finished."""
    shutil.copytree(base / "older_tables", folder, dirs_exist_ok=True)


def write_tables(base: Path, folder: Path) -> Steps:
    """Of all records."""
    return [["results", f"{base}/records", "--out", str(folder)]]


# ---- reproduce -----------------------------------------------------------------------------------

STAND_IN = """#!/usr/bin/env bash
exec {python} {root}/tests/helpers/stand_in_trainer.py "$STAND_IN_FOLDER" 0.3 "$@"
"""


def planned(base: Path) -> None:
    """The drawn scenes, the records that a stand-in for the trainers leaves, and the stand-in."""
    scenes(base)
    for run in in_order(DEMO[TABLE]):
        if run.kind in TRAINERS:
            row = SimpleNamespace(
                method=run.method, encoder=run.encoder, pretrain_epochs=run.epochs, setting=""
            )
            made = record(run.kind, row, "scenes_shapes", "demo", None, 0)
            replace(made, config=run.config).write(base / f"templates/{run.name}.json")
    stand_in = base / "stand_in.sh"
    stand_in.write_text(STAND_IN.format(python=sys.executable, root=ROOT))
    stand_in.chmod(0o755)


def scenes_as_data(base: Path, folder: Path) -> None:
    """The first need of the plan, done; and what the stand-in looks for."""
    (folder / "data").mkdir(parents=True)
    (folder / "data/coco").symlink_to(base / "coco")
    (folder / "templates").symlink_to(base / "templates")


def stand_in(base: Path, folder: Path) -> Mapping[str, str]:
    """The stand-in instead of Python for the trainers."""
    return {"PYTHON": f"{base}/stand_in.sh", "STAND_IN_FOLDER": str(folder), VARIABLE: "1"}


def reproduce(base: Path, folder: Path) -> Steps:
    """Whatever is missing of a table."""
    return [["tools.reproduce", TABLE, "--run", "--scale", "demo", "--runs", f"{folder}/runs",
             "--data", f"{folder}/data", "--processes", "1"]]  # fmt: skip


def nothing(base: Path) -> None:
    """Inputs of a place that has another's run."""


PLACES = {
    place.name: place
    for place in (
        PRETRAINING, MISSING_POINTER, START_UP, A_PROCESS, A_WORKER, TRANSFER,
        Place("evaluation", nothing, evaluate, finished_detector, needs=TRANSFER),
        Place("preparation", street_scenes, prepare, older_annotations),
        Place("export", nothing, export, older_export, needs=PRETRAINING),
        Place("tables", records, write_tables, older_tables),
        Place("reproduce", planned, reproduce, scenes_as_data, environment=stand_in),
    )
}  # fmt: skip
