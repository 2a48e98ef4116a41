"""ShuffleNet v2-50 (Ma et al., 2018, appendix) as stages, from torchvision's units."""

from torch import nn
from torchvision.models.shufflenetv2 import InvertedResidual

from pretrain.encoders.contract import Block, ConvolutionalEncoder


class ShuffleNetV2(ConvolutionalEncoder):
    """ShuffleNet v2 in the shape of ResNet-50: four stages of basic units without a residual sum.

    With the defaults it is that of arXiv 1807.11164 without the fc layer: 2.302 GMACs at 224 and
    14.52 M parameters; with the fc, 2.304 G (the source: 2.3 G) and 16.57 M. The first unit of
    every stage has two branches that each see the whole input; in res2 it keeps the resolution.
    The others pass half of the channels through. conv6 belongs to res5.

    As an mmdet backbone it gives its four stages to the FPN, as ResNet-50 does:
    ``in_channels=[244, 488, 976, 2048]`` at strides 4, 8, 16, 32.

    Args:
        name: the registered name, kept as provenance.
        depths: units of each stage.
        stem_channels: channels of conv1.
        width: channels of res2; stage k puts out ``width * 2**k``, until conv6. Even.
        last_channels: channels of conv6.
    """

    kaiming_mode = "fan_in"  # torch's fan-out takes no account of groups
    residual_blocks = (InvertedResidual,)
    stage_names = ("res2", "res3", "res4", "res5")
    strides = (4, 8, 16, 32)

    def __init__(
        self,
        name: str = "shufflenetv2_50",
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        stem_channels: int = 64,
        width: int = 244,
        last_channels: int = 2048,
    ) -> None:
        super().__init__()
        self.name = name
        channels = tuple(width * 2**k for k in range(4))
        self.out_channels = (*channels[:3], last_channels)
        self.conv1 = _conv_norm_relu(3, stem_channels, kernel_size=3, stride=2)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        in_channels = (stem_channels, *channels[:3])
        self.stage2, self.stage3, self.stage4, self.stage5 = (
            nn.Sequential(
                TwoBranchUnit(in_channels[k], channels[k], stride=1 if k == 0 else 2),
                *(InvertedResidual(channels[k], channels[k], 1) for _ in range(depths[k] - 1)),
            )
            for k in range(4)
        )
        self.conv6 = _conv_norm_relu(channels[3], last_channels, kernel_size=1)
        self.initialise(self)

    def stages(self) -> list[list[Block]]:
        layers = (self.stage2, self.stage3, self.stage4, self.stage5)
        stages: list[list[Block]] = [[(unit,) for unit in layer] for layer in layers]
        stages[0][0] = (self.conv1, self.maxpool, *stages[0][0])
        stages[-1][-1] = (*stages[-1][-1], self.conv6)
        return stages

    def conv_block(self, channels: int, stride: int) -> nn.Module:
        if channels % 2:
            raise ValueError(
                f"a unit of {self.name} joins two halves: it needs an even number of channels, "
                f"got {channels}"
            )
        return InvertedResidual(channels, channels, stride)


class TwoBranchUnit(InvertedResidual):
    """The unit that begins a stage: both branches convolve the whole input, at any stride.

    torchvision has two branches at stride 2 only; res2 needs them at stride 1, to widen its input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 2)
        for depthwise in (self.branch1[0], self.branch2[3]):
            depthwise.stride = (stride, stride)


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
