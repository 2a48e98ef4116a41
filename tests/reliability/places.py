"""The places where a kill may fall: what each is given, what a user types, how it goes on."""

from __future__ import annotations

import json
import shlex
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

from pretrain.encoders import build_encoder
from pretrain.engine.refresh import VARIABLE
from pretrain.engine.resume import LAST
from pretrain.export import Provenance, export_checkpoint, write_backbone
from results.plan.demo import DEMO
from results.plan.planned_run import TRAINERS, in_order
from tests.reliability.files import DROPPED, files
from tests.reliability.session import Session, loader_workers, second_process
from tools.measure.tables import made_up, record
from tools.setup.machine import ROOT
from transfer.data.cityscapes import annotation_file
from transfer.data.splits import write_split
from transfer.scenes.datasets import write_cityscapes, write_coco

SIZE = (64, 64)
EVERY_2 = ("default_hooks.checkpoint.interval=2", "default_hooks.checkpoint.by_epoch=False")
EVERY_1 = ("default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=99")
RECORDS, OLDER_RECORDS = 100, 30
TABLE = "table1"  # three pretrainings and three readouts on crops of drawn scenes
TRAINER_SECONDS = 0.3


@dataclass(frozen=True)
class Place:
    """One command of the project.

    ``base`` is the folder of the campaign, ``folder`` that of one run in it.
    """

    name: str
    inputs: Callable[[Path], None]  # of base: makes what all runs share
    command: Callable[[Path, Path, bool], list[str]]  # of base, folder, whether it goes on
    older: Callable[[Path, Path], None] | None = None  # of base, folder: what lies there before
    spoil: Callable[[Path], None] = lambda folder: None  # before it goes on: what a user loses
    environment: Callable[[Path, Path], Mapping[str, str]] = lambda base, folder: {}
    faults: Callable[[Path], list[str]] = lambda folder: []  # more that may be wrong in a folder
    needs: tuple[Place, ...] = ()  # whose undisturbed run is an input
    undisturbed: tuple[str, ...] = ()  # more arguments: write and keep every checkpoint
    saves: bool = False  # whether SIGTERM makes it save and say TRY_AGAIN
    starts: bool = False  # whether signals fall before its first write
    part: Callable[[Session], list[int]] | None = None  # the processes one of which is hit instead
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL, signal.SIGTERM)


def undisturbed_folder(place: Place, base: Path) -> Path:
    """Where the run lies that nobody disturbed."""
    return base / place.name / "undisturbed"


# ---- pretraining ---------------------------------------------------------------------------------


def scenes(base: Path) -> None:
    """Drawn scenes in COCO's format, twelve for training."""
    write_coco(base / "coco", train=12, val=2, size=SIZE, seed=0)


def pretrain(base: Path, folder: Path, again: bool) -> list[str]:
    """Three epochs of three iterations, saved every two."""
    options = [
        f"data_root={base}/coco/train2017", "epochs=3", "warmup_epochs=1", "global_batch_size=4",
        "custom_hooks.0.interval=1", *EVERY_2,
    ]  # fmt: skip
    return trainer("tools/pretrain.sh", "configs/demo/pretrain_loco.py", folder, again, options)


def trainer(script: str, config: str, folder: Path, again: bool, options: list[str]) -> list[str]:
    """The command line of a training in one process."""
    resume = ["--resume"] if again else []
    return ["bash", script, config, "1", "--work-dir", str(folder), *resume, "--cfg-options",
            *options]  # fmt: skip


PRETRAINING = Place(
    "pretraining", scenes, pretrain, undisturbed=EVERY_1, saves=True,
    environment=lambda base, folder: {VARIABLE: "0"},
)  # fmt: skip


def in_two(base: Path, folder: Path, again: bool) -> list[str]:
    """The same in two processes."""
    script, config, _, *rest = pretrain(base, folder, again)[1:]
    return ["bash", script, config, "2", *rest]


SHORT = {VARIABLE: "0", "COLLECTIVE_TIMEOUT": "8"}
START_UP = replace(PRETRAINING, name="start-up", command=in_two, starts=True)
A_PROCESS = replace(
    START_UP, name="a process that never comes", part=second_process, saves=False,
    environment=lambda base, folder: SHORT, signals=(signal.SIGKILL, signal.SIGSTOP),
)  # fmt: skip
A_WORKER = replace(
    PRETRAINING, name="a loader worker", part=loader_workers, saves=False,
    environment=lambda base, folder: SHORT, signals=(signal.SIGKILL, signal.SIGSTOP),
)  # fmt: skip
MISSING_POINTER = replace(
    PRETRAINING, name="a missing pointer",
    spoil=lambda folder: (folder / LAST).unlink(missing_ok=True),
)  # fmt: skip


# ---- transfer ------------------------------------------------------------------------------------

DETECTOR = "configs/demo/mask_rcnn_loco.py"


def backbone(base: Path) -> None:
    """The drawn scenes, and a backbone file of random weights that says it is LoCo's."""
    scenes(base)
    path = base / "backbone.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        provenance = Provenance.from_elsewhere("loco", "resnet_tiny", dataset="scenes", seed=0)
        write_backbone(build_encoder("resnet_tiny"), path, replace(provenance, epochs=1))


def detector_inputs(base: Path) -> list[str]:
    """What training and evaluation are given alike."""
    return [f"data_root={base}/coco", f"backbone_file={base}/backbone.safetensors"]


def train_detector(base: Path, folder: Path, again: bool) -> list[str]:
    """Eight epochs of three iterations, saved every two, validated at the end."""
    options = [
        *detector_inputs(base), "max_epochs=8", "train_cfg.val_interval=8", "global_batch_size=4",
        "param_scheduler.0.end=4", *EVERY_2,
    ]  # fmt: skip
    return trainer("tools/dist_train.sh", DETECTOR, folder, again, options)


TRANSFER = Place(
    "transfer", backbone, train_detector, undisturbed=EVERY_1, saves=True,
    environment=lambda base, folder: {VARIABLE: "0"},
)  # fmt: skip


# ---- evaluation ----------------------------------------------------------------------------------


def finished_detector(base: Path, folder: Path) -> None:
    """The folder of a finished training, whose record the evaluation updates."""
    run = undisturbed_folder(TRANSFER, base)
    last = Path((run / LAST).read_text()).name
    for path in files(run):
        if path.name == last or not DROPPED.fullmatch(path.name):
            copy = folder / path.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def evaluate(base: Path, folder: Path, again: bool) -> list[str]:
    """Of the last checkpoint; started again as it was."""
    last = Path((folder / LAST).read_text()).name
    arguments = ["1", "--work-dir", f"{folder}/evaluation", "--record", "--cfg-options"]
    command = ["bash", "tools/dist_test.sh", DETECTOR, str(folder / last)]
    return [*command, *arguments, *detector_inputs(base)]


EVALUATION = Place(
    "evaluation", lambda base: None, evaluate, older=finished_detector, needs=(TRANSFER,)
)


# ---- data preparation ----------------------------------------------------------------------------


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


def prepare(base: Path, folder: Path, again: bool) -> list[str]:
    """Cityscapes converted, then a split drawn, as a script does."""
    python, annotations = sys.executable, base / "coco/annotations/instances_train2017.json"
    convert = [python, "-m", "transfer.data.prepare", "cityscapes", "--data-root",
               f"{folder}/cityscapes", "--workers", "2"]  # fmt: skip
    draw = [python, "-m", "transfer.data.splits", str(annotations), "--size", "4", "--seed", "0",
            "--out", f"{folder}/split.json"]  # fmt: skip
    return ["bash", "-c", f"{shlex.join(convert)} && {shlex.join(draw)}"]


PREPARATION = Place("preparation", street_scenes, prepare, older=older_annotations)


# ---- export --------------------------------------------------------------------------------------


def older_export(base: Path, folder: Path) -> None:
    """The backbone of an earlier checkpoint under the same name."""
    run = undisturbed_folder(PRETRAINING, base)
    export_checkpoint(run / "iter_2.pth", folder / "backbone.safetensors")


def export(base: Path, folder: Path, again: bool) -> list[str]:
    """Of the last checkpoint."""
    run = undisturbed_folder(PRETRAINING, base)
    return [sys.executable, "-m", "pretrain.export", "checkpoint", str(run / "iter_9.pth"),
            "--out", f"{folder}/backbone.safetensors"]  # fmt: skip


EXPORT = Place("export", lambda base: None, export, older=older_export, needs=(PRETRAINING,))


# ---- tables --------------------------------------------------------------------------------------


def records(base: Path) -> None:
    """Run records, and the tables of the first of them."""
    for number, one in enumerate(islice(made_up(), RECORDS)):
        kind = "first" if number < OLDER_RECORDS else "others"
        one.write(base / "records" / kind / f"run{number}")
    if not (base / "older_tables/report.html").exists():
        command = [sys.executable, "-m", "results", f"{base}/records/first", "--out"]
        subprocess.run(
            [*command, f"{base}/older_tables"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )


def older_tables(base: Path, folder: Path) -> None:
    """The tables before the other runs had finished."""
    shutil.copytree(base / "older_tables", folder, dirs_exist_ok=True)


def write_tables(base: Path, folder: Path, again: bool) -> list[str]:
    """Of all records."""
    return [sys.executable, "-m", "results", f"{base}/records", "--out", str(folder)]


TABLES = Place("tables", records, write_tables, older=older_tables)


# ---- reproduce -----------------------------------------------------------------------------------

STAND_IN = """#!/usr/bin/env bash
exec {python} {root}/tests/helpers/stand_in_trainer.py "$STAND_IN_FOLDER" {seconds} "$@"
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
    stand_in.write_text(STAND_IN.format(python=sys.executable, root=ROOT, seconds=TRAINER_SECONDS))
    stand_in.chmod(0o755)


def scenes_as_data(base: Path, folder: Path) -> None:
    """The first need of the plan, done; and what the stand-in looks for."""
    (folder / "data").mkdir(parents=True)
    (folder / "data/coco").symlink_to(base / "coco")
    (folder / "templates").symlink_to(base / "templates")


def run_in_vain(folder: Path) -> list[str]:
    """What the stand-in noted of a run that was begun while another did it, or again."""
    journal = folder / "journal"
    lines = journal.read_text().splitlines() if journal.is_file() else []
    return [line for line in lines if line.startswith(("twice at once", "again"))]


def reproduce(base: Path, folder: Path, again: bool) -> list[str]:
    """Whatever is missing of a table."""
    return [sys.executable, "tools/reproduce.py", TABLE, "--run", "--scale", "demo", "--runs",
            f"{folder}/runs", "--data", f"{folder}/data", "--processes", "1"]  # fmt: skip


REPRODUCE = Place(
    "reproduce", planned, reproduce, older=scenes_as_data, faults=run_in_vain,
    environment=lambda base, folder: {
        "PYTHON": f"{base}/stand_in.sh", "STAND_IN_FOLDER": str(folder), VARIABLE: "1",
    },
)  # fmt: skip

PLACES = {
    place.name: place
    for place in (
        PRETRAINING, MISSING_POINTER, START_UP, A_PROCESS, A_WORKER, TRANSFER, EVALUATION,
        PREPARATION, EXPORT, TABLES, REPRODUCE,
    )
}  # fmt: skip
