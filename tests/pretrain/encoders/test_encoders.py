"""Encoders against torchvision's, and against the paper's Tables 6 and 8 worked out by hand."""

import copy
import math
from fractions import Fraction

import pytest
import torch
from mmdet.models.necks import FPN
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50, shufflenetv2
from torchvision.models.resnet import BasicBlock, Bottleneck

from pretrain.backbone_file import weights_sha256
from pretrain.decoders import Decoder
from pretrain.encoders import ENCODERS, build_encoder, run_block
from pretrain.encoders.presnet import BilinearDownsample, PResNet
from pretrain.encoders.shufflenet import TwoBranchUnit
from pretrain.local_backward import cut_into_segments, streamed_backward
from pretrain.losses.info_nce import info_nce
from pretrain.units import build_units
from transfer.backbones import TransferBackbone

TINY = ["resnet_tiny", "shufflenetv2_tiny", "presnet_tiny"]
STRIDED = (4, 8, 16, 32)
PRESNET_SIDES = {  # section 5.6 at 224; elsewhere by hand: over 4 rounded up, then x9/14 x2/3 ...
    224: (56, 36, 24, 16, 12, 8),
    112: (28, 18, 12, 8, 6, 4),
    70: (18, 12, 8, 5, 4, 3),  # 11.57, 8, 5.33, 3.75, 2.67
    840: (210, 135, 90, 60, 45, 30),  # Mask R-CNN's 800, padded to a multiple of 56
    5: (2, 1, 1, 1, 1, 1),
}


def on_meta(name):
    """The encoder without memory or arithmetic: shapes only."""
    with torch.device("meta"):
        return build_encoder(name).eval()


def conv_work(encoder, side=224):
    """(stage, multiply-adds) of every convolution, for one image."""
    stage_of = {
        id(module): stage
        for stage, blocks in enumerate(encoder.stages())
        for block in blocks
        for part in block
        for module in part.modules()
    }
    work = []

    def count(conv, _, out):
        per_element = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
        work.append((stage_of[id(conv)], out.numel() * per_element))

    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    encoder(torch.empty(1, 3, side, side, device="meta"))
    return work


def macs(encoder):
    return sum(multiply_adds for _, multiply_adds in conv_work(encoder))


def parameter_count(encoder):
    return sum(p.numel() for p in encoder.parameters())


def percent(values):
    return [100 * value / sum(values) for value in values]


# ---- what they are -------------------------------------------------------------------------------


def test_resnet50_is_torchvisions_without_the_fc():
    ours, theirs = build_encoder("resnet50").eval(), resnet50().eval()
    tensors = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert list(ours.state_dict()) == list(tensors)
    ours.load_state_dict(tensors)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for found, layer in zip(
            ours(images), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True
        ):
            expected = layer(expected)
            assert torch.equal(found, expected)
    assert parameter_count(ours) == 25_557_032 - 2_049_000  # fc: 2048 x 1000 + 1000


def test_resnet50_costs_what_torchvision_says():
    fc = 2048 * 1000
    published = ResNet50_Weights.IMAGENET1K_V1.value.meta["_ops"]  # GMACs, fc included
    assert (macs(on_meta("resnet50")) + fc) / 1e9 == pytest.approx(published, abs=5e-4)


def test_shufflenet_50_has_the_published_size_and_cost():
    """Ma et al.: 2.3 GMACs; both figures include an fc of 1000 classes."""
    encoder = on_meta("shufflenetv2_50")
    total_macs = macs(encoder) + 2048 * 1000
    assert total_macs / 1e9 == pytest.approx(2.304, abs=5e-4)
    assert (parameter_count(encoder) + 2_049_000) / 1e6 == pytest.approx(16.57, abs=5e-3)

    # By hand. c: a unit's output, b: half of it; every conv is followed by a norm (2 per channel).
    expected_macs, expected_parameters = 112**2 * 64 * 27, 64 * 27 + 2 * 64
    wide = 64
    for stage, (c, units) in enumerate(((244, 3), (488, 4), (976, 6), (1952, 3))):
        pixels, b = (56 // 2**stage) ** 2, c // 2
        before = (56 // 2 ** max(stage - 1, 0)) ** 2  # the first 1x1 precedes the downsampling
        left = [(9 * wide, pixels), (wide * b, pixels)]
        right = [(wide * b, before), (9 * b, pixels), (b * b, pixels)]
        basic = [(b * b, pixels), (9 * b, pixels), (b * b, pixels)]
        convs = [*left, *right, *(basic * (units - 1))]
        expected_macs += sum(weights * size for weights, size in convs)
        norms = 2 * (wide + b) + 3 * 2 * b + (units - 1) * 3 * 2 * b
        expected_parameters += sum(weights for weights, _ in convs) + norms
        wide = c
    expected_macs += 49 * 1952 * 2048
    expected_parameters += 1952 * 2048 + 2 * 2048
    assert macs(encoder) == expected_macs
    assert parameter_count(encoder) == expected_parameters


def test_shufflenet_beyond_res2_is_torchvisions():
    """torchvision has no two-branch stage 2; from the first stride-2 stage on it is the same."""
    torch.manual_seed(0)
    ours = build_encoder("shufflenetv2_tiny").eval()
    theirs = shufflenetv2.ShuffleNetV2([1, 1, 1], [16, 32, 64, 128, 128]).eval()
    theirs.stage2.load_state_dict(ours.stage3.state_dict())
    theirs.stage3.load_state_dict(ours.stage4.state_dict())
    theirs.stage4.load_state_dict(ours.stage5.state_dict())
    theirs.conv5.load_state_dict(ours.conv6.state_dict())
    with torch.no_grad():
        res2, res3, res4, res5 = ours(torch.randn(2, 3, 64, 64))
        assert torch.equal(res3, theirs.stage2(res2))
        assert torch.equal(res4, theirs.stage3(res3))
        assert torch.equal(res5, theirs.conv5(theirs.stage4(res4)))


def test_a_two_branch_unit_interleaves_two_views_of_the_whole_input():
    torch.manual_seed(0)
    unit = TwoBranchUnit(6, 8, stride=1).eval()
    x = torch.randn(2, 6, 7, 7)
    with torch.no_grad():
        found, left, right = unit(x), unit.branch1(x), unit.branch2(x)
    assert found.shape == (2, 8, 7, 7)
    for channel in range(8):
        assert torch.equal(found[:, channel], (left, right)[channel % 2][:, channel // 2])


def test_presnet_50_is_table_8():
    """Convolutions by hand, as (in, out, kernel, groups); ungrouped projections where it widens."""
    blocks = [("res2", 32, [(32, 56, 3, 1), (56, 56, 3, 1)], 56)]
    blocks += [("res2", 56, [(56, 56, 3, 1), (56, 56, 3, 1)], 56)] * 2
    blocks += [("res3", 56, [(56, 96, 3, 1), (96, 96, 3, 1)], 36)]
    blocks += [("res3", 96, [(96, 96, 3, 1), (96, 96, 3, 1)], 36)] * 2
    wide = 96
    for name, base, groups, side in (
        ("res4", 144, 1, 24),
        ("res5", 256, 2, 16),
        ("res6", 512, 16, 12),
        ("res7", 1024, 128, 8),
    ):
        for number in range(3):
            expansion = groups if name == "res7" and number > 0 else 1
            first, last = (wide, base, 1, groups), (base, 4 * base, 1, expansion)
            blocks.append((name, wide, [first, (base, base, 3, groups), last], side))
            wide = 4 * base
    expected_macs, expected_parameters = 112**2 * 32 * 147, 32 * 147 + 2 * 32
    for _, wide, convs, side in blocks:
        out = convs[-1][1]
        projection = [(wide, out, 1, 1)] if wide != out else []
        for cin, cout, kernel, groups in [*convs, *projection]:
            weights = cin // groups * cout * kernel**2
            expected_macs += weights * side**2
            expected_parameters += weights + 2 * cout
    encoder = on_meta("presnet50")
    assert macs(encoder) == expected_macs == 4_102_049_792
    assert parameter_count(encoder) == expected_parameters == 23_160_816


# ---- Table 6 -------------------------------------------------------------------------------------

TABLE_6 = {  # memory %, FLOPs %, GMACs
    "resnet50": ([43.64, 29.09, 21.82, 5.45], [19.39, 25.09, 35.80, 19.73], 4.14),
    "presnet50": (
        [15.46, 10.96, 19.48, 17.31, 19.48, 17.31],
        [13.50, 14.63, 14.77, 16.62, 20.45, 20.04],
        4.16,
    ),
}


def main_branch_elements(encoder, side=224):
    """Outputs of the residual blocks' own convolutions, by stage: no stem, no shortcut.

    All at the size of the stage's output, as the paper counts: torchvision strides in the 3x3, so
    that the 1x1 before it still puts out a map four times as large.
    """
    elements = []
    for stage, out_side in zip(encoder.stages(), encoder.stage_sides(side), strict=True):
        blocks = [m for b in stage for m in b if isinstance(m, BasicBlock | Bottleneck)]
        convs = [c for block in blocks for c in block.children() if isinstance(c, nn.Conv2d)]
        elements.append(sum(conv.out_channels for conv in convs) * out_side**2)
    return elements


def test_memory_shares_of_resnet50_are_table_6():
    elements = main_branch_elements(on_meta("resnet50"))
    assert [Fraction(55 * n, sum(elements)) for n in elements] == [24, 16, 12, 3]
    assert percent(elements) == pytest.approx(TABLE_6["resnet50"][0], abs=0.005)


def test_memory_shares_of_presnet50_are_table_6_but_for_res4():
    """Table 6 was worked out with 128 base channels in res4; section 5.6 and Table 8 say 144."""
    built = main_branch_elements(on_meta("presnet50"))
    paper = TABLE_6["presnet50"][0]
    as_table_6 = [n * 128 // 144 if stage == 2 else n for stage, n in enumerate(built)]
    assert percent(as_table_6) == pytest.approx(paper, abs=0.005)
    assert percent(built)[2] == pytest.approx(21.39, abs=0.005)  # so the paper's 19.48 is not it
    ratios = [n / share for n, share in zip(built, paper, strict=True)]
    assert ratios[2] / ratios[0] == pytest.approx(144 / 128, rel=1e-3)


@pytest.mark.parametrize("name", TABLE_6)
def test_computation_shares_are_table_6(name):
    _, shares, total = TABLE_6[name]
    by_stage = [0] * len(shares)
    for stage, multiply_adds in conv_work(on_meta(name)):  # the stem counts as res2's
        by_stage[stage] += multiply_adds
    assert percent(by_stage) == pytest.approx(shares, abs=0.6)
    assert sum(by_stage) / 1e9 == pytest.approx(total, rel=0.02)


# ---- the contract --------------------------------------------------------------------------------


def test_the_stem_for_small_images():
    """torchvision's ResNet-50 changed by hand, as SimCLR does for CIFAR-10: 3x3, no max pool."""
    theirs = resnet50()
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool, theirs.fc = nn.Identity(), nn.Identity()
    ours = build_encoder("resnet50_small_images")
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = ours.eval()(images)
        assert torch.equal(features[-1].mean((2, 3)), theirs.eval()(images))
    assert [f.shape[2] for f in features] == list(ours.stage_sides(32)) == [32, 16, 8, 4]
    assert sum(p.numel() for p in ours.parameters()) == 23_508_032 - (49 - 9) * 3 * 64


@pytest.mark.parametrize("name", ENCODERS)
def test_the_contract_holds(name):
    encoder = build_encoder(name).eval()
    side = 70  # not a multiple of the stride
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, side, side))
    assert len(features) == len(encoder.stage_names) == len(encoder.stages())
    for number, (feature, channels, stride) in enumerate(
        zip(features, encoder.out_channels, encoder.strides, strict=True)
    ):
        if isinstance(encoder, PResNet):
            expected = PRESNET_SIDES[side][number]
        else:
            expected = -(-side // stride)
        assert feature.shape == (1, channels, expected, expected)
    in_blocks = [id(p) for b in encoder.blocks() for m in b for p in m.parameters()]
    assert len(in_blocks) == len(set(in_blocks)), "a parameter in two blocks"
    assert set(in_blocks) == {id(p) for p in encoder.parameters()}, "a parameter outside all blocks"
    assert encoder.name == name


def nameless(encoder):
    del encoder.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda encoder: None, "under 'mine' in ENCODERS calls itself 'resnet_tiny'; set its name"),
        (nameless, "under 'mine' in ENCODERS calls itself None; set its name to 'mine'"),
        (lambda encoder: setattr(encoder, "name", "Mine"), "calls itself 'Mine'"),
        (
            lambda encoder: vars(encoder).update(name="mine", strides=(4, 8, 16)),
            r"'mine' has 4 stages, but its strides are \(4, 8, 16\); give one for each stage",
        ),
        (
            lambda encoder: vars(encoder).update(name="mine", stage_names=()),
            r"has 4 stages, but its stage_names are \(\)",
        ),
    ],
)
def test_an_encoder_that_breaks_its_promises_is_not_built(change, message, monkeypatch, coco):
    """Nor trained: its backbone file would be refused by every reader."""
    from mmengine.config import Config

    from pretrain.train import prepare

    def mine():
        encoder = ENCODERS["resnet_tiny"]()
        change(encoder)
        return encoder

    monkeypatch.setitem(ENCODERS, "mine", mine)
    with pytest.raises(ValueError, match=message):
        build_encoder("mine")
    cfg = Config.fromfile("configs/demo/pretrain_loco.py")
    cfg.merge_from_dict({"model.encoder": "mine", "data_root": str(coco / "train2017")})
    with pytest.raises(ValueError, match=message):
        prepare(cfg, world_size=1)


@pytest.mark.parametrize("name", ["resnet50", "shufflenetv2_50", "presnet50"])
def test_output_sizes(name):
    encoder = on_meta(name)
    for side, presnet_sides in PRESNET_SIDES.items():
        strided = tuple(math.ceil(side / stride) for stride in STRIDED)
        expected = presnet_sides if name == "presnet50" else strided
        assert encoder.stage_sides(side) == expected
    features = encoder(torch.empty(1, 3, 112, 840, device="meta"))
    heights, widths = encoder.stage_sides(112), encoder.stage_sides(840)
    assert [f.shape[2:] for f in features] == list(zip(heights, widths, strict=True))


def test_presnet_strides_are_the_true_ones():
    """Exact for multiples of 56, less than one cell off for any other side."""
    encoder = on_meta("presnet_tiny")
    assert encoder.strides == tuple(Fraction(224, side) for side in PRESNET_SIDES[224])
    for side in range(32, 1400):
        for found, stride in zip(encoder.stage_sides(side), encoder.strides, strict=True):
            assert abs(found - side / stride) < 1
            if side % 56 == 0:
                assert found == side / stride


def test_bilinear_downsampling_keeps_every_cell_in_its_place():
    """Of a picture that holds its own coordinates, bilinear interpolation gives them exactly."""
    coordinate = torch.arange(28, dtype=torch.float64) + 0.5
    rows, columns = torch.meshgrid(coordinate, coordinate, indexing="ij")
    found = BilinearDownsample(Fraction(9, 14))(torch.stack([rows, columns])[None])
    expected = (torch.arange(18, dtype=torch.float64) + 0.5) * 14 / 9
    torch.testing.assert_close(found[0, 0], expected[:, None].expand(18, 18))
    torch.testing.assert_close(found[0, 1], expected[None, :].expand(18, 18))


@pytest.mark.parametrize("name", ["resnet50", "shufflenetv2_50", "presnet50"])
def test_conv_blocks_keep_the_channels_and_halve_the_size(name):
    encoder = on_meta(name)
    for channels in encoder.out_channels:
        for stride, expected in ((1, 7), (2, 4)):
            with torch.device("meta"):
                block = encoder.conv_block(channels, stride)
            out = block(torch.empty(2, channels, 7, 7, device="meta"))
            assert out.shape == (2, channels, expected, expected)


def test_a_shuffle_unit_needs_an_even_number_of_channels():
    with pytest.raises(ValueError, match="even number of channels, got 7"):
        build_encoder("shufflenetv2_tiny").conv_block(7, 2)


@pytest.mark.parametrize("name", TINY)
def test_initialisation_follows_the_seed(name):
    digests = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        digests.append(weights_sha256(build_encoder(name).state_dict()))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", ["resnet50", "shufflenetv2_50", "presnet50"])
def test_initial_features_neither_vanish_nor_explode(name):
    torch.manual_seed(0)
    encoder = build_encoder(name).train()
    with torch.no_grad():
        for feature in encoder(torch.randn(4, 3, 64, 64)):
            assert 0.1 < feature.std() < 10


def test_an_unknown_encoder_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown encoder 'vgg'; the encoders are: resnet50"):
        build_encoder("vgg")


# ---- local learning ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["simclr", "gim", "loco"])
@pytest.mark.parametrize("name", TINY[1:])
def test_the_streamed_backward_equals_autograd(name, layout):
    """Autograd runs each unit from end to end; its input, of the stages below, is a constant."""
    torch.manual_seed(0)
    encoder = build_encoder(name).double().train()
    units = build_units(layout, encoder)
    assert len(encoder.blocks()) == len(encoder.stage_names)  # so inputs[k] is that of block k
    decoders = nn.ModuleList(
        Decoder(encoder, unit.stop, conv_blocks=1, out_dim=16) for unit in units
    ).double()
    images = torch.randn(6, 3, 64, 64, dtype=torch.float64)

    slow, slow_decoders = copy.deepcopy(encoder), copy.deepcopy(decoders)
    inputs = [images, *(feature.detach() for feature in copy.deepcopy(encoder)(images))]
    for unit, decoder in zip(units, slow_decoders, strict=True):
        x = inputs[unit.start]
        for block in slow.blocks()[unit.start : unit.stop]:
            x = run_block(block, x)
        info_nce(decoder(x), 0.1).backward()  # adds to what the other units gave

    streamed_backward(
        images,
        cut_into_segments(encoder.blocks(), units),
        list(decoders),
        [lambda embeddings: info_nce(embeddings, 0.1)] * len(units),
    )
    pairs = zip(
        [*encoder.parameters(), *decoders.parameters()],
        [*slow.parameters(), *slow_decoders.parameters()],
        strict=True,
    )
    for found, expected in pairs:
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-13)


# ---- as mmdet backbones --------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_a_transfer_backbone_gives_the_encoders_features_bit_for_bit(name):
    encoder = build_encoder(name).train()
    images = torch.randn(2, 3, 64, 96)
    encoder(images)  # statistics of its own, so that eval mode means something
    encoder.eval()
    stages = range(len(encoder.stage_names))
    backbone = TransferBackbone(name, frozen_stages=len(stages), out_stages=stages, exact=True)
    backbone.train()
    backbone.encoder.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for found, expected in zip(backbone(images), encoder(images), strict=True):
            assert torch.equal(found, expected)


def test_four_stages_of_presnet_feed_a_feature_pyramid():
    """The numbers in its config: stages, channels, strides."""
    full = on_meta("presnet50")
    out_stages, strides = (0, 2, 3, 5), (4, 28 / 3, 14, 28)
    assert [full.out_channels[k] for k in out_stages] == [56, 576, 1024, 4096]
    assert [float(full.strides[k]) for k in out_stages] == list(strides)
    # Each of the four is the stage nearest to its level's stride; none serves two levels.
    for level, stage in zip(STRIDED, out_stages, strict=True):
        distances = [abs(math.log2(stride / level)) for stride in full.strides]
        assert distances.index(min(distances)) == stage

    torch.manual_seed(0)
    backbone = TransferBackbone("presnet_tiny", out_stages=out_stages).eval()
    channels = [backbone.encoder.out_channels[k] for k in out_stages]
    neck = FPN(in_channels=channels, out_channels=8, num_outs=5)
    for height, width in ((112, 168), (70, 99)):  # multiples of 56, and not
        with torch.no_grad():
            maps = neck(backbone(torch.randn(1, 3, height, width)))
        assert [m.shape[2:] for m in maps[:4]] == [
            (backbone.encoder.stage_sides(height)[k], backbone.encoder.stage_sides(width)[k])
            for k in out_stages
        ]
