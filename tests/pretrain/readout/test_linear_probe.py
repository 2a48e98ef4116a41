"""The linear readout: a run from start to end, killed, resumed; arithmetic, recipes, bad input."""

import copy
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from PIL import Image

from pretrain.backbone_file import weights_sha256
from pretrain.engine.checkpoint import AtomicCheckpoint
from pretrain.engine.stated_protocol import state
from pretrain.images.decode import UnreadableImage
from pretrain.images.labelled_images import read_splits
from pretrain.readout import stage_features
from pretrain.readout.frozen_encoder import FrozenEncoder
from pretrain.readout.linear_model import LinearClassifiers, StageAccuracy
from pretrain.readout.linear_probe import PRESETS, dataset, main, parse_args, prepare, schedule
from pretrain.readout.linear_record import LinearRecord, found, stated_values
from results.record.protocol import deviations
from results.record.run_record import RunRecord
from results.tables.paper import TABLE1
from tests.helpers.labelled import SIDE, write_colours
from tests.helpers.two_processes import in_two_processes

SMALL = [f"image_size={SIDE}", f"resize={SIDE}", "global_batch_size=12", "base_lr=10.0",
         "train_dataloader.num_workers=0", "val_dataloader.num_workers=0"]  # fmt: skip
SHORT = ["epochs=12", "milestones=[6,9]", "default_hooks.checkpoint.interval=6"]


def arguments(colours, backbone, json_file, *more):
    return [str(part) for part in (
        "--backbone", backbone, "--data", colours, "--json", json_file, "--cache-features",
        "--work-dir", json_file.with_suffix(""), "--cfg-options", *SMALL, *SHORT, *more,
    )]  # fmt: skip


@pytest.fixture(scope="module")
def finished(colours, backbone, tmp_path_factory):
    json_file = tmp_path_factory.mktemp("linear") / "random.json"
    before = backbone.read_bytes()
    main(arguments(colours, backbone, json_file))
    assert backbone.read_bytes() == before
    return json_file


def classifiers_of(json_file):
    state = torch.load(json_file.with_suffix("") / "epoch_12.pth", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if name.startswith("classifiers.")}


# ---- a run from start to end


def test_separable_images_are_all_recognised_at_every_stage(finished):
    record = RunRecord.read(finished)
    assert (record.kind, record.method, record.encoder) == ("linear", "random", "resnet_tiny")
    stages = ("_res2", "_res3", "_res4", "_res5", "")
    expected = {f"{kind}top1{s}": 100.0 for kind in ("", "knn_") for s in stages}
    assert record.metrics == expected
    assert record.dataset == "colours (36+12 images, 3 classes)"
    assert record.norm == "frozen BatchNorm" and record.learning_rate == 10.0 * 12 / 256
    assert "epochs: 12 instead of 100" in record.deviations
    assert any("cached instead of random resized crop" in text for text in record.deviations)
    work_dir = finished.with_suffix("")
    assert finished.read_bytes() == (work_dir / "record.json").read_bytes()
    assert "eta: " in next(work_dir.glob("*/*.log")).read_text()


def test_the_encoder_in_the_checkpoint_is_the_backbone_file_s(finished, backbone):
    checkpoint = torch.load(finished.with_suffix("") / "epoch_12.pth", weights_only=True)
    prefix = "data_preprocessor.encoder."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
    assert weights_sha256(weights) == FrozenEncoder(backbone).provenance.weights_sha256


def test_a_finished_run_only_writes_its_record_again(finished, colours, backbone, capsys):
    before = finished.read_bytes()
    finished.unlink()
    main(arguments(colours, backbone, finished))
    told = capsys.readouterr().out
    assert "nothing to do" in told and "top1 100.00 %" in " ".join(told.split())
    assert finished.read_bytes() == before


def test_with_augmentation_it_reads_images_and_recognises_them_too(colours, tmp_path):
    """By the config's own way in; the random weights are written and named."""
    options = ["--cfg-options", *SMALL, *SHORT, f"data_root={colours}", "encoder=resnet_tiny"]
    work_dir = ["--work-dir", tmp_path / "run", "--json", tmp_path / "x.json"]
    main(list(map(str, ["configs/linear/random_r50.py", *work_dir, *options, "stages=last"])))
    record = RunRecord.read(tmp_path / "x.json")
    assert record.metrics == dict.fromkeys(
        ("top1_res5", "top1", "knn_top1_res5", "knn_top1"), 100.0
    )
    assert record.backbone is None and (tmp_path / "run" / "random.safetensors").is_file()
    assert any("random resized crop of 32 and flip" in text for text in record.deviations)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_at_the_same_weights(finished, colours, backbone, tmp_path):
    every = "default_hooks.checkpoint.interval=1"
    command = arguments(colours, backbone, tmp_path / "a.json", every)
    if not (pid := os.fork()):
        save = AtomicCheckpoint._save

        def save_and_die(*arguments):
            save(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        AtomicCheckpoint._save = save_and_die
        try:
            main(command)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(SystemExit, match=r"holds an unfinished run.*--resume"):
        main(command)
    main(["--resume", *command])
    logs = [log.read_text() for log in (tmp_path / "a").glob("*/*.log")]
    assert any("resumed epoch: " in text for text in logs)
    assert weights_sha256(classifiers_of(tmp_path / "a.json")) == weights_sha256(
        classifiers_of(finished)
    )


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(finished, colours, backbone, tmp_path):
    command = arguments(colours, backbone, tmp_path / "two.json")
    in_two_processes(lambda rank: main(["--launcher", "pytorch", *command]), tmp_path, meet=False)
    two, one = RunRecord.read(tmp_path / "two.json"), RunRecord.read(finished)
    assert two.world_size == 2 and two.metrics == one.metrics
    ours = classifiers_of(tmp_path / "two.json")
    for name, tensor in classifiers_of(finished).items():
        assert torch.allclose(ours[name], tensor, atol=1e-4), name


def test_an_encoder_that_moved_stops_the_run(backbone):
    model = SimpleNamespace(data_preprocessor=FrozenEncoder(backbone))
    hook = LinearRecord()
    hook._metrics = {"top1": 1.0}
    next(model.data_preprocessor.encoder.buffers()).add_(1e-6)
    with pytest.raises(RuntimeError, match="encoder's weights changed"):
        hook.after_train(SimpleNamespace(model=model))


# ---- the model


def model_of(backbone, classes=3):
    return LinearClassifiers(classes, {"type": "FrozenEncoder", "backbone_file": str(backbone)})


def test_a_step_is_the_one_worked_out_by_hand(backbone):
    """W - lr * (softmax(Wx + b) - onehot) x^T / N, of each stage alone."""
    model = model_of(backbone)
    torch.manual_seed(0)
    features = {s: torch.randn(4, w) for s, w in model.data_preprocessor.channels.items()}
    label = torch.tensor([0, 2, 1, 2])
    expected = {}
    for stage, x in features.items():
        weight, bias = (p.detach().clone() for p in model.classifiers[stage].parameters())
        scores = (x @ weight.T + bias).exp()
        error = scores / scores.sum(dim=1, keepdim=True)
        for row, true in enumerate(label):
            error[row, true] -= 1
        expected[stage] = (weight - 30 * error.T @ x / 4, bias - 30 * error.mean(dim=0))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=30.0))
    losses = model.train_step({"features": features, "label": label}, wrapper)
    assert set(losses) == {"loss", *(f"loss_{stage}" for stage in features)}
    for stage, (weight, bias) in expected.items():
        assert torch.allclose(model.classifiers[stage].weight, weight, atol=1e-5)
        assert torch.allclose(model.classifiers[stage].bias, bias, atol=1e-5)


def test_the_start_is_mocos(backbone):
    torch.manual_seed(0)
    for classifier in model_of(backbone, classes=1000).classifiers.values():
        assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert classifier.weight.mean().item() == pytest.approx(0, abs=1e-4)
        assert not classifier.bias.any()


def test_training_images_moves_no_bit_of_the_encoder(backbone):
    model = model_of(backbone)
    model.train()
    frozen = model.data_preprocessor
    assert not any(module.training for module in frozen.modules())
    before = weights_sha256(frozen.encoder.state_dict())
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
    starts = {name: p.detach().clone() for name, p in model.classifiers.named_parameters()}
    model.train_step({"image": images, "label": torch.tensor([0, 1, 2, 0])}, wrapper)
    assert weights_sha256(frozen.encoder.state_dict()) == before
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not any(torch.equal(starts[n], p) for n, p in model.classifiers.named_parameters())


def test_accuracy_of_stages_by_hand():
    metric = StageAccuracy(("res2", "res3"), classes=10)
    metric.process(None, torch.tensor([[0, 5], [1, 0]]))
    metric.process(None, torch.tensor([[9, 0], [0, 4]]))
    assert metric.evaluate(size=4) == {
        "top1_res2": 50.0, "top5_res2": 75.0, "top1_res3": 50.0, "top5_res3": 75.0,
        "top1": 50.0, "top5": 75.0,
    }  # fmt: skip


# ---- the recipes


@pytest.mark.parametrize(
    ("preset", "momentum", "rates"),
    [
        ("paper", 0.0, {0: 30, 29: 30, 30: 3, 59: 3, 60: 0.3, 89: 0.3, 90: 0.03, 99: 0.03}),
        ("moco", 0.9, {0: 30, 59: 30, 60: 3, 79: 3, 80: 0.3, 99: 0.3}),
    ],
)
def test_the_learning_rate_at_every_drop(preset, momentum, rates, colours, backbone, tmp_path):
    cfg = Config.fromfile(PRESETS[preset])
    assert cfg.global_batch_size == 256
    cfg.merge_from_dict({"data_root": str(write_colours(tmp_path / "more", train=86))})
    cfg.merge_from_dict({"backbone_file": str(backbone), "work_dir": str(tmp_path)})
    prepare(cfg, world_size=1)
    settings = {k: v for k, v in cfg.optim_wrapper.optimizer.items() if k != "type"}
    assert settings == {"lr": 30.0, "momentum": momentum, "weight_decay": 0.0}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], **settings)
    (entry,) = cfg.param_scheduler
    scheduler = PARAM_SCHEDULERS.build({**entry, "optimizer": OptimWrapper(optimizer)})
    seen = []
    for _ in range(cfg.train_cfg.max_epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    assert len(seen) == 100
    assert {epoch: pytest.approx(seen[epoch]) for epoch in rates} == rates


CONFIGS = sorted(map(str, Path("configs/linear").glob("*.py")))


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_is_the_papers_recipe_on_the_weights_that_it_names(path):
    cfg = Config.fromfile(path)
    assert f"bash tools/linear_probe.sh {path}" in cfg.text and "Cost: " in cfg.text
    method, arch = Path(path).stem.split("_")
    assert cfg.method == method
    assert cfg.encoder == {"r50": "resnet50", "sh50": "shufflenetv2_50"}[arch]
    assert (cfg.backbone_file is None) == (method == "random")
    rows = TABLE1.values[TABLE1.values["method"] != ""]
    printed = dict(
        zip(zip(rows["method"], rows["encoder"], strict=True), rows["printed"], strict=True)
    )
    if method + cfg.encoder in printed:
        assert f"(Acc. {printed[method + cfg.encoder]})" in cfg.text
        assert cfg.backbone_file == f"work_dirs/{Path(path).stem}/backbone.safetensors"
        assert Path(f"configs/pretrain/{Path(path).stem}.py").is_file()


def test_there_is_a_config_for_every_row_of_table_1():
    of = {(Config.fromfile(path).method, Config.fromfile(path).encoder) for path in CONFIGS}
    assert {(method, encoder) for _, method, encoder, *_ in TABLE1.rows} < of


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_very_protocol_has_no_deviations(preset):
    def told(**changes):
        cfg = Config.fromfile(PRESETS[preset])
        counts = {"train_images": 1281167, "val_images": 50000, "classes": 1000}
        cfg.dataset = {"name": "imagenet1k", **counts}
        cfg.merge_from_dict(changes)
        state(cfg, stated_values)
        assert cfg.protocol.states == {
            "dataset": "imagenet1k", **counts, "epochs": 100, "global_batch_size": 256, "lr": 30.0,
            "milestones": "60, 80" if preset == "moco" else "30, 60, 90",
            "momentum": 0.9 if preset == "moco" else 0.0, "weight_decay": 0.0,
            "train_transform": "random resized crop of 224 and flip",
            "test_transform": "centre crop of 224 from 256",
        }  # fmt: skip
        return deviations(cfg.protocol.states, found(SimpleNamespace(cfg=cfg)))

    assert told() == ()
    assert told(epochs=90) == ("epochs: 90 instead of 100",)
    assert told(milestones=[50])[0].startswith("milestones: 50 instead of ")
    assert told(**{"optim_wrapper.optimizer.weight_decay": 1e-4}) != ()
    assert told(cache_features=True) != ()


def test_the_name_of_imagenet_takes_all_its_counts(colours):
    cfg = Config.fromfile(PRESETS["paper"])
    cfg.data_root = str(colours)
    splits = read_splits(colours)
    states = cfg.protocol.states
    states.train_images, states.val_images, states.classes = 36, 12, 3
    assert dataset(cfg, splits)["name"] == "imagenet1k"
    states.val_images = 13
    assert dataset(cfg, splits)["name"] == "colours (36+12 images, 3 classes)"


# ---- bad input


def two_classes(root):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / split / name / "1.png")
    return root


def without(*names):
    def change(root):
        for name in names:
            path = root / name
            for file in path.rglob("*.png"):
                file.unlink()
            for folder in sorted(path.rglob("*"), reverse=True):
                folder.rmdir()
            path.rmdir()

    return change


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (without("val"), FileNotFoundError, r"no folder \S+/val; expected ROOT/train/CLASS"),
        (without("train", "val"), FileNotFoundError, r"no folder \S+/train; .* holds: nothing"),
        (lambda root: (root / "val/a/1.png").write_bytes(b""), ValueError,
         "1 files in .*val are empty: a/1.png"),
        (without("val/b"), ValueError, "2 classes, .*val has 1, .*one of them only: b"),
        (without("train/b", "val/b"), ValueError, r"one class only \(a\)"),
        (lambda root: (root / "val/a/1.png").rename(root / "val/1.png"), ValueError,
         "1 images lie in .*val itself, not in a class folder: 1.png"),
        (lambda root: [f.unlink() for f in (root / "train").rglob("*.png")], FileNotFoundError,
         "train"),
    ],
)  # fmt: skip
def test_folders_that_are_no_labelled_images(change, error, words, tmp_path):
    change(two_classes(tmp_path))
    with pytest.raises(error, match=words):
        read_splits(tmp_path)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"backbone_file": None}, ValueError, "no backbone to read out; name one with --backbone"),
        ({"backbone_file": "none"}, FileNotFoundError, "no backbone file at none"),
        ({"backbone_file": None, "method": "random"}, ValueError, "--random ENCODER"),
        ({"method": "loco"}, ValueError, "says method random, but .* as loco"),
        ({"encoder": "resnet50"}, ValueError, "says encoder resnet_tiny, but .* as resnet50"),
        ({"stages": ["res9"]}, ValueError, "stages res9: resnet_tiny has res2, res3, res4, res5"),
        ({"global_batch_size": 37}, ValueError, "batch of 37 from 36 training images"),
        ({"global_batch_size": 0}, ValueError, "global_batch_size is 0; expected a whole number"),
        ({"global_batch_size": 35}, ValueError, "2 processes cannot share"),
        ({"milestones": [20, 10]}, ValueError, "after epochs 20, 10 of 100"),
        ({"epochs": 50}, ValueError, "after epochs 30, 60, 90 of 50"),
        ({"k": 0}, ValueError, "k is 0; expected a whole number from 1"),
        ({"image_size": 300}, ValueError, "crop of 300 px from images of 256 px"),
        ({"data_root": "none"}, FileNotFoundError, "no folder none/train"),
    ],
)
def test_bad_input_is_named(values, error, words, colours, backbone, tmp_path):
    cfg = Config.fromfile(PRESETS["paper"])
    given = {"data_root": str(colours), "backbone_file": str(backbone), "global_batch_size": 12}
    cfg.merge_from_dict(given | {"work_dir": str(tmp_path)} | values)
    with pytest.raises(error, match=words):
        prepare(cfg, world_size=2)


def test_a_disk_too_small_for_the_features_is_told_before_training(
    colours, backbone, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        stage_features.shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 48 * 960 - 1)
    )  # 48 images, 64 + 128 + 256 + 512 channels
    cfg = Config.fromfile(PRESETS["paper"])
    given = {"data_root": str(colours), "backbone_file": str(backbone), "global_batch_size": 12}
    cfg.merge_from_dict(given | {"work_dir": str(tmp_path / "run")})
    with pytest.raises(ValueError, match=r"features of 48 images at res2, .* need 1 MiB"):
        prepare(copy.deepcopy(cfg), world_size=1)
    monkeypatch.setattr(
        stage_features.shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 48 * 960)
    )
    prepare(cfg, world_size=1)


def test_broken_images_of_both_splits_are_named_before_the_run_begins(backbone, tmp_path, capsys):
    root = write_colours(tmp_path / "data", train=2, val=2)
    cfg = Config.fromfile(PRESETS["paper"])
    given = {"data_root": str(root), "backbone_file": str(backbone), "global_batch_size": 6}
    cfg.merge_from_dict(given | {"work_dir": str(tmp_path / "run")})
    (root / "train/.hidden.png").touch()
    prepare(copy.deepcopy(cfg), world_size=1)
    told = capsys.readouterr().out
    assert "6 images" in told and "left out: 1 hidden file" in told
    assert "every image is decoded once before the run begins" in told
    (root / "val/red/01.png").write_bytes(b"no image")
    (root / "train/red/01.png").write_bytes((root / "train/red/01.png").read_bytes()[:99])
    words = r"2 images cannot be decoded: .*/train/red/01.png \(.*\), .*/val/red/01.png \("
    with pytest.raises(UnreadableImage, match=words):
        prepare(copy.deepcopy(cfg), world_size=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/epoch_1.pth").touch()  # a run that goes on has looked already
    prepare(cfg, world_size=1)


def test_a_broken_image_ends_the_command_in_one_line(backbone, tmp_path):
    root = write_colours(tmp_path / "data", train=2, val=2)
    (root / "val/red/01.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"^error: 1 images cannot be decoded: .*red/01"):
        main(["--data", str(root), "--backbone", str(backbone), "--work-dir", str(tmp_path / "run"),
              "--cfg-options", "global_batch_size=6"])  # fmt: skip


def test_drops_at_the_ends_are_refused():
    with pytest.raises(ValueError, match="must rise and lie within"):
        schedule(10, [0, 5])
    assert schedule(10, [])["milestones"] == []


def test_shorthands_become_options(tmp_path, capsys):
    args = parse_args(["--random", "resnet50", "--data", "D", "--json", f"{tmp_path}/x.json"])
    assert args.cfg_options == {"data_root": "D", "method": "random", "encoder": "resnet50"}
    assert args.work_dir == "work_dirs/linear_x" and args.config == str(PRESETS["paper"])
    assert parse_args(["--preset", "moco"]).config == str(PRESETS["moco"])
    with pytest.raises(SystemExit):
        parse_args(["configs/linear/loco_r50.py", "--preset", "moco"])
    assert "a CONFIG has its own recipe" in capsys.readouterr().err


def test_a_user_s_mistake_ends_in_one_line(colours, tmp_path):
    with pytest.raises(SystemExit, match="no backbone to read out"):
        main(["--data", str(colours), "--json", str(tmp_path / "x.json")])
    assert not (tmp_path / "x.json").exists()
