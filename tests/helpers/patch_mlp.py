"""A small encoder that is a chain of blocks and nothing more: patches, linear layers, dropout."""

from itertools import pairwise

from torch import nn

from pretrain.encoders import ENCODERS, Encoder


class Patches(nn.Module):
    """(N, 3, H, W) -> (N, positions, 3 * 8 * 8)."""

    def forward(self, images):
        return nn.functional.unfold(images, 8, stride=8).transpose(1, 2)


class PatchMLP(Encoder):
    """Three stages of one, two and one blocks, 12, 12 and 20 wide."""

    name = "patch_mlp"
    stage_names = ("low", "middle", "high")
    out_channels = (12, 12, 20)

    def __init__(self):
        super().__init__()
        widths = (3 * 8 * 8, 12, 12, 12, 20)
        self.patches = Patches()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.GELU(), nn.Dropout(0.2)) for a, b in pairwise(widths)
        )

    def stages(self):
        one, two, three, four = self.layers
        return [[(self.patches, one)], [(two,), (three,)], [(four,)]]


def register(monkeypatch):
    monkeypatch.setitem(ENCODERS, "patch_mlp", PatchMLP)
