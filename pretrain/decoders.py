"""Decoders: what stands between a unit's last feature map and its loss (sections 4.2 and 5.4)."""

from torch import Tensor, nn

from pretrain.encoders import Encoder


class Decoder(nn.Module):
    """Residual conv blocks with downsampling, global average pooling, an MLP.

    Args:
        encoder: gives the conv block its kind (``Encoder.conv_block``).
        in_channels: channels of the unit's last feature map.
        conv_blocks: blocks before the pooling, each halving height and width; 1 in the local
            methods, 0 in SimCLR (section 5.4). They keep the number of channels: the paper does
            not say, and so the decoder stays cheap.
        mlp_layers: linear layers; 2 (section 5.1). Hidden layers are ``in_channels`` wide, and
            every layer is followed by a batch norm, as in SimCLR's reference code.
        out_dim: length of the embedding; 128 (section 5.1).
    """

    def __init__(
        self,
        encoder: Encoder,
        in_channels: int,
        conv_blocks: int = 0,
        mlp_layers: int = 2,
        out_dim: int = 128,
    ) -> None:
        super().__init__()
        if mlp_layers < 1 or conv_blocks < 0:
            raise ValueError(
                f"a decoder needs mlp_layers >= 1 and conv_blocks >= 0, got "
                f"mlp_layers={mlp_layers} and conv_blocks={conv_blocks}"
            )
        self.conv = nn.Sequential(*(encoder.conv_block(in_channels, 2) for _ in range(conv_blocks)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        layers: list[nn.Module] = []
        for _ in range(mlp_layers - 1):
            layers += [
                nn.Linear(in_channels, in_channels, bias=False),
                nn.BatchNorm1d(in_channels),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.Linear(in_channels, out_dim, bias=False), nn.BatchNorm1d(out_dim)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_dim), not yet normalised."""
        return self.mlp(self.pool(self.conv(features)).flatten(1))
