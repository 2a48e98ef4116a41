"""A training of a detector from end to end, and what stops it before it begins."""

import copy
import json
import re
import shutil

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.registry import PARAM_SCHEDULERS
from PIL import Image

from pretrain.engine import launch
from results.record.run_record import RunRecord
from tests.helpers.detectors import LOCO, as_arguments, config, options
from transfer.data.cityscapes import convert
from transfer.metrics import FIGURES
from transfer.scenes.datasets import write_cityscapes
from transfer.train import NAMES, check_dataset, prepare

register_all_modules()


# ---- a run from end to end -----------------------------------------------------------------------


def test_a_run_leaves_its_record(trained):
    record = RunRecord.read(trained / "record.json")
    assert (record.kind, record.method, record.pretrain_epochs) == ("transfer", "loco", 1)
    assert record.backbone["sha256"] == record.backbone["provenance"]["weights_sha256"]
    assert "train_images: 16 instead of 400" in record.deviations
    assert "epochs: 1 instead of 5" in record.deviations
    assert record.norm == "BatchNorm in place of SyncBN (one process) + frozen BatchNorm"
    (log,) = trained.glob("*/*.log")
    assert "34 tensors bit-identical before and after training" in log.read_text()
    pictures = record.artifacts["pictures"]
    assert pictures and all((trained / picture).is_file() for picture in pictures)
    content = torch.load(trained / "epoch_1.pth", weights_only=True)  # plain data
    assert content["meta"]["epoch"] == 1 and "optimizer" in content


def test_the_record_has_all_figures_and_those_of_the_categories(trained):
    record = RunRecord.read(trained / "record.json")
    assert {"box_ap", "box_ap50", "box_ar100", "mask_ap75", "mask_ar1"} <= record.metrics.keys()
    known = {f"{kind}_{figure}" for kind in ("box", "mask") for figure in FIGURES}
    assert record.metrics.keys() <= known and record.metrics["box_ar100"] > 0
    table = json.loads((trained / record.artifacts["per_category"]).read_text())
    assert list(table) == ["box", "mask"]
    assert list(table["box"]) == ["disc", "square", "triangle", "star", "cross"]
    of_categories = [row["ap"] for row in table["mask"].values() if row]
    mean = sum(of_categories) / len(of_categories)
    assert record.metrics["mask_ap"] == pytest.approx(mean)


@pytest.mark.slow
def test_a_run_killed_before_its_record_continues(trained, coco, backbone_file, run, tmp_path):
    """All epochs done, but neither evaluated nor recorded; run, data and backbone have moved."""
    coco = shutil.copytree(coco, tmp_path / "moved" / "data")
    backbone_file = shutil.copy(backbone_file, tmp_path / "moved" / "b.safetensors")
    work_dir = shutil.copytree(trained, tmp_path / "run")
    (work_dir / "record.json").unlink()
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))
    done = run(
        "tools/dist_train.sh", LOCO, "--resume", "--work-dir", work_dir,
        *as_arguments(options(coco, backbone_file)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, again = (json.loads((d / "record.json").read_text()) for d in (trained, work_dir))
    for name in ("metrics", "norm", "started_at", "config_hash"):
        assert again[name] == first[name]


# ---- bad input -----------------------------------------------------------------------------------


def refused(cfg, message, kind=ValueError):
    with pytest.raises(kind, match=message):
        prepare(cfg, 1)


@pytest.mark.slow
def test_a_dataset_that_is_not_whole(coco, backbone_file, tmp_path):
    """Without its folder, an image, or with one of another size (mmdetection#3796)."""
    refused(config(tmp_path, backbone_file), r"cocodataset\.org", FileNotFoundError)
    for split in ("train", "val"):
        root = shutil.copytree(coco, tmp_path / split)
        first, second, *_ = sorted((root / f"{split}2017").iterdir())
        Image.new("RGB", (96, 128)).save(second)
        message = rf"1 of \d+ images are not .*{second.name} has 96x128 pixels, listed are 128x128"
        refused(config(root, backbone_file), message)
        first.unlink()
        refused(config(root, backbone_file), first.name, FileNotFoundError)


@pytest.mark.slow
def test_a_backbone_of_another_kind(coco, backbone_file, tmp_path):
    resnet50 = config(coco, backbone_file, "configs/mask_rcnn_loco_r50_frozen.py")
    refused(resnet50, r"holds the weights of resnet_tiny, .* asks for resnet50")
    gim = config(coco, backbone_file, "configs/demo/mask_rcnn_gim.py")
    refused(gim, r"was pretrained with loco, .* as gim")
    missing = config(coco, tmp_path / "none.safetensors")
    refused(missing, r"no backbone file .*--cfg-options backbone_file=", FileNotFoundError)
    (tmp_path / "cut.safetensors").write_bytes(backbone_file.read_bytes()[:-1000])
    refused(config(coco, tmp_path / "cut.safetensors"), "cut short")
    refused(config(coco, None), "backbone_file is None, but the method is loco")
    values = {"model.data_preprocessor.mean": [0.0, 0.0, 0.0]}
    message = r"mean \[123.6.*has mean \[0.0, 0.0, 0.0\]"
    refused(config(coco, backbone_file, **values), message)


@pytest.mark.slow
def test_heads_of_another_dataset(coco, backbone_file):
    for box, mask in ((80, 5), (5, 80), (80, 80)):
        values = {
            "model.roi_head.bbox_head.num_classes": box,
            "model.roi_head.mask_head.num_classes": mask,
        }
        message = f"bbox_head has {box} classes, mask_head {mask}, the dataset 5; set num_classes"
        refused(config(coco, backbone_file, **values), message)
    values = {"train_dataloader.dataset.metainfo.classes": "disc"}
    message = r"is the text 'disc'; write the names: \('disc',\)"
    refused(config(coco, backbone_file, **values), message)


def test_some_of_the_classes_are_another_dataset(coco, backbone_file, capsys):
    """Even with the protocol's numbers of images: objects were left out."""
    heads = ("bbox_head", "mask_head")
    cfg = config(coco, backbone_file, **{f"model.roi_head.{h}.num_classes": 2 for h in heads})
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo.classes = ("disc", "star")
    cfg.protocol.states.update(train_images=16, val_images=4)
    prepare(cfg, 1)
    name = r"coco \(16\+4 images, without \d+ objects of other categories\)"
    assert re.fullmatch(name, cfg.dataset.name)
    said = r"train2017\.json: 16 images, \d+ left by filter_cfg; \d+ ordinary"
    assert re.search(said, capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (3, 4)])
def test_a_warmup_of_one_iteration_is_refused(begin, end, coco, backbone_file):
    """mmengine's own scheduler, stepped: the learning rate never leaves the start."""
    entry = {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": begin}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = PARAM_SCHEDULERS.build({**entry, "end": end, "optimizer": optimizer})
    optimizer.step()
    for _ in range(9):
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    cfg = config(coco, backbone_file)
    cfg.param_scheduler[0].update(begin=begin, end=end)
    refused(copy.deepcopy(cfg), r"stay at 0\.01 of its peak; set .*param_scheduler.0.end=N")
    cfg.param_scheduler[0].end += 1
    prepare(cfg, 1)


@pytest.mark.slow
def test_a_street_run_without_gtfine_does_not_start(tmp_path, backbone_file):
    root = tmp_path / "cityscapes"
    write_cityscapes(root, 1, 1, (96, 64), 3)
    for split in ("train", "val"):
        convert(root, split)
    cfg = config(root, backbone_file, "configs/demo/mask_rcnn_loco_cityscapes.py")
    prepare(copy.deepcopy(cfg), world_size=1)
    assert cfg.val_evaluator.type == "CityscapesAP"
    some = copy.deepcopy(cfg)  # whose average cityscapesScripts would take over all eight
    some.val_dataloader.dataset.metainfo = {"classes": ("person", "car")}
    for head in ("bbox_head", "mask_head"):
        some.model.roi_head[head].num_classes = 2
    with pytest.raises(ValueError, match="a detector of 2 of Cityscapes' 8 classes"):
        check_dataset(some, some.val_dataloader.dataset)
    shutil.rmtree(root / "gtFine" / "val")
    message = r"no .*gtFine/val\. Download gtFine_trainvaltest"
    refused(cfg, message, FileNotFoundError)


@pytest.mark.slow
def test_an_error_reaches_the_user_as_one_line(tmp_path):
    arguments = ["configs/demo/mask_rcnn_random.py", "--work-dir", str(tmp_path / "run")]
    arguments += ["--cfg-options", f"data_root={tmp_path}/none"]
    with pytest.raises(SystemExit, match=r"^error: There is no image folder [^\n]*$"):
        launch.main("", prepare, NAMES, launch.argument_parser("").parse_args(arguments))
