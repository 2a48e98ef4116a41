"""``LocalContrastive``: SimCLR, Greedy InfoMax and LoCo, told apart by their units alone."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from pretrain.decoders import Decoder
from pretrain.encoders import build_encoder
from pretrain.images import batch_colour
from pretrain.local_backward import OnReady, cut_into_segments, streamed_backward
from pretrain.losses import Batch, LocalLoss, build_loss
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
        std: of each, in 0..1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """``views``, uint8 (N, 2, 3, H, W) -> ``views``, (2N, 3, H, W), all first views first.

        Views whose ``colours``, (N, 2, 10), come with them are distorted here, on the device. An
        ``image_id`` or ``label``, (N,), is given for every view, (2N,).
        """
        views = self.cast_data(data["views"]).transpose(0, 1).flatten(0, 1)
        if "colours" in data:
            views = batch_colour.distort(views, data["colours"].transpose(0, 1).flatten(0, 1))
        views = views.to(self.mean.dtype) / 255
        known = {name: data[name] for name in ("image_id", "label") if name in data}
        return {
            "views": (views - self.mean) / self.std,
            **{name: self.cast_data(values).repeat(2) for name, values in known.items()},
        }


@MODELS.register_module()
class LocalContrastive(BaseModel):
    """An encoder, units over it, a decoder and a loss for each (section 4, Fig. 1).

    Args:
        encoder: a name in :data:`pretrain.encoders.ENCODERS`.
        units: a name in :data:`pretrain.units.LAYOUTS` or a list of stage spans.
        decoder: arguments of :class:`Decoder`, the same for every unit.
        loss: config of a :class:`LocalLoss`, the same for every unit; each has one of its own.
        data_preprocessor: config of a preprocessor that gives ``views``.
        sharing: arguments of :class:`Sharing`; LoCo's hard sharing by default.
        recompute: names of stages that keep no activations and run forward again in the backward
            pass (:mod:`pretrain.step.recompute`): less memory, the same gradients, more time.
        micro_batch_size: images, in two views each, that are alive at once
            (:mod:`pretrain.step.cached_gradients`); None for the whole batch.
        channels_last: keep images, weights and maps in channels-last order.
        compile: names of stages that ``torch.compile`` turns into fused kernels.

    Raises:
        ValueError: a name that is not known, with those that are; a micro-batch below 1; or
            channels_last with an encoder that does not keep it.
    """

    def __init__(
        self,
        encoder: str,
        units: str | StageSpans,
        decoder: dict[str, Any],
        loss: dict[str, Any],
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
        self.losses = nn.ModuleList(build_loss(loss) for _ in tied)
        for unit_loss, network in zip(self._local_losses(), self._networks(), strict=True):
            unit_loss.start(network)
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
            The loss of each unit, ``{"loss_res2+res3": ...}``; InfoNCE's in nats.
        """
        with optim_wrapper.optim_context(self):
            given = self.data_preprocessor(data, training=True)
            batch = Batch(given["views"], given.get("image_id"), given.get("label"))
            losses = self.backward(batch, on_ready, optim_wrapper.scale_loss)
        names = (f"loss_{unit.name}" for unit in self.units)
        return OrderedDict(zip(names, losses, strict=True))

    def backward(
        self,
        batch: Batch,
        on_ready: OnReady = lambda parameters: None,
        scale_loss: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> list[Tensor]:
        """Add the gradients of all units for a batch to the parameters'.

        Args:
            batch: with normalised images.
            on_ready: see :func:`streamed_backward`.
            scale_loss: what float16 multiplies losses, and so gradients, with.

        Returns:
            The loss of each unit, not scaled.
        """
        batch = replace(batch, images=batch.images.contiguous(memory_format=self.memory_format))
        backward = streamed_backward
        if self.micro_batch_size is not None:
            backward = partial(cached_backward, micro_batch_size=self.micro_batch_size)
        losses = backward(
            batch.images,
            cut_into_segments(
                chain_of_blocks(self.encoder, self.recompute),
                self.units,
                self.sharing.upper_gradient_only,
            ),
            list(self.decoders),
            [partial(_scaled_loss, scale_loss, loss, batch) for loss in self.losses],
            on_ready,
        )
        on_ready([p for p in self.losses.parameters() if p.requires_grad])
        scale = scale_loss(batch.images.new_ones(()))
        return [loss / scale for loss in losses]

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step on one process; that of many: :mod:`pretrain.local_data_parallel`."""
        losses = self.local_gradients(data, optim_wrapper)
        self.update(optim_wrapper)
        return losses

    def update(self, optim_wrapper: OptimWrapper) -> None:
        """Change the weights by their gradients, once those are complete and averaged.

        Every loss is then told, with the new weights.
        """
        if self.sharing.l2 is not None:
            fronts = [decoder.get_submodule("front") for decoder in self.decoders]
            # On their device: a copy of the scale to a CPU would be read before it has arrived.
            one = torch.ones((), device=next(self.parameters()).device)
            scale = float(optim_wrapper.scale_loss(one))  # the gradients have it too
            add_penalty(self.units, fronts, self.encoder, self.sharing.l2 * scale)
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        for loss, network in zip(self._local_losses(), self._networks(), strict=True):
            loss.after_update(network)

    def _local_losses(self) -> list[LocalLoss]:
        return cast(list[LocalLoss], list(self.losses))

    def _networks(self) -> list[nn.Sequential]:
        """From images to the embeddings of each unit."""
        blocks = self.encoder.blocks()
        return [
            nn.Sequential(*(module for block in blocks[: unit.stop] for module in block), decoder)
            for unit, decoder in zip(self.units, self.decoders, strict=True)
        ]

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = "tensor"
    ) -> tuple[Tensor, ...]:
        """Features of every stage, for evaluation: see :meth:`Encoder.forward`."""
        return self.encoder(inputs)


def _scaled_loss(
    scale_loss: Callable[[Tensor], Tensor], loss: nn.Module, batch: Batch, embeddings: Tensor
) -> Tensor:
    return scale_loss(loss(embeddings, batch))
