"""The encoders under mmdetection's Mask R-CNN: what goes into the FPN, and what lies where."""

import copy
import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData
from torch import nn

from pretrain.encoders import build_encoder
from results.record.protocol import deviations
from results.tables.load import load_records
from results.tables.paper import TABLE2
from results.tables.tables import transfer_tables
from tests.helpers.run_records import make_record, write_records
from transfer.hooks import found, frozen_digests

register_all_modules()

DETECTORS = {  # the leaf of each encoder, and the small encoder of the same kind
    "resnet50": ("configs/mask_rcnn_loco_r50_frozen.py", "resnet_tiny"),
    "shufflenetv2_50": ("configs/mask_rcnn_loco_sh50_frozen.py", "shufflenetv2_tiny"),
    "presnet50": ("configs/mask_rcnn_loco_pr50_frozen.py", "presnet_tiny"),
}
SIDE = 1344  # px, a multiple of 32 and of 56
CONFIGS = sorted(str(p) for p in Path("configs").rglob("mask_rcnn_*.py") if "_base_" not in p.parts)
FROZEN_1X = sorted(str(p) for p in Path("configs").glob("mask_rcnn_*_frozen.py"))
read = cache(Config.fromfile)


def detector_config(encoder):
    return copy.deepcopy(read(DETECTORS[encoder][0]))


def out_stages(cfg):
    stages = len(on_meta(cfg.model.backbone.encoder).stage_names)
    return cfg.model.backbone.get("out_stages", range(stages))


@cache
def on_meta(name):
    with torch.device("meta"):
        return build_encoder(name)


# ---- the configs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS)
def test_detector_and_encoder_agree(path):
    """Channels, strides, padding follow from the encoder; anchors are as large as ResNet-50's."""
    cfg = read(path)
    encoder = on_meta(cfg.model.backbone.encoder)
    strides = [encoder.strides[k] for k in out_stages(cfg)]
    assert cfg.model.neck.in_channels == [encoder.out_channels[k] for k in out_stages(cfg)]
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        assert cfg.model.roi_head[extractor].featmap_strides == [float(s) for s in strides]
    anchors = TASK_UTILS.build(cfg.model.rpn_head.anchor_generator)
    assert anchors.strides == [(float(s),) * 2 for s in (*strides, 2 * strides[-1])]
    assert anchors.base_sizes == [4, 8, 16, 32, 64]
    divisor = cfg.model.data_preprocessor.pad_size_divisor
    assert {(divisor / Fraction(stride)).denominator for stride in strides} == {1}


@pytest.mark.parametrize("path", FROZEN_1X)
def test_a_frozen_leaf(path):
    """Says its command and the paper's figures, freezes everything, keeps to its own protocol."""
    cfg, text = copy.deepcopy(read(path)), Path(path).read_text()
    assert f"bash tools/dist_train.sh {path}" in text and "Cost: " in text
    with torch.device("meta"):
        backbone = MODELS.build(cfg.model.backbone)
    assert not any(p.requires_grad for p in backbone.parameters())
    assert {n for n, _ in backbone.frozen_tensors()} == set(backbone.encoder.state_dict())

    quoted = re.findall(r"AP\^bb ([\d.]+), AP ([\d.]+)\)", text)
    rows = TABLE2.values.query(
        "encoder == @backbone.encoder.name and method == @cfg.method and dataset == 'coco2017'"
    )
    if rows.empty:
        assert quoted == [] and "no row of the paper" in text
    else:  # the last two are the longest pretraining's
        assert rows["metric"].tolist()[-2:] == ["box_ap", "mask_ap"]
        assert quoted == [tuple(str(value) for value in rows["value"].tolist()[-2:])]

    cfg.dataset = {"name": "coco2017", "train_images": 118287, "val_images": 5000}
    cfg.optim_wrapper.optimizer.lr = cfg.base_lr * cfg.global_batch_size / cfg.base_batch_size
    runner = SimpleNamespace(cfg=cfg, max_epochs=cfg.max_epochs, max_iters=None)
    assert deviations(cfg.protocol.states, found(runner)) == ()


def test_every_row_of_table_2_has_its_leaf():
    leaves = {(cfg.method, cfg.model.backbone.encoder) for cfg in map(read, FROZEN_1X)}
    assert {row[1:3] for row in TABLE2.rows} <= leaves


@pytest.mark.parametrize("encoder", DETECTORS)
def test_which_cell_of_table_2_a_run_fills(encoder, tmp_path):
    cfg = detector_config(encoder)
    record = make_record(
        method=cfg.method, encoder=cfg.model.backbone.encoder, protocol=cfg.protocol.name
    )
    records, problems = load_records([write_records(tmp_path, record)])
    assert problems == []
    tables = {table.name: table.cells for table in transfer_tables(records)}
    if encoder == "presnet50":
        assert list(tables) == ["other_frozen"]
        return
    filled = tables["table2"][tables["table2"]["n"] > 0]
    assert set(filled["arch_label"]) == {{"resnet50": "R-50", "shufflenetv2_50": "Sh-50"}[encoder]}
    assert filled[["method", "dataset", "metric"]].to_numpy().tolist() == [
        ["loco", "coco2017", "box_ap"],
        ["loco", "coco2017", "mask_ap"],
    ]


# ---- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", DETECTORS)
def test_the_configs_backbone_gives_the_encoders_features_bit_for_bit(encoder):
    torch.manual_seed(0)
    backbone = MODELS.build({**detector_config(encoder).model.backbone, "exact": True})
    pretrained = build_encoder(encoder).train()
    with torch.no_grad():
        pretrained(torch.randn(2, 3, 64, 64))  # statistics of its own
    backbone.encoder.load_state_dict(pretrained.state_dict())
    images = torch.randn(2, 3, 56, 112)
    backbone.train()  # frozen: eval all the same
    with torch.no_grad():
        expected = pretrained.eval()(images)
    features = backbone(images)
    assert len(features) == 4 and not any(feature.requires_grad for feature in features)
    for feature, stage in zip(features, out_stages(detector_config(encoder)), strict=True):
        assert torch.equal(feature, expected[stage])


# ---- what lies where -----------------------------------------------------------------------------


@cache
def where_cells_look(name, side):
    """For every stage, the column (in px; a pixel's centre lies at a half) that a cell looks at.

    Every convolution keeps its middle tap only and averages its channels, the max pool averages, so
    the encoder is linear, and a picture of its own columns comes out as the place of each cell.
    """
    encoder = build_encoder(name).double().eval()
    encoder.maxpool = nn.AvgPool2d(kernel_size=3, stride=2, padding=1)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            middle = module.kernel_size[0] // 2
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.weight[:, :, middle, middle], 1 / module.weight.shape[1])
    columns = (torch.arange(side, dtype=torch.float64) + 0.5).expand(1, 3, 32, side)
    with torch.no_grad():
        maps = encoder(columns), encoder(torch.ones_like(columns))
    return [(columns / ones)[0, 0, 0] for columns, ones in zip(*maps, strict=True)]


@pytest.mark.parametrize("encoder", DETECTORS)
def test_anchors_lie_half_a_pixel_from_where_their_cell_looks(encoder):
    """As over mmdetection's own ResNet-50, at any stride."""
    cfg = detector_config(encoder)
    places = where_cells_look(DETECTORS[encoder][1], SIDE)
    levels = [places[k] for k in out_stages(cfg)]
    levels.append(levels[-1][::2])  # the FPN's fifth takes every other cell
    generator = TASK_UTILS.build(cfg.model.rpn_head.anchor_generator)
    grids = generator.grid_priors(
        [(1, len(level)) for level in levels], dtype=torch.float64, device="cpu"
    )
    for level, anchors in zip(levels, grids, strict=True):
        centres = (anchors[:, 0] + anchors[:, 2]).view(len(level), -1) / 2
        assert centres.std(dim=1).max() < 1e-4  # those of one cell share their centre
        inner = slice(1, -1)  # at the edges convolutions and bilinear cells see less
        torch.testing.assert_close(
            centres[inner, 0] + 0.5, level[inner], rtol=0, atol=1e-4, check_dtype=False
        )


@pytest.mark.parametrize("encoder", DETECTORS)
def test_anchors_over_padding_are_left_out(encoder):
    """Of a batch's padded size, those count that lie over the image's own padded size."""
    cfg = detector_config(encoder)
    divisor = cfg.model.data_preprocessor.pad_size_divisor
    generator = TASK_UTILS.build(cfg.model.rpn_head.anchor_generator)
    strides = [Fraction(s).limit_denominator(3) for s, _ in generator.strides]
    ours, batch = (4 * divisor, 22 * divisor), (14 * divisor, 24 * divisor)
    sizes = [tuple(int(side / stride) for side in batch) for stride in strides]
    for stride, size, flags in zip(
        strides, sizes, generator.valid_flags(sizes, ours, device="cpu"), strict=True
    ):
        valid = flags.view(*size, -1).all(dim=2)
        height, width = (int(side / stride) for side in ours)
        assert valid[:height, :width].all() and valid.sum() == height * width


@pytest.mark.parametrize("roi", ["bbox_roi_extractor", "mask_roi_extractor"])
@pytest.mark.parametrize("encoder", DETECTORS)
def test_roi_features_come_from_their_place(encoder, roi):
    """On maps that hold their own columns, each bin of a RoI reads the column of its centre.

    mmdetection takes cell j's place to be (j + 1/2) stride. That is where bilinear resizing leaves
    it, but for the stem's 1.5 px; a strided convolution looks at j stride + 1/2, and so the RoIs of
    ResNet-50 are read half a cell aside.
    """
    cfg = detector_config(encoder)
    extractor = SingleRoIExtractor(
        **{k: v for k, v in cfg.model.roi_head[roi].items() if k not in ("type", "out_channels")},
        out_channels=1,
    )
    # Each level's: sqrt(area) below 112, 224, 448 px, and above. (image, x1, y1, x2, y2)
    rois = torch.tensor(
        [
            [0.0, 401.0, 300, 500, 390],
            [0.0, 333.0, 310, 480, 470],
            [0.0, 257.5, 300, 700, 500],
            [0.0, 200.0, 190, 930, 700],
        ]
    )
    assert extractor.map_roi_levels(rois, 4).tolist() == [0, 1, 2, 3]
    bins = extractor.roi_layers[0].output_size[1]
    fractions = (torch.arange(bins) + 0.5) / bins
    centres = rois[:, 1:2] + fractions * (rois[:, 3:4] - rois[:, 1:2])

    strides = torch.tensor(extractor.featmap_strides)
    sides = [round(SIDE / float(stride)) for stride in strides]
    ideal = [(torch.arange(n) + 0.5) * s for n, s in zip(sides, strides, strict=True)]
    places = where_cells_look(DETECTORS[encoder][1], SIDE)
    looked_at = [places[k].float() for k in out_stages(cfg)]
    aside = torch.full((4,), 1.5) if encoder == "presnet50" else strides / 2 - 0.5
    for columns, shift in ((ideal, torch.zeros(4)), (looked_at, aside)):
        maps = tuple(c.expand(1, 1, len(c), len(c)) for c in columns)
        features = extractor(tuple(m.contiguous() for m in maps), rois)
        expected = (centres - shift[:, None])[:, None, None].expand_as(features)
        torch.testing.assert_close(features, expected, rtol=0, atol=2e-3)


def test_presnets_pyramid_upsamples_in_place():
    """A top map that holds its own columns reaches every level with the columns of that level."""
    cfg = detector_config("presnet50")
    neck = MODELS.build({**cfg.model.neck, "in_channels": [1] * 4, "out_channels": 1,
                         "norm_cfg": None}).double()  # fmt: skip
    for number, conv in enumerate(neck.lateral_convs):
        nn.init.constant_(conv.conv.weight, float(number == 3))  # the other levels add nothing
    for conv in neck.fpn_convs:
        nn.init.dirac_(conv.conv.weight)
    strides = cfg.model.roi_head.bbox_roi_extractor.featmap_strides
    columns = [
        ((torch.arange(round(SIDE / s), dtype=torch.float64) + 0.5) * s).expand(
            1, 1, round(SIDE / s), -1
        )
        for s in strides
    ]
    with torch.no_grad():
        levels = neck(tuple(columns))
    for found_columns, expected, stride in zip(levels[:4], columns, strides, strict=True):
        edge = round(28 / stride)  # half a cell of each level above
        torch.testing.assert_close(found_columns[..., edge:-edge], expected[..., edge:-edge])


# ---- the whole detector --------------------------------------------------------------------------


def two_images():
    """Of different sizes, each with one object; no multiples of 32 or 56."""
    images, samples = [], []
    for height, width in ((100, 150), (90, 165)):
        sample = DetDataSample(
            metainfo={
                "img_shape": (height, width), "ori_shape": (height, width),
                "scale_factor": (1.0, 1.0), "img_id": 0,
            }
        )  # fmt: skip
        mask = torch.zeros(1, height, width, dtype=torch.uint8)
        mask[0, 20:60, 30:80] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[30.0, 20, 80, 60]]), labels=torch.tensor([1]),
            masks=BitmapMasks(mask.numpy(), height, width),
        )  # fmt: skip
        images.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


@pytest.mark.parametrize("encoder", DETECTORS)
def test_one_step_and_one_prediction(encoder):
    """The config's own detector at full width, with fewer RoIs, on two small images."""
    cfg = detector_config(encoder)
    few = {"nms_pre": 100, "max_per_img": 20}
    cfg.merge_from_dict({"model.train_cfg.rpn_proposal": few, "model.test_cfg.rpn": few})
    cfg.model.train_cfg.rcnn.sampler.num = 8
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    synced = [name for name, m in model.named_modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(synced) == 8 + 4 + 4  # FPN, box head, mask head: section 5.2
    model = revert_sync_batchnorm(model)
    model.init_weights()
    model.train()
    before = frozen_digests(model.backbone)
    maps = []
    model.neck.register_forward_hook(lambda _, inputs, outputs: maps.append((inputs[0], outputs)))

    batch = model.data_preprocessor(two_images(), training=True)
    loss, _ = model.parse_losses(model(**batch, mode="loss"))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None for p in model.backbone.parameters())
    assert frozen_digests(model.backbone) == before  # statistics too
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert [n for n, p in model.neck.named_parameters() if not p.grad.any()] == []
    features, levels = maps[0]
    padded = batch["inputs"].shape[2:]
    assert padded == ((112, 168) if encoder == "presnet50" else (128, 192))
    for feature, level, (stride, _) in zip(
        features, levels[:4], model.rpn_head.prior_generator.strides[:4], strict=True
    ):
        assert not feature.requires_grad
        assert [side * stride for side in level.shape[2:]] == pytest.approx(padded)

    model.eval()
    with torch.no_grad():
        samples = model.test_step(two_images())
    for sample in samples:
        height, width = sample.ori_shape
        boxes = sample.pred_instances.bboxes
        assert len(boxes) == 3 and sample.pred_instances.masks.shape == (3, height, width)
        assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
