"""Pretraining as a user starts it: files it leaves, resuming, and what it says to bad input."""

import csv
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.launch import argument_parser, main
from pretrain.export import export_checkpoint
from pretrain.hooks import LossCurves, stated_values
from pretrain.methods import METHODS, setting_of, settings_of
from pretrain.train import NAMES, prepare, prepare_method
from results.record.protocol import deviations
from results.record.run_record import RunRecord
from tests.helpers.forbidden import forbid

pytestmark = pytest.mark.slow

ARGUMENTS = ["configs/demo/pretrain_loco.py", "--cfg-options", "epochs=3", "warmup_epochs=1",
             "global_batch_size=8"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(coco, run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("pretrain")
    done = run(
        "tools/pretrain.sh", *ARGUMENTS, f"data_root={coco}/train2017", "--work-dir", work_dir
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return work_dir, done.stdout


def test_it_leaves_a_record_a_curve_and_a_backbone(finished):
    work_dir, log = finished
    record = RunRecord.read(work_dir / "record.json")
    assert (record.method, record.encoder, record.pretrain_epochs) == ("loco", "resnet_tiny", 3)
    assert "images: 16 instead of 400" in record.deviations
    assert record.dataset == "train2017 (16 images)"
    assert record.learning_rate == pytest.approx(4.0 * 8 / 256)
    assert "learning rate 4.0 x 8 / 256 = 0.125" in log and "eta:" in log
    with (work_dir / "losses.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["iteration", "epoch", "res2+res3", "res3+res4", "res4+res5"]
    assert [int(row[0]) for row in rows] == [2, 4, 6]
    assert float(rows[-1][2]) == pytest.approx(record.metrics["loss_res2+res3"], abs=1e-5)
    found = load_backbone(build_encoder("resnet_tiny"), work_dir / "backbone.safetensors")
    assert found.weights_sha256 == record.backbone["sha256"]
    assert found.settings == record.settings == record.backbone["provenance"]["settings"]
    assert record.settings["units"] == "loco" and record.setting == ""


def test_a_checkpoint_exports_to_the_same_weights(finished, tmp_path):
    work_dir, _ = finished
    found = export_checkpoint(work_dir / "epoch_3.pth", tmp_path / "b.safetensors")
    record = RunRecord.read(work_dir / "record.json")
    assert (found.weights_sha256, found.deviations) == (
        record.backbone["sha256"],
        record.deviations,
    )


def start(*arguments) -> None:
    main("", prepare, NAMES, argument_parser("").parse_args(list(map(str, arguments))))


def test_started_again_it_finds_itself_finished(finished, coco, capsys):
    work_dir, _ = finished
    again = [*ARGUMENTS, f"data_root={coco}/train2017", "--work-dir", work_dir]
    before = (work_dir / "record.json").read_bytes()
    start(*again)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="finished run of another config") as other:
        start(*again, "--cfg-options", "seed=1")
    assert "seed: 0 in the checkpoint, 1 now" in str(other.value)
    assert "not made longer" not in str(other.value)
    anew = r"start anew in another --work-dir \(a run is not made longer or shorter"
    with pytest.raises(SystemExit, match=anew) as longer:
        start(*again, "--cfg-options", "epochs=4")
    assert "  epochs: 3 in the checkpoint, 4 now" in str(longer.value)
    assert (work_dir / "record.json").read_bytes() == before


def test_where_images_lie_is_no_part_of_a_run_but_what_they_are(finished, coco, tmp_path, capsys):
    work_dir, _ = finished
    moved = shutil.copytree(coco / "train2017", tmp_path / "elsewhere")
    again = [
        *ARGUMENTS,
        f"data_root={moved}",
        "--work-dir",
        shutil.copytree(work_dir, tmp_path / "w"),
    ]
    start(*again)
    assert "nothing to do" in capsys.readouterr().out
    (again[-1] / "record.json").unlink()
    start(*again, "--resume")
    first, last = (RunRecord.read(folder / "record.json") for folder in (work_dir, again[-1]))
    assert (first.config_hash, first.metrics) == (last.config_hash, last.metrics)
    shutil.copy(sorted(moved.iterdir())[0], moved / "one_more.png")
    with pytest.raises(SystemExit, match="another config") as other:
        start(*again)
    assert "dataset.fingerprint: " in str(other.value)


@pytest.mark.parametrize(
    "damage", [b"4,2,x,1.0,2.0\n", b"9" * 30 + b",1,1.0,1.0,1.0\n", b"4,2,1.0\0,1.0,1.0\n",
               b"4,2,1.0,\xff,1.0\n", b"\n", b"4,2,1.0,1.0"],
)  # fmt: skip
def test_a_damaged_line_of_losses_is_left_out(tmp_path, damage):
    units = [SimpleNamespace(name=name) for name in "abc"]
    told = []
    runner = SimpleNamespace(
        work_dir=str(tmp_path), iter=6, model=SimpleNamespace(units=units),
        logger=SimpleNamespace(warning=told.append),
    )  # fmt: skip
    header, rows = b"iteration,epoch,a,b,c\n", [b"2,1,1.5,2.5,3.5\n", b"6,2,1.0,-2.0,3.0\n"]
    later = b"8,3,1.0,1.0,1.0\n"  # beyond what is continued
    (tmp_path / "losses.csv").write_bytes(header + rows[0] + damage + rows[1] + later)
    hook = LossCurves()
    hook.before_train(runner)
    hook.after_train(runner)
    kept = rows if damage.endswith(b"\n") else rows[:1]  # the cut line has run into the next one
    assert (tmp_path / "losses.csv").read_bytes() == header + b"".join(kept)
    assert told == [f"{tmp_path / 'losses.csv'}: left out 1 damaged lines"]


def a_checkpoint(path):
    meta = {"iter": 6, "world_size": 1, "config_text": "{}"}
    torch.save({"meta": meta, "state_dict": {}}, path)


def written(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("last_checkpoint", written("epoch_1.pth"), r"unfinished run\. no checkpoint at .*epoch_1"),
        (
            "epoch_3.pth",
            a_checkpoint,
            r"unfinished run\. The last good checkpoint is .*epoch_3\.pth",
        ),
        ("iter_6.pth", a_checkpoint, r"unfinished run\. The last good checkpoint is .*iter_6\.pth"),
        ("epoch_3.pth", written("half"), r"unfinished run\. no checkpoint in .* is whole; start"),
        ("best_a.pth", written(""), r"holds best_a\.pth and no checkpoint to continue from"),
        ("backbone.safetensors", written(""), r"holds backbone\.safetensors and no checkpoint"),
        ("losses.csv", written("iteration,a\n10,2.5\n"), r"holds losses\.csv and no checkpoint"),
    ],
)
def test_what_a_run_has_left_is_not_written_over(name, make, words, coco, tmp_path, monkeypatch):
    make(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    options = [f"data_root={coco}/train2017", "--work-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train", *ARGUMENTS, *options])
    with pytest.raises(SystemExit, match=words):
        main("", prepare, NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {name, ".lock"}
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("last_checkpoint", Path.mkdir),
        ("last_checkpoint", os.mkfifo),
        ("record.json", Path.mkdir),
        ("losses.csv", os.mkfifo),
        ("epoch_3.pth", Path.mkdir),
        ("backbone.safetensors", Path.mkdir),
        ("pretrain_loco.py", Path.mkdir),
        ("bad_batch.json", Path.mkdir),
        (".lock", os.mkfifo),
        ("pictures", Path.touch),
    ],
)
def test_no_file_where_the_run_needs_one(name, make, resume, coco, tmp_path, monkeypatch):
    """Said before the first iteration, not when the first checkpoint is due."""
    make(tmp_path / name)
    options = [f"data_root={coco}/train2017", "--work-dir", str(tmp_path), *resume]
    monkeypatch.setattr(sys, "argv", ["train", *ARGUMENTS, *options])
    with pytest.raises(SystemExit, match=rf"{tmp_path / name} is .*; move it away, or choose"):
        main("", prepare, NAMES)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["record.json", "last_checkpoint", "losses.csv", "config"])
def test_a_file_that_may_not_be_read_is_named(name, coco, tmp_path, monkeypatch):
    path = Path(ARGUMENTS[0]) if name == "config" else tmp_path / name
    if name != "config":
        path.write_text("epoch_1.pth")
    forbid(monkeypatch, path)
    options = [f"data_root={coco}/train2017", "--work-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train", *ARGUMENTS, *options])
    with pytest.raises(SystemExit, match=rf"^error: {path} may not be read .* chmod u\+r {path}"):
        main("", prepare, NAMES)


def config(**values):
    cfg = Config.fromfile("configs/pretrain/loco_r50.py")
    cfg.merge_from_dict(values)
    return cfg


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (
            {"data_root": "none"},
            FileNotFoundError,
            "no folder of training images at none.*data_root=",
        ),
        ({"data_root": "{tmp}"}, FileNotFoundError, "holds no image"),
        (
            {"method": "byol"},
            ValueError,
            "unknown method 'byol'; the methods are: simclr, gim, loco, ",
        ),
        ({"model.encoder": "vgg"}, ValueError, "unknown encoder 'vgg'"),
        ({}, ValueError, "batch of 4096 from 16 images"),
        ({"global_batch_size": 1}, ValueError, "at least 2"),
        ({"global_batch_size": 15}, ValueError, "2 processes cannot share .* 15 images"),
        (
            {"global_batch_size": 16, "optim_wrapper.type": "AmpOptimWrapper"},
            ValueError,
            "set --cfg-options precision=bfloat16",
        ),
        (
            {"global_batch_size": 16, "precision": "fp16"},
            ValueError,
            "precision is 'fp16'; it can be: float32, bfloat16, float16",
        ),
        (
            {"global_batch_size": 16, "optim_wrapper.accumulative_counts": 4},
            ValueError,
            "those of one large batch",
        ),
        ({"global_batch_size": 16, "epochs": 5}, ValueError, "warm-up of 10 epochs does not fit"),
    ],
)
def test_bad_input_is_named(values, error, words, coco, tmp_path):
    values = {"data_root": str(coco / "train2017"), **values}
    values["data_root"] = values["data_root"].format(tmp=tmp_path)
    with pytest.raises(error, match=words):
        prepare(config(**values), world_size=2)


def test_an_unknown_option_is_refused(run):
    done = run("-m", "pretrain.train", *ARGUMENTS[:1], "--cfg-options", "epoch=3")
    assert done.returncode == 1 and "has no 'epoch'" in done.stderr and "epochs" in done.stderr


@pytest.mark.parametrize("method", METHODS)
def test_what_the_papers_protocol_states(method):
    cfg = Config.fromfile(f"configs/pretrain/{method}_r50.py")
    cfg.merge_from_dict({"epochs": 5, "base_lr": 1.0, "model.loss.temperature": 0.2})  # none of it
    prepare_method(cfg)
    decoder = {"conv_blocks": 0 if method == "simclr" else 1, "mlp_layers": 2, "out_dim": 128}
    assert cfg.warmup_epochs == 10
    assert cfg.protocol.states == {
        "dataset": "imagenet1k", "images": 1281167, "epochs": (100, 800), "units": method,
        "global_batch_size": 4096, "lr": 4.8,  # section 5.1
        "decoder": decoder, "loss": "InfoNCE", "temperature": 0.1,  # section 5.4, SimCLR
        "sharing": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "stated"),
    [
        (
            "configs/demo/pretrain_loco.py",
            {"dataset": "scenes_coco", "images": 400, "epochs": 25, "global_batch_size": 32},
        ),
        (
            "configs/pretrain/loco_cifar10.py",
            {"dataset": "cifar10", "images": 50000, "global_batch_size": 512, "loss": "InfoNCE",
             "temperature": 0.5},
        ),
    ],
)  # fmt: skip
def test_what_other_protocols_leave_open(path, stated):
    cfg = Config.fromfile(path)
    prepare_method(cfg)
    assert cfg.protocol.states == {**stated, "units": "loco"}


CONFIGS = sorted(str(p) for f in ("pretrain", "ablations") for p in Path("configs", f).glob("*.py"))
# Rows of the ablations that are a method's own recipe; every other one is a variant of it.
OWN_RECIPE = {
    "table4_simclr",
    "table4_gim_1_conv_block",
    "table4_loco",
    "table5_no_sharing",
    "table5_1_stage",
    "table7_simclr_pr50",
    "table7_gim_pr50",
    "table7_loco_pr50",
}


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_builds_and_a_variant_never_passes_for_the_method(path):
    cfg = Config.fromfile(path)
    assert f"bash tools/pretrain.sh {path}" in cfg.text and "Cost: " in cfg.text
    prepare_method(cfg)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.encoder.name == cfg.model.encoder and len(model.decoders) == len(model.units)
    images = ("cifar10", 50000) if "cifar10" in path else ("imagenet1k", 1281167)
    did = {**stated_values(cfg), "dataset": images[0], "images": images[1]}
    differing = deviations(cfg.protocol.states, did)
    own = "ablations" not in path or Path(path).stem in OWN_RECIPE
    assert (differing == ()) == own, differing
    assert (setting_of(cfg.method, settings_of(cfg.model)) == "") == (own and "cifar10" not in path)
