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
from pretrain.recompute import chain_of_blocks
from pretrain.sharing import Sharing, add_penalty, untie
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
        units: a name in :data:`pretrain.units.LAYOUTS` or a list of stage spans.
        decoder: arguments of :class:`Decoder`, the same for every unit.
        temperature: tau of Eq. 1.
        data_preprocessor: config of a preprocessor that gives ``views``.
        sharing: arguments of :class:`Sharing`; LoCo's hard sharing by default.
        recompute: names of stages that keep no activations and run forward again in the backward
            pass (:mod:`pretrain.recompute`): less memory, the same gradients, more time.

    Raises:
        ValueError: a name that is not known, with those that are.
    """

    def __init__(
        self,
        encoder: str,
        units: str | StageSpans,
        decoder: dict[str, Any],
        temperature: float,
        data_preprocessor: dict[str, Any],
        sharing: dict[str, Any] | None = None,
        recompute: Sequence[str] = (),
    ) -> None:
        super().__init__(data_preprocessor)
        self.encoder = build_encoder(encoder)
        self.recompute = tuple(recompute)
        chain_of_blocks(self.encoder, self.recompute)  # refuses a stage that is not there
        self.temperature = temperature
        self.sharing = Sharing(**(sharing or {}))
        tied = build_units(units, self.encoder)
        fronts: Sequence[nn.Sequential | None] = [None] * len(tied)
        self.units = tied
        if self.sharing.l2 is not None:
            self.units, fronts = untie(tied, self.encoder)
        self.decoders = nn.ModuleList(
            Decoder(self.encoder, unit.stop, **decoder, front=front)
            for unit, front in zip(tied, fronts, strict=True)
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
            images = self.data_preprocessor(data, training=True)["views"]
            losses = self.backward(images, on_ready)
        names = (f"loss_{unit.name}" for unit in self.units)
        return OrderedDict(zip(names, losses, strict=True))

    def backward(self, images: Tensor, on_ready: OnReady = lambda parameters: None) -> list[Tensor]:
        """Add the gradients of all units for ``images``, (2N, 3, H, W), to the parameters'.

        Returns:
            The loss of each unit, in nats.
        """
        return streamed_backward(
            images,
            chain_of_blocks(self.encoder, self.recompute),
            self.units,
            list(self.decoders),
            lambda embeddings: info_nce(embeddings, self.temperature),
            on_ready,
            self.sharing.upper_gradient_only,
        )

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step on one process; :class:`pretrain.parallel.LocalDistributed` has that of many."""
        losses = self.local_gradients(data, optim_wrapper)
        self.update(optim_wrapper)
        return losses

    def update(self, optim_wrapper: OptimWrapper) -> None:
        """Change the weights by their gradients, once those are complete and averaged."""
        if self.sharing.l2 is not None:
            fronts = [decoder.get_submodule("front") for decoder in self.decoders]
            add_penalty(self.units, fronts, self.encoder, self.sharing.l2)
        optim_wrapper.step()
        optim_wrapper.zero_grad()

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = "tensor"
    ) -> tuple[Tensor, ...]:
        """Features of every stage, for evaluation: see :meth:`Encoder.forward`."""
        return self.encoder(inputs)
