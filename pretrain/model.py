"""``LocalContrastive``: SimCLR, Greedy InfoMax and LoCo, told apart by their units alone."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from pretrain.decoders import Decoder
from pretrain.encoders import build_encoder
from pretrain.images import batch_colour
from pretrain.local_backward import OnReady, cut_into_segments, streamed_backward
from pretrain.losses.info_nce import info_nce
from pretrain.sharing import Sharing, add_penalty, untie
from pretrain.step.cached_gradients import cached_backward
from pretrain.step.compiled import compile_stages
from pretrain.step.memory_format import check_channels_last
from pretrain.step.recompute import chain_of_blocks
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
        """``views``, uint8 (N, 2, 3, H, W) -> ``views``, (2N, 3, H, W), all first views first.

        Views whose ``colours``, (N, 2, 10), come with them are distorted here, on the device.
        """
        views = self.cast_data(data["views"]).transpose(0, 1).flatten(0, 1)
        if "colours" in data:
            views = batch_colour.distort(views, data["colours"].transpose(0, 1).flatten(0, 1))
        views = views.to(self.mean.dtype) / 255
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
            pass (:mod:`pretrain.step.recompute`): less memory, the same gradients, more time.

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
        micro_batch_size: int | None = None,
        channels_last: bool = False,
        compile: Sequence[str] = (),
    ) -> None:
        super().__init__(data_preprocessor)
        self.encoder = build_encoder(encoder)
        self.recompute = tuple(recompute)
        chain_of_blocks(self.encoder, self.recompute)  # refuses a stage that is not there
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {micro_batch_size}; expected 1 or more, or None")
        self.micro_batch_size = micro_batch_size
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
        compile_stages(self.encoder, compile, self.units)
        self.memory_format = torch.contiguous_format
        if channels_last:
            check_channels_last(self.encoder)
            self.memory_format = torch.channels_last
            self.to(memory_format=torch.channels_last)

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
            losses = self.backward(images, on_ready, optim_wrapper.scale_loss)
        names = (f"loss_{unit.name}" for unit in self.units)
        return OrderedDict(zip(names, losses, strict=True))

    def backward(
        self,
        images: Tensor,
        on_ready: OnReady = lambda parameters: None,
        scale_loss: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> list[Tensor]:
        """Add the gradients of all units for ``images``, (2N, 3, H, W), to the parameters'.

        Args:
            images: normalised, all first views first.
            on_ready: see :func:`streamed_backward`.
            scale_loss: what float16 multiplies losses, and so gradients, with.

        Returns:
            The loss of each unit, in nats, not scaled.
        """
        backward = streamed_backward
        if self.micro_batch_size is not None:
            backward = partial(cached_backward, micro_batch_size=self.micro_batch_size)
        losses = backward(
            images.contiguous(memory_format=self.memory_format),
            cut_into_segments(
                chain_of_blocks(self.encoder, self.recompute),
                self.units,
                self.sharing.upper_gradient_only,
            ),
            list(self.decoders),
            [lambda x: scale_loss(info_nce(x, self.temperature))] * len(self.units),
            on_ready,
        )
        scale = scale_loss(images.new_ones(()))
        return [loss / scale for loss in losses]

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step on one process; that of many: :mod:`pretrain.local_data_parallel`."""
        losses = self.local_gradients(data, optim_wrapper)
        self.update(optim_wrapper)
        return losses

    def update(self, optim_wrapper: OptimWrapper) -> None:
        """Change the weights by their gradients, once those are complete and averaged."""
        if self.sharing.l2 is not None:
            fronts = [decoder.get_submodule("front") for decoder in self.decoders]
            # On their device: a copy of the scale to a CPU would be read before it has arrived.
            one = torch.ones((), device=next(self.parameters()).device)
            scale = float(optim_wrapper.scale_loss(one))  # the gradients have it too
            add_penalty(self.units, fronts, self.encoder, self.sharing.l2 * scale)
        optim_wrapper.step()
        optim_wrapper.zero_grad()

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = "tensor"
    ) -> tuple[Tensor, ...]:
        """Features of every stage, for evaluation: see :meth:`Encoder.forward`."""
        return self.encoder(inputs)
