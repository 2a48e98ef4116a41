"""A large batch on a small device: InfoNCE over all of it, one micro-batch alive at a time.

Gradients of micro-batches that are simply added up are those of another loss, with fewer
negatives. But through the embeddings alone the loss joins the images, and embeddings are small: as
Gao et al. (2021, arXiv 2101.06983) do it, all of them are computed first, without a graph, then
their gradients, and with these at hand every micro-batch can go through the backward by itself.
The forward pass is run twice.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pretrain.encoders import Block, run_block
from pretrain.local_backward import OnReady, streamed_backward
from pretrain.units import Unit


def cached_backward(
    images: Tensor,
    blocks: Sequence[Block],
    units: Sequence[Unit],
    decoders: Sequence[nn.Module],
    loss: Callable[[Tensor], Tensor],
    on_ready: OnReady = lambda parameters: None,
    upper_gradient_only: bool = False,
    *,
    micro_batch_size: int,
) -> list[Tensor]:
    """As :func:`streamed_backward`, with the gradients of the whole batch, in micro-batches.

    Equal to the large batch where norm statistics are fixed; elsewhere a norm sees a micro-batch,
    and the running statistics are updated once for each of them.

    Args:
        images: (2N, 3, H, W), all first views first.
        blocks: see :func:`streamed_backward`, as all that follows.
        units: likewise.
        decoders: likewise.
        loss: likewise, of the embeddings of all 2N views.
        on_ready: told when the last micro-batch has been added.
        upper_gradient_only: likewise.
        micro_batch_size: photographs, in two views each, that are alive at once; the last
            micro-batch may be smaller.

    Returns:
        The loss of each unit over the whole batch, detached.
    """
    micro_batches = [  # both views of the same photographs
        torch.cat(views)
        for views in zip(*(half.split(micro_batch_size) for half in images.chunk(2)), strict=True)
    ]
    parts = [_embed(batch, blocks, units, decoders) for batch in micro_batches]
    losses, gradients = [], []
    for of_unit in zip(*parts, strict=True):  # a unit's embeddings, one tensor a micro-batch
        embeddings = _join(of_unit).requires_grad_()  # (2N, D)
        unit_loss = loss(embeddings)
        with torch.autocast(images.device.type, enabled=False):
            unit_loss.backward()
        losses.append(unit_loss.detach())
        assert embeddings.grad is not None
        halves = (half.split(micro_batch_size) for half in embeddings.grad.chunk(2))
        gradients.append([torch.cat(views) for views in zip(*halves, strict=True)])
    buffers = [b for module in (*sum(blocks, ()), *decoders) for b in module.buffers()]
    statistics = [buffer.clone() for buffer in buffers]
    for number, batch in enumerate(micro_batches):
        given = iter([gradient[number] for gradient in gradients])  # asked for in the units' order
        streamed_backward(
            batch,
            blocks,
            units,
            decoders,
            partial(_weigh, given),
            on_ready if number == len(micro_batches) - 1 else lambda parameters: None,
            upper_gradient_only,
        )
    for buffer, value in zip(buffers, statistics, strict=True):  # this pass saw them a second time
        buffer.copy_(value)
    return losses


def _weigh(given: Iterator[Tensor], embeddings: Tensor) -> Tensor:
    """A scalar whose gradient with respect to the embeddings is the next one given."""
    return (embeddings * next(given)).sum()


@torch.no_grad()
def _embed(
    images: Tensor, blocks: Sequence[Block], units: Sequence[Unit], decoders: Sequence[nn.Module]
) -> list[Tensor]:
    """The embeddings of every unit, (2M, D) each, without a graph."""
    heads = {unit.stop: decoder for unit, decoder in zip(units, decoders, strict=True)}
    embeddings = []
    x = images
    for stop, block in enumerate(blocks, start=1):
        x = run_block(block, x)
        if stop in heads:
            embeddings.append(heads[stop](x))
    return embeddings


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Both views of every micro-batch -> all first views, then all second views."""
    return torch.cat([half for view in (0, 1) for half in (part.chunk(2)[view] for part in parts)])
