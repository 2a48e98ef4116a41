"""The detectors' configs: what the paper says of them, and that each of them runs."""

import copy
import gc
import json
import os
import re
import shlex
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import mmdet
import pytest
import torch
import torch.distributed as dist
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from torch import nn

from pretrain.backbone_file import IMAGENET_MEAN, IMAGENET_STD, Provenance, write_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.stated_protocol import state
from results.record.protocol import SUPERVISED, deviations
from results.record.run_record import RunRecord
from results.tables.paper import TABLE2, TABLE3
from tests.helpers.detectors import read
from transfer import prepare as prepare_command
from transfer import splits
from transfer.data.cityscapes import convert
from transfer.data.splits import write_split
from transfer.hooks import what_ran
from transfer.scenes.datasets import write_cityscapes, write_coco
from transfer.train import NAMES, prepare, stated_values

register_all_modules()
LEAVES = sorted(str(path) for path in Path("configs").glob("mask_rcnn_*.py"))
FEW = [path for path in LEAVES if path.endswith(("_coco10k.py", "_coco1k.py"))]
MMDET = Path(mmdet.__file__).parent / ".mim" / "configs"
NEW_NORMS = 8 + 4 + 4  # of FPN, box head and mask head, section 5.2
STATED = {  # sections 5.2 and 5.3; scales as mmdetection's configs have them
    "coco2017": {"epochs": 12, "global_batch_size": 16, "lr": 0.02, "train_scale": "(1333, 800)"},
    "cityscapes": {"epochs": 64, "global_batch_size": 8, "lr": 0.01,
                   "train_scale": "[(2048, 800), (2048, 1024)]"},
    "coco10k": {"iterations": 60000, "global_batch_size": 16, "lr": 0.02,
                "train_scale": "[(1333, 640), (1333, 800)]", "split": (0, 1, 2, 3, 4)},
    "coco1k": {"iterations": 15000, "global_batch_size": 16, "lr": 0.02,
               "train_scale": "[(1333, 640), (1333, 800)]", "split": (0, 1, 2, 3, 4)},
}  # fmt: skip
FROZEN = {"presnet50": 6, "resnet50": 4, "shufflenetv2_50": 4}  # stages
IMAGES = {"coco2017": (118287, 5000), "cityscapes": (2975, 500), "coco10k": (10000, 5000),
          "coco1k": (1000, 5000)}  # fmt: skip


def dataset_of(path):
    return {"frozen": "coco2017"}.get(last := path[:-3].split("_")[-1], last)


@cache
def kinds():
    """One leaf of every kind: all others have its content, but for method and weights."""
    first = {}
    for path in LEAVES:
        content = {k: v for k, v in read(path).to_dict().items() if k not in ("method", "filename")}
        first.setdefault(json.dumps(content | {"backbone_file": None}, default=str), path)
    return list(first.values())


def frozen_by_the_paper(path, method, names):
    """Sections 5.2, "we freeze the pretrained backbone", and 5.3, "conv1 and res2 are frozen"."""
    if path not in FEW:
        return set(names)
    stages = () if method == "random" else ("conv1.", "bn1.", "layer1.")
    return {name for name in names if name.startswith(stages)} if stages else set()


# ---- what they say -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", LEAVES)
def test_a_leaf_says_what_the_paper_says(path):
    """Its command, the figures of its row, its weights; and it keeps to its own protocol."""
    cfg, text = copy.deepcopy(read(path)), Path(path).read_text()
    table, dataset = TABLE3 if path in FEW else TABLE2, dataset_of(path)
    assert f"bash tools/dist_train.sh {path}" in text and "Cost: " in text
    rows = table.values.query(
        "encoder == @cfg.model.backbone.encoder and method == @cfg.method and dataset == @dataset"
    )
    quoted = re.findall(r"AP\^bb ([\d.]+), AP ([\d.]+)\)", text)
    if rows.empty:
        assert quoted == [] and "no row of the paper" in text
    else:  # the last two are the longest pretraining's
        assert rows["metric"].tolist()[-2:] == ["box_ap", "mask_ap"]
        assert quoted == [tuple(str(value) for value in rows["value"].tolist()[-2:])]
    assert cfg.load_from is None  # no detector's weights
    assert cfg.protocol.name == table.protocols[dataset]

    train, val = IMAGES[dataset]
    cfg.dataset = {"name": dataset, "train_images": train, "val_images": val, "split": 4,
                   "drawn_from_images": 118287}  # fmt: skip
    cfg.optim_wrapper.optimizer.lr = cfg.base_lr * cfg.global_batch_size / cfg.base_batch_size
    runner = SimpleNamespace(
        cfg=cfg, max_epochs=cfg.get("max_epochs"), max_iters=cfg.get("max_iters")
    )
    if path in FEW:  # 60k iterations (96 epochs), 15k (240), at batch 16
        assert cfg.max_iters * 16 == cfg.split_size * {"coco10k": 96, "coco1k": 240}[dataset]
        runner.max_epochs = 0
    state(cfg, stated_values)
    few = 0 if cfg.method == "random" else 1
    frozen = few if path in FEW else FROZEN[cfg.model.backbone.encoder]
    assert STATED[dataset] | {"frozen_stages": frozen} == {
        k: v for k, v in cfg.protocol.states.items() if "images" not in k and k != "dataset"
    }
    assert deviations(cfg.protocol.states, what_ran(runner)) == ()


def test_every_row_has_its_leaf():
    by_dataset = {}
    for path in LEAVES:
        row = read(path).method, read(path).model.backbone.encoder
        by_dataset.setdefault(dataset_of(path), set()).add(row)
    assert {row[1:3] for row in TABLE2.rows} <= by_dataset["coco2017"]
    for table, name in ((TABLE2, "cityscapes"), (TABLE3, "coco1k"), (TABLE3, "coco10k")):
        assert by_dataset[name] == {row[1:3] for row in table.rows} | {("random", "resnet50")}


@pytest.mark.parametrize("path", kinds())
def test_the_papers_detector(path):
    """Section 5.2, module by module, and how many classes there are."""
    cfg = read(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    names = [name for name, _ in model.backbone.encoder.named_parameters()]
    trained = {n for n, p in model.backbone.encoder.named_parameters() if p.requires_grad}
    assert set(names) - trained == frozen_by_the_paper(path, cfg.method, names)
    new = [n for n, m in model.named_modules() if isinstance(m, nn.SyncBatchNorm)]
    new = [name for name in new if not name.startswith("backbone.")]
    assert sum(n.startswith("neck.") for n in new) == 8  # 4 lateral, 4 output convolutions
    assert sum(n.startswith("roi_head.bbox_head.shared_convs") for n in new) == 4
    assert sum(n.startswith("roi_head.mask_head.convs") for n in new) == 4
    box, mask = model.roi_head.bbox_head, model.roi_head.mask_head
    assert [c.conv.out_channels for c in box.shared_convs] == [256] * 4
    assert [fc.out_features for fc in box.shared_fcs] == [1024]
    classes = len(DATASETS.get(cfg.val_dataloader.dataset.type).METAINFO["classes"])
    assert classes == (8 if "cityscapes" in path else 80)
    assert {box.num_classes, mask.num_classes} == {classes}
    if dataset_of(path) == "coco2017":
        assert (cfg.max_epochs, cfg.global_batch_size, cfg.base_lr) == (12, 16, 0.02)
        assert cfg.param_scheduler[1].milestones == [8, 11]
        assert cfg.train_dataloader.dataset.pipeline[2].scale == (1333, 800)


def test_cityscapes_is_trained_as_mmdetection_does_but_not_from_a_detector_on_coco():
    ours = read("configs/mask_rcnn_loco_r50_frozen_cityscapes.py")
    theirs = Config.fromfile(MMDET / "cityscapes" / "mask-rcnn_r50_fpn_1x_cityscapes.py")
    for part in (
        lambda cfg: cfg.train_dataloader.dataset, lambda cfg: cfg.val_dataloader.dataset,
        lambda cfg: cfg.param_scheduler, lambda cfg: cfg.model.roi_head.bbox_head.loss_bbox,
        lambda cfg: cfg.optim_wrapper.optimizer.momentum,
    ):  # fmt: skip
        assert plain(part(ours)) == plain(part(theirs))
    assert ours.train_dataloader.dataset.times == 8
    assert ours.max_epochs == theirs.train_cfg.max_epochs
    assert ours.base_lr == theirs.optim_wrapper.optimizer.lr
    assert "mask_rcnn_r50_fpn_1x_coco" in theirs.load_from and ours.load_from is None


def plain(value):
    """Without the scope that a config of another package gets, and without the folder."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("_scope_", "data_root")}
    return value


@pytest.mark.parametrize(
    ("dataset", "drops"), [("coco10k", (40000, 53333)), ("coco1k", (10000, 13333))]
)
def test_when_the_learning_rate_of_few_images_drops(dataset, drops):
    """With a third and a ninth of the run to go, as 60k and 20k are of 180k; read off the steps."""
    cfg = read(f"configs/mask_rcnn_loco_r50_{dataset}.py")
    assert drops == tuple(round(cfg.max_iters * (1 - part / 180)) for part in (60, 20))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.base_lr)
    schedulers = [
        PARAM_SCHEDULERS.build({**config, "optimizer": optimizer}) for config in cfg.param_scheduler
    ]
    assert not any(scheduler.by_epoch for scheduler in schedulers)
    rates = []
    optimizer.step()
    for _ in range(cfg.max_iters):
        rates.append(optimizer.param_groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(0.02 / 1000)
    steps = [k for k in range(500, cfg.max_iters) if abs(rates[k] / rates[k - 1] - 1) > 0.01]
    assert steps == list(drops)
    assert [rates[k] for k in (600, drops[0], drops[1])] == pytest.approx([0.02, 0.002, 0.0002])


# ---- they run ------------------------------------------------------------------------------------

TINY = {"resnet50": "resnet_tiny", "shufflenetv2_50": "shufflenetv2_tiny",
        "presnet50": "presnet_tiny"}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three drawn scenes under COCO's 80 names, with splits of two, and two under Cityscapes'."""
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", train=3, val=1, size=(128, 128), seed=0)
    categories = [
        {"id": number, "name": name}
        for number, name in enumerate(DATASETS.get("CocoDataset").METAINFO["classes"], start=1)
    ]
    folder = root / "coco" / "annotations"
    for path in folder.iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": categories}))
    for name in ("10k", "1k"):
        out = folder / f"instances_train2017_{name}_seed3.json"
        write_split(folder / "instances_train2017.json", size=2, seed=3, out=out)
    write_cityscapes(root / "cityscapes", train=2, val=1, size=(128, 64), seed=0)
    for part in ("train", "val"):
        convert(root / "cityscapes", part)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")

    @cache
    def write(method, encoder):
        epochs = None if method == "supervised" else 800
        path = folder / f"{method}_{encoder}.safetensors"
        provenance = Provenance(
            method=method, encoder=encoder, epochs=epochs, dataset="imagenet1k",
            dataset_fingerprint="f" * 64, deviations=(), config_hash="c" * 64, git_commit="",
            seed=0, mean=IMAGENET_MEAN, std=IMAGENET_STD,
            source_sha256=SUPERVISED["resnet50"] + 56 * "0" if method == "supervised" else "",
        )  # fmt: skip
        write_backbone(build_encoder(encoder), path, provenance)
        return str(path)

    return lambda method, encoder: None if method == "random" else write(method, encoder)


@pytest.fixture
def quick(monkeypatch):
    """Without what takes longer than the run itself: six tidy prints of the config, and rubbish."""
    monkeypatch.setattr(Config, "pretty_text", property(lambda cfg: repr(cfg.to_dict())))
    gc.freeze()  # each dataset calls the collector
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def one_process_group(tmp_path_factory):
    """A group of this process alone: DistributedDataParallel and SyncBN are as among many."""
    store = tmp_path_factory.mktemp("group") / "store"
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "LOCAL_RANK", "0")
        dist.init_process_group(backend, init_method=f"file://{store}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def small(path, data, weights, work_dir):
    """The leaf with a tiny encoder of its kind, narrow heads, few RoIs and pixels."""
    cfg = copy.deepcopy(read(path))
    name = TINY[cfg.model.backbone.encoder]
    encoder = build_encoder(name)
    stages = cfg.model.backbone.get("out_stages", range(len(encoder.stage_names)))
    few = {"nms_pre": 50, "max_per_img": 20}
    heads = {f"model.roi_head.{part}": 16 for part in (
        "bbox_roi_extractor.out_channels", "mask_roi_extractor.out_channels",
        "bbox_head.in_channels", "bbox_head.conv_out_channels", "bbox_head.fc_out_channels",
        "mask_head.in_channels", "mask_head.conv_out_channels",
    )}  # fmt: skip
    values = heads | {
        "data_root": str(data / ("cityscapes" if "cityscapes" in path else "coco")),
        "backbone_file": weights(cfg.method, name),
        "global_batch_size": 2,
        "model.backbone.encoder": name,
        "model.neck.in_channels": [encoder.out_channels[stage] for stage in stages],
        "model.neck.out_channels": 16,
        "model.rpn_head.in_channels": 16,
        "model.rpn_head.feat_channels": 16,
        "model.train_cfg.rpn_proposal": few,
        "model.train_cfg.rcnn.sampler.num": 8,
        "model.test_cfg.rpn": few,
        "model.test_cfg.rcnn": {"max_per_img": 3, "score_thr": 0.0},
        "param_scheduler.0.start_factor": 1.0,  # a step that shows in every tensor
        "work_dir": str(work_dir),
    }
    if path in FEW:
        values |= {"split": 3, "split_size": 2, "max_iters": 2}
    else:
        values |= {"max_epochs": 1, "train_cfg.max_iters": 2}
    for loader in ("train", "val", "test"):
        values[f"{loader}_dataloader.num_workers"] = 0
        values[f"{loader}_dataloader.persistent_workers"] = False
    cfg.merge_from_dict(values)
    cfg.config_file = path
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.get("dataset", loader.dataset).pipeline:
            if "scale" in step:
                step.scale = eighth(step.scale)
    return cfg


def eighth(scale):
    """(1333, 800) -> (166, 100); of each where there are several."""
    if isinstance(scale, list):
        return [eighth(one) for one in scale]
    return tuple(side // 8 for side in scale)


class Moves(Hook):
    """Which tensors of the encoder change in training; the maps; how many objects are detected."""

    def before_train(self, runner):
        model = runner.model.module
        self.encoder = model.backbone.encoder
        self.before = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        self.iterations = self.detections = 0
        self.maps = []
        model.neck.register_forward_hook(lambda _, ins, outs: self.maps.append((ins[0], outs)))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iterations += 1
        assert torch.isfinite(outputs["loss"])

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.detections += sum(len(sample.pred_instances) for sample in outputs)
        for sample in outputs:
            height, width = sample.ori_shape
            boxes = sample.pred_instances.bboxes
            assert sample.pred_instances.masks.shape == (len(boxes), height, width)
            assert (boxes >= 0).all() and (boxes <= boxes.new_tensor([width, height] * 2)).all()

    def after_train(self, runner):
        now = self.encoder.state_dict()
        self.moved = {k for k, v in self.before.items() if not torch.equal(v, now[k])}


@pytest.mark.slow
@pytest.mark.parametrize("path", kinds())
def test_two_iterations_and_a_prediction(
    path, data, weights, one_process_group, quick, tmp_path, capsys, monkeypatch
):
    """The whole run, reduced, as under ``torchrun``: what trains, what is frozen, which norms ran.

    DistributedDataParallel refuses the second iteration if a parameter had no gradient in the
    first.
    """
    monkeypatch.setitem(SUPERVISED, "resnet_tiny", SUPERVISED["resnet50"])  # which stands for it
    cfg = small(path, data, weights, tmp_path)
    prepare(cfg, world_size=1)
    base, batch = (0.01, 8) if "cityscapes" in path else (0.02, 16)
    lr = base * 2 / batch
    assert f"learning rate {base} x 2 / {batch} = {lr:g}\n" in capsys.readouterr().out
    cfg.launcher = "pytorch"
    cfg.experiment_name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    moves = Moves()
    runner.register_hook(moves)
    runner.train()
    assert moves.iterations == 2 and moves.detections == 3

    record = RunRecord.read(tmp_path / "record.json")
    frozen = frozen_by_the_paper(path, cfg.method, moves.before)
    assert moves.moved == set(moves.before) - frozen
    norms = ["SyncBatchNorm over 1 processes"] + ["frozen BatchNorm"] * bool(frozen)
    assert record.norm == " + ".join(norms)
    model = runner.model.module
    new = [m for part in (model.neck, model.roi_head) for m in part.modules()
           if "SyncBatchNorm" in type(m).__name__]  # fmt: skip
    assert len(new) == NEW_NORMS
    features, levels = moves.maps[0]  # each level is the padded picture over its stride
    strides = [stride for stride, _ in model.rpn_head.prior_generator.strides[:4]]
    sides = {
        tuple(round(side * stride) for side in level.shape[2:])
        for level, stride in zip(levels[:4], strides, strict=True)
    }
    divisor = cfg.model.data_preprocessor.pad_size_divisor
    assert len(sides) == 1 and not any(side % divisor for side in sides.pop())
    assert path in FEW or not any(feature.requires_grad for feature in features)
    assert record.learning_rate == pytest.approx(lr)
    assert {"box_ap", "mask_ap"} <= record.metrics.keys()
    assert (record.method, record.protocol) == (cfg.method, cfg.protocol.name)
    assert record.deviations and record.dataset not in (*TABLE2.protocols, *TABLE3.protocols)
    if path in FEW:
        size = dataset_of(path).removeprefix("coco")
        file = data / f"coco/annotations/instances_train2017_{size}_seed3.ids.json"
        ids = json.loads(file.read_text())
        assert record.split == 3 and record.artifacts["split_ids_sha256"] == ids["sha256"]
        assert json.loads((tmp_path / record.artifacts["split_ids"]).read_text()) == ids
        assert "iterations: 2 instead of" in " ".join(record.deviations)
        assert "split" not in " ".join(record.deviations)
    else:
        assert record.split is None


# ---- what their runs need ------------------------------------------------------------------------

LOCO_1K = "configs/mask_rcnn_loco_r50_coco1k.py"


def command_in(error):
    return shlex.split(str(error.value).split("python -m ")[1])


@pytest.mark.slow
def test_a_split_that_is_missing_is_written_by_the_command_in_the_error(data, weights, tmp_path):
    """And as a split of other data than COCO's it says so in the record."""
    shutil.copytree(data / "coco", tmp_path / "coco")
    cfg = small(LOCO_1K, data, weights, tmp_path / "run")
    cfg.data_root, cfg.split = str(tmp_path / "coco"), 1
    with pytest.raises(FileNotFoundError, match=r"1k_seed1\.json.*python -m transfer\.splits") as e:
        prepare(copy.deepcopy(cfg), 1)
    module, *arguments = command_in(e)
    assert module == "transfer.splits" and splits.main(arguments) == 0
    prepare(cfg, 1)
    assert cfg.dataset.split == 1 and cfg.dataset.drawn_from_images == 3
    assert cfg.train_dataloader.dataset.ann_file.endswith("_1k_seed1.json")
    assert cfg.dataset.name == "coco (2+1 images)"
    cfg.dataset.split = 5
    runner = SimpleNamespace(cfg=cfg, max_epochs=0, max_iters=15000)
    texts = deviations(cfg.protocol.states, what_ran(runner))
    assert {"split: 5 instead of 0 or 1 or 2 or 3 or 4",
            "drawn_from_images: 3 instead of 118287"} <= set(texts)  # fmt: skip


@pytest.mark.slow
def test_cityscapes_without_annotations_is_prepared_by_the_command_in_the_error(
    weights, tmp_path, data
):
    root = tmp_path / "cityscapes"
    write_cityscapes(root, train=1, val=1, size=(128, 64), seed=0)
    cfg = small("configs/mask_rcnn_gim_r50_frozen_cityscapes.py", data, weights, tmp_path / "run")
    cfg.data_root = str(root)
    with pytest.raises(FileNotFoundError, match=r"python -m transfer\.prepare cityscapes") as error:
        prepare(copy.deepcopy(cfg), 1)
    module, *arguments = command_in(error)
    assert module == "transfer.prepare"
    assert prepare_command.main([*arguments, "--workers", "1"]) == 0
    prepare(cfg, 1)
    assert cfg.val_evaluator.ann_file == str(root / cfg.val_dataloader.dataset.ann_file)


def test_the_linear_rule_at_64_processes(data, weights, tmp_path, capsys):
    cfg = small(LOCO_1K, data, weights, tmp_path)
    cfg.global_batch_size = 128
    prepare(cfg, world_size=64)
    assert "learning rate 0.02 x 128 / 16 = 0.16\n" in capsys.readouterr().out
    assert cfg.train_dataloader.batch_size == 2
    assert float(cfg.optim_wrapper.optimizer.lr) == pytest.approx(0.16)


def test_the_documented_names_reach_the_config(tmp_path):
    values = {"split": 4, "backbone_file": "backbones/loco_resnet50_100ep.safetensors",
              "max_iters": 7, "data_root": "d", "global_batch_size": 8, "seed": 1}  # fmt: skip
    arguments = ["--work-dir", str(tmp_path), "--cfg-options"]
    arguments += [f"{name}={value}" for name, value in values.items()]
    cfg = load_config(argument_parser("").parse_args([LOCO_1K, *arguments]), NAMES)
    assert {name: cfg[name] for name in values} == values
