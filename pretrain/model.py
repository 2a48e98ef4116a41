"""``LocalContrastive``: SimCLR, Greedy InfoMax and LoCo, told apart by their units alone."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from pretrain.decoders import Decoder
from pretrain.encoders import build_encoder
from pretrain.local_backward import OnReady, streamed_backward
from pretrain.losses import info_nce
from pretrain.units import StageSpans, build_units


@MODELS.register_module()
class TwoViewPreprocessor(BaseDataPreprocessor):
    """Moves views to the device, scales them to 0..1, normalises them.

    Args:
        mean: of each RGB channel, in 0..1.
        std: likewise.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """``views``, uint8 (N, 2, 3, H, W) -> ``views``, (2N, 3, H, W), all first views first."""
        views = self.cast_data(data)["views"]
        views = views.transpose(0, 1).flatten(0, 1).to(self.mean.dtype) / 255
        return {"views": (views - self.mean) / self.std}


@MODELS.register_module()
class LocalContrastive(BaseModel):
    """An encoder, units over it, a decoder and an InfoNCE loss for each (section 4, Fig. 1).

    Args:
        encoder: a name in :data:`pretrain.encoders.ENCODERS`.
        units: a method's name (``simclr``, ``gim``, ``loco``) or a list of stage spans.
        decoder: arguments of :class:`Decoder`, the same for every unit.
        temperature: tau of Eq. 1.
        data_preprocessor: config of a preprocessor that gives ``views``.
    """

    def __init__(
        self,
        encoder: str,
        units: str | StageSpans,
        decoder: dict[str, Any],
        temperature: float,
        data_preprocessor: dict[str, Any],
    ) -> None:
        super().__init__(data_preprocessor)
        self.encoder = build_encoder(encoder)
        self.units = build_units(units, self.encoder)
        self.temperature = temperature
        self.decoders = nn.ModuleList(
            Decoder(self.encoder, channels, **decoder) for channels in self._unit_channels()
        )

    def local_gradients(
        self,
        data: dict[str, Tensor],
        optim_wrapper: OptimWrapper,
        on_ready: OnReady = lambda parameters: None,
    ) -> dict[str, Tensor]:
        """Forward, local losses and local backward of one batch; no update yet.

        Returns:
            The loss of each unit, ``{"loss_res2+res3": ...}``, in nats.
        """
        with optim_wrapper.optim_context(self):
            losses = streamed_backward(
                self.data_preprocessor(data, training=True)["views"],
                self.encoder.blocks(),
                self.units,
                list(self.decoders),
                lambda embeddings: info_nce(embeddings, self.temperature),
                on_ready,
            )
        names = (f"loss_{unit.name}" for unit in self.units)
        return OrderedDict(zip(names, losses, strict=True))

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step on one process; :class:`pretrain.parallel.LocalDistributed` has that of many."""
        losses = self.local_gradients(data, optim_wrapper)
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return losses

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = "tensor"
    ) -> tuple[Tensor, ...]:
        """Features of every stage, for evaluation: see :meth:`Encoder.forward`."""
        return self.encoder(inputs)

    def _unit_channels(self) -> list[int]:
        """Channels of each unit's last feature map."""
        channels_at = {}
        stop = 0
        for stage, channels in zip(self.encoder.stages(), self.encoder.out_channels, strict=True):
            for _ in stage:
                stop += 1
                channels_at[stop] = channels
        return [channels_at[unit.stop] for unit in self.units]
