"""The layers of an encoder, read from the encoder itself, in the terms of Table 8."""

from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pretrain.encoders import ConvolutionalEncoder, build_encoder, run_block


def architecture(encoder_name: str, image_size: int = 224) -> list[dict[str, Any]]:
    """Every layer as Table 8 lists them: ``layer``, ``output_size`` (pixels), ``structure``.

    Convolutions of a residual block's shortcut and changes of size inside of a stage are left out,
    as in Table 8; ``[3×3, 96; 3×3, 96] × 3`` are three blocks of two convolutions each. An encoder
    that is not convolutional has no such list.

    Raises:
        ValueError: no encoder has that name.
    """
    with FakeTensorMode():
        encoder = build_encoder(encoder_name)
        if not isinstance(encoder, ConvolutionalEncoder):
            return []
        x = torch.empty(2, 3, image_size, image_size)
        layers = []
        for name, stage in zip(encoder.stage_names, encoder.stages(), strict=True):
            modules = [module for block in stage for module in block]
            stem = next((m for m in modules if isinstance(m, nn.Conv2d)), None)
            if stem is not None:
                size = stem(x).shape[-1]
                layers.append(_layer("conv1", size, [_conv(stem)]))
            for block in stage:
                x = run_block(block, x)
            pools = [
                f"{m.kernel_size}×{m.kernel_size} max pool, stride {m.stride}"
                for m in modules
                if isinstance(m, nn.MaxPool2d)
            ]
            branches = filter(None, map(encoder.main_branch, modules))
            blocks = ["; ".join(_conv(conv, strided=False) for conv in convs) for convs in branches]
            runs = [f"[{text}] × {len(list(same))}" for text, same in groupby(blocks)]
            layers.append(_layer(f"{name}_x", x.shape[-1], [*pools, *runs]))
    return layers


def _layer(name: str, size: int, structure: list[str]) -> dict[str, Any]:
    return {"layer": name, "output_size": int(size), "structure": structure}


def _conv(conv: nn.Conv2d, strided: bool = True) -> str:
    """ "3×3, 256, 2 grps"; the stride of a stem's, as Table 8 gives it."""
    side = conv.kernel_size[0]
    text = f"{side}×{side}, {conv.out_channels}"
    text += f", {conv.groups} grps" if conv.groups > 1 else ""
    return text + (f", stride {conv.stride[0]}" if strided else "")
