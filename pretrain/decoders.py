"""Decoders: what stands between a unit's last feature map and its loss (sections 4.2 and 5.4)."""

import copy
from itertools import accumulate

from torch import Tensor, nn

from pretrain.encoders import Encoder


class Decoder(nn.Module):
    """Layers of the encoder's kind, global average pooling, an MLP.

    Every row of Table 4 is a choice of these arguments.

    Args:
        encoder: gives the convolutional layers their kind; nothing of it is shared.
        stop: one past the unit's last block in the encoder's chain of blocks.
        conv_blocks: residual blocks before the pooling; 1 in the local methods, 0 in SimCLR
            (section 5.4). They keep the number of channels: the paper does not say, and so the
            decoder stays cheap.
        downsample: whether each of those blocks halves height and width.
        further_stages: stages of the encoder's own design that come before the pooling, as many of
            those that follow the unit: 1 is Table 4's "1 stage", all of them its "full network".
        mlp_layers: linear layers; 2 (section 5.1). Hidden layers are as wide as their input, and
            every layer is followed by a batch norm, as in SimCLR's reference code.
        out_dim: length of the embedding; 128 (section 5.1).
        front: modules that run first and belong to this decoder alone, the untied copy of a shared
            stage (:mod:`pretrain.sharing`); ``stop`` is where they end.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        stop: int,
        conv_blocks: int = 0,
        downsample: bool = True,
        further_stages: int = 0,
        mlp_layers: int = 2,
        out_dim: int = 128,
        front: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        if mlp_layers < 1 or conv_blocks < 0 or further_stages < 0:
            raise ValueError(
                "a decoder needs mlp_layers >= 1, conv_blocks >= 0 and further_stages >= 0, got "
                f"{mlp_layers}, {conv_blocks} and {further_stages}"
            )
        stage = stage_of(encoder, stop)
        top = min(stage + further_stages, len(encoder.stage_names) - 1)
        channels = encoder.out_channels[top]
        self.front = front if front is not None else nn.Sequential()
        self.stages = nn.Sequential(*_fresh_stages(encoder, stage + 1, top + 1))
        self.conv = nn.Sequential(
            *(encoder.conv_block(channels, 2 if downsample else 1) for _ in range(conv_blocks))
        )
        self.pool = encoder.pooling()
        layers: list[nn.Module] = []
        for _ in range(mlp_layers - 1):
            layers += [
                nn.Linear(channels, channels, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.Linear(channels, out_dim, bias=False), nn.BatchNorm1d(out_dim)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) of the unit's last block -> (N, out_dim), not yet normalised."""
        features = self.conv(self.stages(self.front(features)))
        return self.mlp(self.pool(features))


def stage_of(encoder: Encoder, stop: int) -> int:
    """The stage that holds the last block before ``stop``."""
    ends = list(accumulate(len(stage) for stage in encoder.stages()))
    return next(number for number, end in enumerate(ends) if stop <= end)


def _fresh_stages(encoder: Encoder, start: int, stop: int) -> list[nn.Module]:
    """The modules of stages ``start`` up to ``stop``, newly initialised."""
    modules = [
        copy.deepcopy(module)
        for stage in encoder.stages()[start:stop]
        for block in stage
        for module in block
    ]
    encoder.initialise(nn.ModuleList(modules))
    return modules
