"""Channels-last order of images, weights and maps, where an encoder keeps it from end to end."""

import copy

import torch

from pretrain.encoders import Encoder, run_block


@torch.no_grad()
def check_channels_last(encoder: Encoder) -> None:
    """Send a small image through, and see that every block hands on the order it was given.

    Where one does not, its map is copied to and fro: slower than the usual order, so it is refused.

    Raises:
        ValueError: names the stages that fall back.
    """
    twin = copy.deepcopy(encoder).eval()
    twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    x = next(twin.parameters()).new_zeros(2, 3, 64, 64)
    falls_back = []
    for name, stage in zip(twin.stage_names, twin.stages(), strict=True):
        for block in stage:
            x = x.contiguous(memory_format=torch.channels_last)
            x = run_block(block, x)
            if not x.is_contiguous(memory_format=torch.channels_last) and name not in falls_back:
                falls_back.append(name)
    if falls_back:
        raise ValueError(
            f"channels_last cannot be honoured: blocks of {encoder.name} in "
            f"{', '.join(falls_back)} put out the usual order (a channel shuffle does); leave "
            "model.channels_last out"
        )
