"""A detector in somebody else's hands: whole, found again, and nothing in its file is run."""

import json
import shutil
from itertools import chain

import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from pretrain.backbone_file import read_provenance, write_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.run_folder import read_meta
from pretrain.engine.same_config import config_text
from results.record.run_record import RunRecord
from tests.helpers.detectors import LOCO
from tests.helpers.places import ROOT
from transfer import stored_detector
from transfer.hooks import frozen_digests
from transfer.stored_detector import load_detector, stored_config

pytestmark = pytest.mark.slow

register_all_modules()


@pytest.fixture
def moved(trained, tmp_path, monkeypatch):
    """What is handed on: detector and config in another folder; no backbone file anywhere."""
    given = tmp_path / "given"
    given.mkdir()
    for name in ("detector.pth", "mask_rcnn_loco.py", "epoch_1.pth"):
        shutil.copy(trained / name, given)
    monkeypatch.chdir(tmp_path)
    return given


def lose_backbone(folder, backbone_file, name):
    """Give a run another place of its backbone file: in its config, and in what it saved."""
    config = folder / "mask_rcnn_loco.py"
    config.write_text(config.read_text().replace(str(backbone_file), name))
    for file in folder.glob("*.pth"):
        content = torch.load(file, weights_only=True)
        meta = content["meta"]
        meta["config_text"] = meta["config_text"].replace(str(backbone_file), name)
        torch.save(content, file)


def detections(model, images):
    found = [inference_detector(model, str(image)).pred_instances for image in images]
    return [(each.bboxes, each.scores, each.labels, each.masks) for each in found]


def same(found, expected):
    pairs = zip(chain(*found), chain(*expected), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_detector_is_that_of_the_checkpoint(copied):
    """Of the pointer's, or else of the newest whole one, as for ``--resume``."""
    (copied / "detector.pth").unlink()
    saved = torch.load(copied / "epoch_1.pth", weights_only=True)["state_dict"]
    for _ in range(2):
        model, cfg = load_detector(copied, "cpu")
        found = model.state_dict()
        assert cfg.method == "loco" and not model.training and found.keys() == saved.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in saved.items())
        (copied / "last_checkpoint").unlink(missing_ok=True)
    (copied / "epoch_1.pth").unlink()
    with pytest.raises(FileNotFoundError, match="has no checkpoint, so it is not the folder"):
        load_detector(copied, "cpu")
    (copied / "last_checkpoint").write_text("/moved/from/elsewhere/epoch_1.pth")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*epoch_1\.pth"):
        load_detector(copied, "cpu")


def test_mmdetections_init_detector_finds_what_the_run_found(
    trained, moved, coco, backbone_file, monkeypatch
):
    """Under the run's config, and the released one with and without its backbone file."""
    images = sorted((coco / "val2017").iterdir())[:2]
    monkeypatch.setattr(stored_detector, "DETECTOR", "none")  # from the lean checkpoint, as before
    expected = detections(load_detector(trained, "cpu")[0], images)
    assert sum(len(boxes) for boxes, *_ in expected) > 10
    monkeypatch.undo()
    monkeypatch.chdir(moved.parent)
    lose_backbone(moved, backbone_file, "b/none.safetensors")
    released = Config.fromfile(ROOT / LOCO)
    released.merge_from_dict({"model.test_cfg.rcnn.score_thr": 0.0})
    with_file = released.copy()
    with_file.merge_from_dict({"model.backbone.backbone_file": str(backbone_file)})
    for config in (str(moved / "mask_rcnn_loco.py"), released, with_file):
        theirs = init_detector(config, str(moved / "detector.pth"), device="cpu")
        assert theirs.dataset_meta["classes"] == ("disc", "square", "triangle", "star", "cross")
        assert same(detections(theirs, images), expected)
    assert same(detections(load_detector(moved, "cpu")[0], images), expected)


def test_the_detector_is_plain_and_whole_and_named_in_the_record(trained):
    content = torch.load(trained / "detector.pth", weights_only=True)
    checkpoint = torch.load(trained / "epoch_1.pth", weights_only=True)
    lean = checkpoint["state_dict"]
    assert content.keys() == {"meta", "state_dict"}
    more = content["state_dict"].keys() - lean.keys()
    assert len(more) == 34 and all(name.startswith("backbone.encoder.") for name in more)
    assert all(torch.equal(content["state_dict"][name], lean[name]) for name in lean)
    assert RunRecord.read(trained / "record.json").artifacts["detector"] == "detector.pth"
    text = checkpoint["meta"]["config_text"]
    assert read_meta(trained / "detector.pth")["config_text"] == text
    assert config_text(Config.fromfile(trained / "mask_rcnn_loco.py")) == text  # as dumped


def test_a_lean_checkpoint_without_its_backbone_file_is_refused(moved):
    """mmdetection would warn of missing keys, and go on with random weights."""
    cfg = Config.fromfile(moved / "mask_rcnn_loco.py")
    for file, where in (("b/none.st", "b/none.st"), (None, "its backbone file")):
        cfg.model.backbone.backbone_file = file
        with pytest.raises(ValueError, match=rf"leaves out 34 frozen .* {where}, .* detector\.pth"):
            init_detector(cfg, str(moved / "epoch_1.pth"), device="cpu")
    cfg.model.backbone.backbone_file = "b/none.st"
    model = MODELS.build(cfg.model)
    with pytest.raises(FileNotFoundError, match=r"no backbone file at b/none\.st"):
        model.backbone(torch.zeros(1, 3, 64, 64))


def test_an_unfinished_run_finds_its_backbone_file_from_every_folder(
    copied, backbone_file, tmp_path, monkeypatch
):
    (copied / "detector.pth").unlink()
    name = "backbones/loco.safetensors"  # relative, as in README's commands
    lose_backbone(copied, backbone_file, name)
    (tmp_path / "backbones").mkdir()
    monkeypatch.chdir(tmp_path / "backbones")

    def not_found():
        with pytest.raises(FileNotFoundError, match=rf"has not finished, .* no {name} with") as e:
            load_detector(copied, "cpu")
        assert "--" not in str(e.value)  # transfer.visualize has no option for it

    not_found()
    torch.manual_seed(1)
    other = build_encoder("resnet_tiny")
    write_backbone(other, tmp_path / name, read_provenance(backbone_file))  # other weights
    not_found()
    shutil.copy(backbone_file, tmp_path / name)
    model, _ = load_detector(copied, "cpu")
    whole = torch.load(copied / "epoch_1.pth", weights_only=True)["meta"]["frozen_sha256"]
    assert frozen_digests(model.backbone) == whole


@pytest.mark.parametrize(
    "harm",
    [
        {"type": "os.mkdir", "path": "made"},  # mmengine imports and calls a type with dots
        {"type": "MaskRCNN", "test_cfg": {"nms": {"type": "__import__('os').mkdir('made')"}}},
    ],  # the second: mmcv's batched_nms evaluates it
)
def test_a_type_that_is_not_registered_is_not_called(tmp_path, monkeypatch, harm):
    monkeypatch.chdir(tmp_path)
    config = {
        "method": "loco",
        "model": {"backbone": {"type": "TransferBackbone"}, **harm},
        "val_dataloader": {"dataset": {"type": "CocoDataset"}},
    }
    meta = {"iter": 1, "world_size": 1, "config_text": json.dumps(config)}
    torch.save({"meta": meta, "state_dict": {}}, tmp_path / "epoch_1.pth")
    with pytest.raises(ValueError, match=r"which neither this project nor mmdetection registers"):
        stored_config(tmp_path / "epoch_1.pth")
    assert not (tmp_path / "made").exists()
