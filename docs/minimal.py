"""LoCo's step in plain torch: no config, no runner, one process.

Run it with ``python docs/minimal.py``. It trains on noise, so the losses only show that it runs.
"""

import torch
from torch import Tensor, nn

from pretrain.decoders import Decoder
from pretrain.encoders import build_encoder
from pretrain.local_backward import cut_into_segments, streamed_backward
from pretrain.losses.info_nce import info_nce
from pretrain.units import build_units


def train(steps: int, images: int = 8) -> list[list[float]]:
    """The loss of each unit in each step."""
    torch.manual_seed(0)
    encoder = build_encoder("resnet_tiny").train()  # "resnet50" is the paper's
    units = build_units("loco", encoder)  # res2+res3, res3+res4, res4+res5: neighbours share
    decoders = nn.ModuleList(Decoder(encoder, unit.stop, conv_blocks=1) for unit in units)
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoders.parameters()], lr=0.03)

    def loss(embeddings: Tensor) -> Tensor:  # (2N, 128): first views, then second views
        return info_nce(embeddings, temperature=0.1)

    history = []
    first = torch.randn(images, 3, 64, 64)
    for _ in range(steps):
        second = first + torch.randn_like(first)  # stands for another crop and colours
        losses = streamed_backward(
            torch.cat([first, second]),  # (2N, 3, H, W)
            cut_into_segments(encoder.blocks(), units),
            list(decoders),
            [loss] * len(units),
        )
        optimizer.step()
        optimizer.zero_grad()
        history.append([float(unit_loss) for unit_loss in losses])
    return history


if __name__ == "__main__":
    for losses in train(steps=10):
        print("  ".join(f"{unit_loss:.3f}" for unit_loss in losses))
