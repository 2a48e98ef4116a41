"""What every encoder promises: named stages, made of residual blocks, run in order."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Block = tuple[nn.Module, ...]
"""Modules applied one after the other; the smallest piece that local learning never splits."""


class Encoder(nn.Module):
    """A convolutional network seen as a chain of stages of residual blocks (section 4, Fig. 1).

    A subclass sets the attributes below and implements :meth:`stages`. Its parameters keep the
    names that torchvision gives them, so a backbone file needs no renaming anywhere.

    Attributes:
        name: the name under which :func:`pretrain.encoders.build_encoder` knows it.
        stage_names: one name a stage, from the input up: ``("res2", "res3", "res4", "res5")``.
        out_channels: channels of each stage's output.
        strides: downsampling of each stage's output against the image; a fraction where a stage
            does not halve its input. :meth:`stage_sides` says how sizes are rounded.
    """

    name: str
    stage_names: tuple[str, ...]
    out_channels: tuple[int, ...]
    strides: tuple[int | Fraction, ...]
    kaiming_mode: Literal["fan_in", "fan_out"] = "fan_out"  # as torchvision initialises its ResNets

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

    def initialise(self, part: nn.Module) -> None:
        """Give ``part``, the encoder or layers of its kind, fresh random weights in place."""
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode=self.kaiming_mode, nonlinearity="relu")
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of every stage.

        Args:
            images: normalised, (N, 3, H, W).

        Returns:
            One tensor a stage, (N, out_channels[k], stage_sides(H)[k], stage_sides(W)[k]).
        """
        features = []
        x = images
        for stage in self.stages():
            for block in stage:
                x = run_block(block, x)
            features.append(x)
        return tuple(features)


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
