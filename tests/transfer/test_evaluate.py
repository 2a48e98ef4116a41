"""The figures of a stored checkpoint: those of its training, and under no other config."""

import json

import pytest
import torch
from mmdet.utils import register_all_modules

from pretrain.backbone_file import read_provenance, write_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.run_folder import read_meta
from results.record.run_record import RunRecord
from tests.helpers.detectors import LOCO, as_arguments, options
from transfer import evaluate

pytestmark = pytest.mark.slow

register_all_modules()


def test_a_stored_checkpoint_has_the_figures_of_its_training(
    trained, coco, backbone_file, tmp_path, capfd
):
    before = (trained / "record.json").read_bytes()
    values = as_arguments(options(coco, backbone_file))
    evaluate.main([LOCO, str(trained / "epoch_1.pth"), "--work-dir", str(tmp_path), *values])
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    record = RunRecord.read(trained / "record.json")
    assert evaluation["metrics"] == record.metrics  # to the last bit
    assert evaluation["per_category"] == json.loads((trained / "per_category.json").read_text())
    assert evaluation["backbone_sha256"] == record.backbone["sha256"]
    assert (evaluation["images"], evaluation["iterations"]) == (4, 2)
    assert (trained / "record.json").read_bytes() == before
    assert "Epoch(val)" in "".join(capfd.readouterr())


def refused(coco, backbone_file, path, **more):
    with pytest.raises(SystemExit) as end:
        evaluate.main([LOCO, str(path), *as_arguments(options(coco, backbone_file, **more))])
    return str(end.value.code)


def test_another_config_is_refused_with_what_differs(trained, coco, backbone_file):
    more = {"model.roi_head.bbox_head.fc_out_channels": 64, "seed": 5}
    message = refused(coco, backbone_file, trained / "epoch_1.pth", **more)
    assert message.startswith("error: ") and "is of another config" in message
    assert message.splitlines()[1:] == [
        "  model.roi_head.bbox_head.fc_out_channels: 128 in the checkpoint, 64 now"
    ]


def test_other_backbone_weights_are_refused(trained, coco, backbone_file, tmp_path):
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    write_backbone(build_encoder("resnet_tiny"), other, read_provenance(backbone_file))
    assert "backbone_sha256: " in refused(coco, other, trained / "epoch_1.pth")


def test_a_checkpoint_that_is_missing_or_spoilt_is_refused(copied, coco, backbone_file):
    path = copied / "epoch_1.pth"
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["neck.fpn_convs.0.conv.weight"]
    torch.save(content, path)
    message = refused(coco, backbone_file, path)
    assert "Missing key(s)" in message and "neck.fpn_convs.0.conv.weight" in message
    path.write_bytes(path.read_bytes()[:-5000])
    assert "is damaged" in refused(coco, backbone_file, path)
    assert "no checkpoint at" in refused(coco, backbone_file, copied / "epoch_9.pth")


def test_only_the_last_checkpoint_may_change_the_record(copied):
    meta = read_meta(copied / "epoch_1.pth")
    evaluate.update_record(copied / "epoch_1.pth", meta, {"box_ap": 1.5}, {"box": {}})
    assert RunRecord.read(copied / "record.json").metrics == {"box_ap": 1.5}
    assert json.loads((copied / "per_category.json").read_text()) == {"box": {}}
    with pytest.raises(ValueError, match=r"evaluate .*epoch_1\.pth"):
        evaluate.update_record(copied / "iter_1.pth", meta, {}, {})
    with pytest.raises(ValueError, match="is of another run"):
        evaluate.update_record(copied / "epoch_1.pth", {"config_text": "{}"}, {}, {})
    (copied / "record.json").unlink()
    with pytest.raises(FileNotFoundError, match="the run has not finished"):
        evaluate.update_record(copied / "epoch_1.pth", meta, {}, {})


def test_an_evaluation_needs_config_and_checkpoint(run):
    done = run("tools/dist_test.sh", LOCO, "--work-dir", "x")
    assert done.returncode == 2 and "CONFIG CHECKPOINT" in done.stderr
