"""Our frozen detector against mmdetection's own, with the same weights."""

import sys

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config

from tests.helpers.places import ROOT

pytestmark = pytest.mark.slow  # three detectors of full size


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    sys.path.insert(0, str(ROOT / "tools"))
    from tools.measure import transfer as measure_transfer

    register_all_modules()
    cfg = Config.fromfile(measure_transfer.CONFIG)
    few = {"nms_pre": 200, "max_per_img": 50}
    cfg.merge_from_dict({"model.test_cfg.rpn": few})
    cfg.model.test_cfg.rcnn.update(score_thr=0.02, max_per_img=20)
    return measure_transfer.detectors(cfg, tmp_path_factory.mktemp("weights"), torch.device("cpu"))


def test_detections_are_mmdetections(detectors):
    """Boxes, scores and masks to 1e-4; the heads are given spread-out scores, so that none tie."""
    from mmdet.structures import DetDataSample

    sample = DetDataSample(
        metainfo={
            "img_shape": (128, 192), "batch_input_shape": (128, 192), "ori_shape": (128, 192),
            "scale_factor": (1.0, 1.0), "img_id": 1,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 128, 192), dtype=torch.uint8)
    found = {}
    for name in ("ours", "frozen"):
        model = detectors[name].eval()
        with torch.no_grad():
            for layer, factor in (
                (model.rpn_head.rpn_cls, 10), (model.rpn_head.rpn_reg, 3),
                (model.roi_head.bbox_head.fc_cls, 5), (model.roi_head.bbox_head.fc_reg, 2),
            ):  # fmt: skip
                layer.weight.mul_(factor)
        data = {"inputs": [image], "data_samples": [sample.clone()]}
        found[name] = model.test_step(data)[0].pred_instances
    ours, theirs = found["ours"], found["frozen"]
    assert len(theirs) >= 10 and theirs.scores.std() > 1e-3
    assert torch.equal(ours.labels, theirs.labels)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=1e-4, atol=1e-2)
    differ = (ours.masks != theirs.masks).float().mean()
    assert differ < 1e-4


def test_nothing_of_the_backbone_is_trained(detectors):
    """No graph, no gradient, no optimizer state; mmdetection's fine-tuned one has all three."""
    image = torch.randn(1, 3, 64, 64)
    assert not any(f.requires_grad for f in detectors["ours"].train().backbone(image))
    assert not any(p.requires_grad for p in detectors["ours"].backbone.parameters())
    assert any(f.requires_grad for f in detectors["finetuned"].train().backbone(image))
