"""What every encoder promises: named stages, made of blocks, run in order."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Block = tuple[nn.Module, ...]
"""Modules applied one after the other; the smallest piece that local learning never splits."""


class Encoder(nn.Module):
    """A network seen as a chain of stages of blocks (section 4, Fig. 1): all that local learning
    needs. Detectors need a :class:`ConvolutionalEncoder`.

    A subclass sets the attributes below and implements :meth:`stages`. What a stage puts out is
    (N, channels), or (N, ..., channels) with its positions between.

    Attributes:
        name: the name under which :func:`pretrain.encoders.build_encoder` knows it.
        stage_names: one name a stage, from the input up: ``("res2", "res3", "res4", "res5")``.
        out_channels: channels of each stage's output.
    """

    name: str
    stage_names: tuple[str, ...]
    out_channels: tuple[int, ...]

    def stages(self) -> list[list[Block]]:
        """The blocks of every stage, in order; the stem belongs to the first block.

        Built anew at each call, so that a module that was replaced (a converted norm) is seen.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its stages are")

    def blocks(self) -> list[Block]:
        """All blocks of all stages as one chain."""
        return [block for stage in self.stages() for block in stage]

    def check_stages(self, names: Sequence[str], option: str) -> None:
        """Refuse ``names`` that are not stages; ``option`` is where they were given.

        Raises:
            ValueError: names the stages that exist.
        """
        unknown = [name for name in names if name not in self.stage_names]
        if unknown:
            raise ValueError(
                f"{option} names {', '.join(map(repr, unknown))}, but the stages of {self.name} "
                f"are {', '.join(self.stage_names)}"
            )

    def conv_block(self, channels: int, stride: int) -> nn.Module:
        """A block for decoders; only convolutional encoders have one.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.name} has no conv block for decoders; set model.decoder.conv_blocks=0"
        )

    def pooling(self) -> nn.Module:
        """What makes (N, channels) of a stage's output: here the mean over positions."""
        return MeanOverPositions()

    def counted_layers(self, block: Block) -> list[nn.Conv2d | nn.Linear]:
        """The layers of a block whose outputs Table 6 would count as its memory: here all."""
        return [
            layer
            for module in block
            for layer in module.modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        ]

    def initialise(self, part: nn.Module) -> None:
        """Give ``part``, the encoder or layers of its kind, fresh random weights in place."""
        for module in part.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of every stage.

        Args:
            images: normalised, (N, 3, H, W).
        """
        features = []
        x = images
        for stage in self.stages():
            for block in stage:
                x = run_block(block, x)
            features.append(x)
        return tuple(features)


class ConvolutionalEncoder(Encoder):
    """An encoder whose stages put out maps, (N, out_channels[k], stage_sides(H)[k],
    stage_sides(W)[k]); its residual blocks are torchvision's.

    Parameters keep torchvision's names, so a backbone file needs no renaming anywhere.

    Attributes:
        strides: downsampling of each stage's output against the image; a fraction where a stage
            does not halve its input. :meth:`stage_sides` says how sizes are rounded.
        residual_blocks: classes of its residual blocks.
        shortcuts: names of the side branches in them.
    """

    strides: tuple[int | Fraction, ...]
    kaiming_mode: Literal["fan_in", "fan_out"] = "fan_out"  # as torchvision initialises its ResNets
    residual_blocks: tuple[type[nn.Module], ...]
    shortcuts = ("downsample", "branch1")

    def stage_sides(self, image_side: int) -> tuple[int, ...]:
        """Height or width of every stage's output for that of the image, in pixels.

        ``image_side / stride``, rounded up, unless an encoder says otherwise.
        """
        return tuple(math.ceil(Fraction(image_side) / stride) for stride in self.strides)

    def conv_block(self, channels: int, stride: int) -> nn.Module:
        """A fresh residual block of this encoder's kind, ``channels`` wide on both ends.

        Decoders are made of it (section 5.4). ``stride`` 2 halves height and width.
        """
        raise NotImplementedError(f"{type(self).__name__} has no block for decoders")

    def pooling(self) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))

    def main_branch(self, module: nn.Module) -> list[nn.Conv2d]:
        """The convolutions of a residual block but its shortcut's, in order; else none."""
        if not isinstance(module, self.residual_blocks):
            return []
        return [
            conv
            for name, child in module.named_children()
            if name not in self.shortcuts
            for conv in child.modules()
            if isinstance(conv, nn.Conv2d)
        ]

    def counted_layers(self, block: Block) -> list[nn.Conv2d | nn.Linear]:
        return [conv for module in block for conv in self.main_branch(module)]

    def initialise(self, part: nn.Module) -> None:
        """Give ``part``, the encoder or layers of its kind, fresh random weights in place."""
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode=self.kaiming_mode, nonlinearity="relu")
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()


class MeanOverPositions(nn.Module):
    """(N, ..., channels) -> (N, channels)."""

    def forward(self, features: Tensor) -> Tensor:
        """The mean over all positions; (N, channels) stays as it is."""
        return features.reshape(len(features), -1, features.shape[-1]).mean(1)


def run_block(block: Block, x: Tensor) -> Tensor:
    """``x`` through the modules of one block."""
    for module in block:
        x = module(x)
    return x


def block_parameters(blocks: Sequence[Block]) -> list[nn.Parameter]:
    """The trainable parameters of ``blocks``, each once, in order."""
    return [
        parameter
        for block in blocks
        for module in block
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
