"""What every encoder promises: named stages, made of residual blocks, run in order."""

from collections.abc import Sequence

from torch import Tensor, nn

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
        strides: downsampling of each stage's output against the image.
    """

    name: str
    stage_names: tuple[str, ...]
    out_channels: tuple[int, ...]
    strides: tuple[int, ...]

    def stages(self) -> list[list[Block]]:
        """The blocks of every stage, in order; the stem belongs to the first block.

        Built anew at each call, so that a module that was replaced (a converted norm) is seen.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its stages are")

    def blocks(self) -> list[Block]:
        """All blocks of all stages as one chain."""
        return [block for stage in self.stages() for block in stage]

    def conv_block(self, channels: int, stride: int) -> nn.Module:
        """A fresh residual block of this encoder's kind, ``channels`` wide on both ends.

        Decoders are made of it (section 5.4). ``stride`` 2 halves height and width.
        """
        raise NotImplementedError(f"{type(self).__name__} has no block for decoders")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of every stage.

        Args:
            images: normalised, (N, 3, H, W).

        Returns:
            One tensor a stage, (N, out_channels[k], H / strides[k], W / strides[k]), rounded up.
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
