"""What the page on additions shows is added to a copy of the tree, trained and used."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from mmengine.config import Config

from results.record.run_record import RunRecord
from tests.helpers.commands import OPTIONS
from tests.helpers.places import ROOT

PAGE = ROOT / "docs/pages/add.md"
ROOMS = ("pretrain", "results", "configs")  # results/measured is left out

# Trains each config in a process of its own, then asks the copy's own classes.
IN_THE_COPY = """
import json, math, os, runpy, sys
import torch, torchvision
import pretrain.train
from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder
from pretrain.losses import Batch, build_loss

for arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = ["train", *arguments]
        runpy.run_module("pretrain.train", run_name="__main__", alter_sys=True)
        os._exit(0)
    assert not os.waitpid(child, 0)[1], arguments

ours, theirs = build_encoder("resnet18").eval(), torchvision.models.resnet18().eval()
load_backbone(ours, sys.argv[2])
missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
theirs.fc = torch.nn.Identity()
images = torch.randn(2, 3, 64, 64)
torch.testing.assert_close(ours(images)[-1].mean((2, 3)), theirs(images))

# Two points, a right angle apart, each with the other as its other view: 4 of the 6 pairs are 2
# apart, squared, and 2 are the same point.
points = 3 * torch.eye(2)[[0, 1, 1, 0]]
loss = build_loss({"type": "AlignUniform", "weight": 0.5})(points, Batch(points))
assert abs(loss.item() - (2 + 0.5 * math.log((4 * math.exp(-4) + 2) / 6))) < 1e-6
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The rooms that the page adds to, with all of its diffs applied."""
    copy = tmp_path_factory.mktemp("tree")
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, copy / room, ignore=shutil.ignore_patterns("measured", "__pycache__")
        )
    diffs = re.findall(r"```diff\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(diffs) == 4
    for diff in diffs:
        subprocess.run(["git", "apply", "-"], cwd=copy, input=diff, text=True, check=True)
    return copy


@pytest.fixture(scope="module")
def trained(tree, coco):
    """The folder of the runs, one for each config that the page adds to pretraining."""
    small = [*OPTIONS, f"data_root={coco}/train2017"]
    tiny = [*small, "model.encoder=resnet_tiny"]
    runs = {"loco_3_stages_r50": tiny, "loco_align_uniform_r50": tiny, "loco_r18": small}
    arguments = [
        [f"configs/pretrain/{name}.py", "--work-dir", str(tree / name), *more]
        for name, more in runs.items()
    ]
    weights = str(tree / "loco_r18" / "backbone.safetensors")
    told = subprocess.run(
        [sys.executable, "-c", IN_THE_COPY, json.dumps(arguments), weights],
        cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    return tree


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "method", "setting", "encoder", "units"),
    [
        (
            "loco_3_stages_r50",
            "loco_3_stages",
            "",
            "resnet_tiny",
            ("res2+res3+res4", "res3+res4+res5"),
        ),
        (
            "loco_align_uniform_r50",
            "loco",
            "loss=AlignUniform weight=1.0",
            "resnet_tiny",
            ("res2+res3", "res3+res4", "res4+res5"),
        ),
        ("loco_r18", "loco", "", "resnet18", ("res2+res3", "res3+res4", "res4+res5")),
    ],
)
def test_it_trains_and_is_recorded_under_its_name(trained, run, method, setting, encoder, units):
    record = RunRecord.read(trained / run / "record.json")
    assert (record.method, record.encoder, record.setting) == (method, encoder, setting)
    assert record.backbone["provenance"]["method"] == method
    with (trained / run / "losses.csv").open() as file:
        header = next(csv.reader(file))
    assert tuple(header) == ("iteration", "epoch", *units)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [5, 6])
def test_a_dataset_of_ones_own_is_checked_and_named(trained, coco, classes):
    """With the backbone of the new layout."""
    from transfer.train import prepare

    shutil.copytree(coco, trained / "shapes", dirs_exist_ok=True)
    cfg = Config.fromfile(trained / "configs/mask_rcnn_loco_r50_shapes.py")
    backbone_file = trained / "loco_3_stages_r50" / "backbone.safetensors"
    cfg.merge_from_dict({
        "data_root": str(trained / "shapes"), "backbone_file": str(backbone_file),
        "method": "loco_3_stages", "model.backbone.encoder": "resnet_tiny",
    })  # fmt: skip
    cfg.model.roi_head.mask_head.num_classes = classes
    if classes != 5:
        with pytest.raises(ValueError, match="mask_head 6, the dataset 5"):
            prepare(cfg, 1)
    else:
        prepare(cfg, 1)
        assert cfg.dataset.name == "shapes (16+4 images)"
