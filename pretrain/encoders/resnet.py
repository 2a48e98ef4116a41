"""ResNet (He et al., 2016) as stages, from torchvision's blocks and with torchvision's names."""

from torch import nn
from torchvision.models.resnet import Bottleneck, conv1x1

from pretrain.encoders.contract import Block, ConvolutionalEncoder


class ResNet(ConvolutionalEncoder):
    """Bottleneck ResNet in four stages: conv1+res2, res3, res4, res5 (section 4).

    With the defaults it is torchvision's ``resnet50`` without the fc layer: the same modules, the
    same parameter names, the same numbers. ``depths`` and ``width`` make it shallower and narrower.

    Args:
        name: the registered name, kept as provenance.
        depths: residual blocks of each stage.
        width: channels of the stem; stage k puts out ``4 * width * 2**k``.
        small_images: the stem that SimCLR uses on CIFAR-10 (Chen et al., 2020, appendix B.9): a 3x3
            convolution without stride, no max pool. All strides are a quarter of the usual.
    """

    residual_blocks = (Bottleneck,)
    stage_names = ("res2", "res3", "res4", "res5")
    strides = (4, 8, 16, 32)

    def __init__(
        self,
        name: str = "resnet50",
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        width: int = 64,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.out_channels = tuple(Bottleneck.expansion * width * 2**k for k in range(4))
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        if small_images:
            self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
            self.maxpool = nn.Identity()
            self.strides = (1, 2, 4, 8)
        in_channels = (width, *self.out_channels[:3])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(in_channels[k], width * 2**k, depths[k], stride=1 if k == 0 else 2)
            for k in range(4)
        )
        self.initialise(self)

    def stages(self) -> list[list[Block]]:
        stem: Block = (self.conv1, self.bn1, self.relu, self.maxpool)
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        stages: list[list[Block]] = [[(block,) for block in layer] for layer in layers]
        stages[0][0] = stem + stages[0][0]
        return stages

    def conv_block(self, channels: int, stride: int) -> nn.Module:
        return _bottleneck(channels, channels // Bottleneck.expansion, stride)


def _stage(in_channels: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    first = _bottleneck(in_channels, planes, stride)
    rest = (Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)


def _bottleneck(in_channels: int, planes: int, stride: int) -> Bottleneck:
    """A bottleneck whose shortcut is a projection wherever the shape changes."""
    out_channels = planes * Bottleneck.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
        )
    return Bottleneck(in_channels, planes, stride, shortcut)
