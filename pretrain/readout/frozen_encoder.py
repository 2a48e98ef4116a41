"""A frozen encoder that turns images into one pooled feature vector a stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS

from pretrain.backbone_file import Provenance, load_backbone, read_provenance, write_backbone
from pretrain.encoders import Encoder, build_encoder

Stages = Literal["all", "last"] | Sequence[str]


@MODELS.register_module()
class FrozenEncoder(BaseDataPreprocessor):
    """The encoder of a backbone file in eval mode, without gradients, as what stands before a
    linear classifier (section 5.1).

    Args:
        backbone_file: see :mod:`pretrain.backbone_file`; it says which encoder, and how the
            images that it was pretrained on were normalised.
        stages: whose features are wanted; see :func:`chosen_stages`.

    Raises:
        FileNotFoundError, ValueError: from :func:`load_backbone` and :func:`chosen_stages`.
    """

    def __init__(self, backbone_file: str, stages: Stages = "all") -> None:
        super().__init__()
        self.provenance = read_provenance(backbone_file)
        self.encoder = build_encoder(self.provenance.encoder)
        load_backbone(self.encoder, backbone_file)
        self.encoder.requires_grad_(False)
        self.stages = chosen_stages(self.encoder, stages)
        mean, std = torch.tensor(self.provenance.mean), torch.tensor(self.provenance.std)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, -1, 1, 1), persistent=False)
        self.eval()

    @property
    def channels(self) -> dict[str, int]:
        """Width of each stage's features."""
        widths = dict(zip(self.encoder.stage_names, self.encoder.out_channels, strict=True))
        return {stage: widths[stage] for stage in self.stages}

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stay in eval mode: norm statistics are frozen too."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """``image``, uint8 (N, 3, H, W) -> ``features``, a global average (N, C) of each stage.

        Data that hold ``features`` already pass through; everything lands on the device.
        """
        data = self.cast_data(data)
        if "features" in data:
            return data
        images = data["image"].to(self.mean.dtype) / 255
        maps = self.encoder((images - self.mean) / self.std)
        pooled = {
            stage: features.mean(dim=(2, 3))
            for stage, features in zip(self.encoder.stage_names, maps, strict=True)
            if stage in self.stages
        }
        return {"features": pooled, "label": data["label"]}


def chosen_stages(encoder: Encoder, stages: Stages) -> tuple[str, ...]:
    """ "all", "last" or names -> names of stages, from the image up.

    Raises:
        ValueError: the encoder has no such stage; its stages are listed.
    """
    names = encoder.stage_names
    if stages == "all":
        return names
    wanted = names[-1:] if stages == "last" else (stages,) if isinstance(stages, str) else stages
    unknown = [stage for stage in wanted if stage not in names]
    if unknown or not wanted:
        raise ValueError(
            f"stages {', '.join(unknown) or 'none at all'}: {encoder.name} has "
            f'{", ".join(names)}; "all" and "last" will do as well'
        )
    return tuple(stage for stage in names if stage in wanted)


def write_random_backbone(encoder: str, seed: int, path: str | Path) -> Provenance:
    """A backbone file of random weights, the same for the same seed: the floor of every readout.

    Raises:
        ValueError: from :func:`build_encoder`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build_encoder(encoder)
    return write_backbone(built, path, Provenance.from_elsewhere("random", encoder, seed=seed))
