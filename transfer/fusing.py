"""Frozen bottlenecks on a CPU: each convolution with the ReLU and the sum that follow it as one.

Eager PyTorch writes a map, reads and writes it again for the sum, and again for the ReLU; on a CPU
memory is what a frozen forward waits for. oneDNN does all three while it computes the convolution.
These are the operators that ``torch.compile`` emits; called by name they need no compiler and take
images of any size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from pretrain.encoders import Block


def can_fuse() -> bool:
    """Whether this build of PyTorch has oneDNN and its fused convolutions."""
    return torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise_"
    )


def fuse_bottlenecks(encoder: nn.Module, stages: Sequence[Sequence[Block]]) -> None:
    """Put a :class:`FusedBottleneck` in the place of every bottleneck of ``stages``.

    Args:
        encoder: holds the stages' modules; their norms are folded
            (:func:`transfer.folding.fold_norms`).
        stages: the first of ``encoder.stages()``, frozen.
    """
    inner = {
        id(module): position > 0
        for stage in stages
        for position, block in enumerate(stage)
        for module in block
        if isinstance(module, Bottleneck)
    }
    for parent in list(encoder.modules()):
        for name, module in list(parent.named_children()):
            if id(module) in inner:
                setattr(parent, name, FusedBottleneck(module, overwrite=inner[id(module)]))


class FusedBottleneck(nn.Module):
    """A frozen bottleneck without norms: three fused convolutions, four with a projection.

    Args:
        block: its convolutions are kept, under the same names.
        overwrite: whether the input may be written over when it is the shortcut. Not so in the
            first block of a stage, whose input is what the stage before gave the neck.
    """

    def __init__(self, block: Bottleneck, overwrite: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = block.conv1, block.conv2, block.conv3
        self.downsample = block.downsample
        self.overwrite = overwrite

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        y = _convolution_relu(self.conv2, _convolution_relu(self.conv1, x))
        if self.downsample is not None:
            shortcut = self.downsample(x)
        else:
            shortcut = x if self.overwrite else x.clone()
        return _add_convolution_relu(shortcut, self.conv3, y)


def _convolution_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """relu(conv(x))."""
    convolve = torch.ops.mkldnn._convolution_pointwise
    return convolve(x, conv.weight, conv.bias, *_geometry(conv), "relu", [], "")


def _add_convolution_relu(total: Tensor, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """relu(total + conv(x)), written over ``total``."""
    convolve = torch.ops.mkldnn._convolution_pointwise_.binary
    geometry = _geometry(conv)
    return convolve(total, x, conv.weight, conv.bias, *geometry, "add", 1.0, "relu", [], "")


def _geometry(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.padding, conv.stride, conv.dilation, conv.groups
