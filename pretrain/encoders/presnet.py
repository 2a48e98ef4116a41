"""Progressive ResNet-50 (section 5.6 and Table 8): six stages of balanced memory and cost."""

from fractions import Fraction
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

from pretrain.encoders.contract import Block, ConvolutionalEncoder

STAGE_SIDES = (56, 36, 24, 16, 12, 8)  # section 5.6, of a 224 px image
RATIOS = tuple(Fraction(side, below) for below, side in pairwise(STAGE_SIDES))
BASIC_STAGES = 2  # res2 and res3 are made of basic blocks, the others of bottlenecks


class PResNet(ConvolutionalEncoder):
    """ResNet in six stages that shrink little by little, bilinearly instead of by strides.

    With the defaults: 4.102 GMACs in convolutions at 224 (the paper: 4.16 G) and 23.16 M
    parameters. Table 8 also groups the expanding 1x1 in the later blocks of res5 and res6; that
    gives 3.75 GMACs and 14.9 % of them in res6, where Table 6 has 4.16 G and 20.45 %. So the
    expansion is grouped in res7 alone, which is at most 0.41 points off Table 6's shares. Table 6's
    memory share of res4 needs 128 base channels where section 5.6 and Table 8 say 144: 144 it is.

    As an mmdet backbone four of the six stages feed the FPN, those nearest (in log2) to ResNet's
    strides 4, 8, 16, 32: res2 (4), res4 (9.33), res5 (14) and res7 (28);
    ``configs/_base_/mask_rcnn_pr50.py`` has the numbers. Where the padded sides are multiples of 56
    every map is exactly image / stride; elsewhere sizes are rounded, and the far edge of a map lies
    less than one cell off.

    Args:
        name: the registered name, kept as provenance.
        depth: blocks of each stage.
        stem_channels: channels of conv1.
        base_channels: of each stage; a bottleneck puts out four times as many.
        groups: of each stage.
    """

    kaiming_mode = "fan_in"  # torch's fan-out takes no account of groups
    residual_blocks = (BasicBlock, Bottleneck)
    stage_names = ("res2", "res3", "res4", "res5", "res6", "res7")
    strides = tuple(Fraction(224, side) for side in STAGE_SIDES)

    def __init__(
        self,
        name: str = "presnet50",
        depth: int = 3,
        stem_channels: int = 32,
        base_channels: tuple[int, ...] = (56, 96, 144, 256, 512, 1024),
        groups: tuple[int, ...] = (1, 1, 1, 2, 16, 128),
    ) -> None:
        super().__init__()
        self.name = name
        self.groups = groups
        self.out_channels = tuple(
            base * (1 if k < BASIC_STAGES else Bottleneck.expansion)
            for k, base in enumerate(base_channels)
        )
        self.conv1 = nn.Conv2d(3, stem_channels, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        in_channels = (stem_channels, *self.out_channels[:-1])
        self.layers = nn.ModuleList(
            nn.Sequential(
                self._block(k, in_channels[k], channels),
                *(self._block(k, channels, channels) for _ in range(depth - 1)),
            )
            for k, channels in enumerate(self.out_channels)
        )
        self.downsample = nn.ModuleList(BilinearDownsample(ratio) for ratio in RATIOS)
        self.initialise(self)

    def stages(self) -> list[list[Block]]:
        stages: list[list[Block]] = [
            [(block,) for block in layer.children()] for layer in self.layers
        ]
        stages[0][0] = (self.conv1, self.bn1, self.relu, self.maxpool, *stages[0][0])
        for stage, downsample in zip(stages[1:], self.downsample, strict=True):
            stage[0] = (downsample, *stage[0])
        return stages

    def stage_sides(self, image_side: int) -> tuple[int, ...]:
        """The image's side over 4, rounded up, then each map's over the one before, rounded."""
        sides = [-(-image_side // 4)]
        for ratio in RATIOS:
            sides.append(scaled(sides[-1], ratio))
        return tuple(sides)

    def conv_block(self, channels: int, stride: int) -> nn.Module:
        """The later block of the first stage that is as wide, behind bilinear downsampling."""
        stage = next(
            (k for k, width in enumerate(self.out_channels) if channels <= width),
            len(self.out_channels) - 1,
        )
        block = self._block(stage, channels, channels)
        return (
            block if stride == 1 else nn.Sequential(BilinearDownsample(Fraction(1, stride)), block)
        )

    def _block(self, stage: int, in_channels: int, out_channels: int) -> nn.Module:
        """A residual block; the first of a stage, which widens, projects its shortcut."""
        widens = in_channels != out_channels
        shortcut = None
        if widens:
            shortcut = nn.Sequential(
                conv1x1(in_channels, out_channels), nn.BatchNorm2d(out_channels)
            )
        if stage < BASIC_STAGES:
            return BasicBlock(in_channels, out_channels, downsample=shortcut)
        base, groups = out_channels // Bottleneck.expansion, self.groups[stage]
        block = Bottleneck(  # torchvision groups the 3x3 alone; base_width keeps it `base` wide
            in_channels, base, downsample=shortcut, groups=groups, base_width=64 / groups
        )
        block.conv1 = nn.Conv2d(in_channels, base, 1, groups=groups, bias=False)
        if stage == len(STAGE_SIDES) - 1 and not widens:  # its later blocks, see above
            block.conv3 = nn.Conv2d(base, out_channels, 1, groups=groups, bias=False)
        return block


class BilinearDownsample(nn.Module):
    """Bilinear interpolation to ``ratio`` times the size (section 5.6).

    Args:
        ratio: of the output's side to the input's.
    """

    def __init__(self, ratio: Fraction) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H * ratio, W * ratio), rounded as :func:`scaled` does."""
        size = [scaled(side, self.ratio) for side in x.shape[2:]]
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}"


def scaled(side: int, ratio: Fraction) -> int:
    """``side * ratio`` to the nearest integer, a half up; at least 1. Integers all the way."""
    return max(1, (2 * side * ratio.numerator + ratio.denominator) // (2 * ratio.denominator))
