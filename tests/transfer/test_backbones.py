"""The encoders under Mask R-CNN: frozen, folded, in a checkpoint; and what lies where over them."""

import copy
from fractions import Fraction
from functools import cache

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import register_all_modules
from torch import nn

from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder
from tests.helpers.detectors import read
from transfer.backbones import TransferBackbone, fold_norms

register_all_modules()

DETECTORS = {  # the leaf of each encoder, and the small encoder of the same kind
    "resnet50": ("configs/mask_rcnn_loco_r50_frozen.py", "resnet_tiny"),
    "shufflenetv2_50": ("configs/mask_rcnn_loco_sh50_frozen.py", "shufflenetv2_tiny"),
    "presnet50": ("configs/mask_rcnn_loco_pr50_frozen.py", "presnet_tiny"),
}
TINY = [tiny for _, tiny in DETECTORS.values()]
KINDS = [  # all others are like one of them, see test_configs.py
    *(f"configs/mask_rcnn_loco_{kind}.py" for kind in (
        "r50_frozen", "sh50_frozen", "pr50_frozen", "r50_coco1k", "r50_frozen_cityscapes",
        "sh50_frozen_cityscapes",
    )),
    *(f"configs/demo/mask_rcnn_{kind}.py" for kind in ("loco", "loco_cityscapes", "scenes20")),
]  # fmt: skip
SIDE = 1344  # px, a multiple of 32 and of 56


def detector_config(encoder):
    return copy.deepcopy(read(DETECTORS[encoder][0]))


def out_stages(cfg):
    stages = len(on_meta(cfg.model.backbone.encoder).stage_names)
    return cfg.model.backbone.get("out_stages", range(stages))


@cache
def on_meta(name):
    with torch.device("meta"):
        return build_encoder(name)


def lively(encoder: nn.Module) -> nn.Module:
    """Norm statistics and parameters that a fold could get wrong."""
    torch.manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return encoder.eval()


# ---- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (1, 3)])
def test_features_are_the_encoders_bit_for_bit(backbone_file, stages):
    backbone = TransferBackbone("resnet_tiny", str(backbone_file), 4, stages, exact=True)
    encoder = build_encoder("resnet_tiny").eval()
    load_backbone(encoder, backbone_file)
    images = torch.randn(2, 3, 64, 96)
    backbone.train()  # frozen: eval all the same
    with torch.no_grad():
        expected = encoder(images)
    for found, stage in zip(backbone(images), stages, strict=True):
        assert torch.equal(found, expected[stage])


@pytest.mark.parametrize("frozen_stages", range(5))
def test_what_is_frozen(frozen_stages):
    backbone = TransferBackbone("resnet_tiny", frozen_stages=frozen_stages, exact=True).train()
    prefixes = [("conv1", "bn1", "layer1"), ("layer2",), ("layer3",), ("layer4",)]
    frozen = tuple(p for stage in prefixes[:frozen_stages] for p in stage)
    for name, parameter in backbone.encoder.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen) if frozen else True, name
    for name, module in backbone.encoder.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.training != (bool(frozen) and name.startswith(frozen)), name
    features = backbone(torch.randn(2, 3, 64, 64))
    assert [f.requires_grad for f in features] == [k >= frozen_stages for k in range(4)]
    expected = {n for n in backbone.encoder.state_dict() if frozen and n.startswith(frozen)}
    assert {name for name, _ in backbone.frozen_tensors()} == expected


def test_stages_that_do_not_exist_are_refused():
    message = "stages res2, res3, res4, res5: frozen_stages must be 0 to 4"
    with pytest.raises(ValueError, match=message):
        TransferBackbone("resnet_tiny", frozen_stages=5)


# ---- folded norms --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_folded_norms_leave_the_features(name):
    encoder = lively(build_encoder(name)).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = encoder(images)
        fold_norms(encoder, [encoder])
        found = encoder(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-12 * b.norm()


@pytest.mark.parametrize("name", TINY)
def test_the_backbone_of_a_detector_agrees_with_the_encoder(name):
    stages = len(build_encoder(name).stage_names)
    backbones = []
    for exact in (False, True):
        torch.manual_seed(1)
        backbones.append(TransferBackbone(name, frozen_stages=stages, exact=exact))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbones[0].modules())
    images = torch.randn(1, 3, 112, 112)
    for a, b in zip(*(backbone(images) for backbone in backbones), strict=True):
        assert a.is_contiguous()
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_only_frozen_stages_are_folded():
    backbone = TransferBackbone("resnet_tiny", frozen_stages=2)
    left = {n for n, m in backbone.encoder.named_modules() if isinstance(m, nn.BatchNorm2d)}
    modules = build_encoder("resnet_tiny").named_modules()
    every = {n for n, m in modules if isinstance(m, nn.BatchNorm2d)}
    assert left == {name for name in every if name.startswith(("layer3", "layer4"))}
    encoder = build_encoder("resnet_tiny").train()
    with pytest.raises(ValueError, match=r"norm bn1 of ResNet cannot be folded.*exact=True"):
        fold_norms(encoder, [encoder])


# ---- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_is_trained_and_loads_strictly(backbone_file):
    backbone = TransferBackbone("resnet_tiny", str(backbone_file), frozen_stages=3)
    assert all(name.startswith("encoder.layer4.") for name in backbone.state_dict())
    detector = nn.ModuleDict({"backbone": backbone, "neck": nn.Linear(2, 2)})
    whole = copy.deepcopy(detector.state_dict())
    assert {name for name in whole if name.startswith("backbone")} == {
        f"backbone.{name}" for name in backbone.state_dict()
    }
    detector.load_state_dict(whole)
    for name in ("backbone.encoder.layer4.0.conv1.weight", "neck.weight"):
        with pytest.raises(RuntimeError, match=f"Missing key.*{name}"):
            detector.load_state_dict({k: v for k, v in whole.items() if k != name})


def test_a_random_backbone_is_in_the_checkpoint():
    backbone = TransferBackbone("resnet_tiny", frozen_stages=4)
    assert {"encoder.conv1.weight", "encoder.conv1.bias"} <= set(backbone.state_dict())
    other = TransferBackbone("resnet_tiny", frozen_stages=4)
    other.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone(images)[-1], other(images)[-1])


# ---- the configs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KINDS)
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
