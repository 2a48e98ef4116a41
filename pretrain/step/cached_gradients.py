"""A large batch on a small device: InfoNCE over all of it, one micro-batch alive at a time.

Gradients of micro-batches that are simply added up are those of another loss, with fewer
negatives. But through the embeddings alone the loss joins the images, and embeddings are small: as
Gao et al. (2021, arXiv 2101.06983) do it, all of them are computed first, without a graph, then
their gradients, and with these at hand every micro-batch can go through the backward by itself.
The forward pass is run twice.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pretrain.encoders import run_block
from pretrain.local_backward import OnReady, Segment, streamed_backward


def cached_backward(
    images: Tensor,
    segments: Sequence[Segment],
    decoders: Sequence[nn.Module],
    losses: Sequence[Callable[[Tensor], Tensor]],
    on_ready: OnReady = lambda parameters: None,
    *,
    micro_batch_size: int,
) -> list[Tensor]:
    """As :func:`streamed_backward`, with the gradients of the whole batch, in micro-batches.

    Equal to the large batch where norm statistics are fixed; elsewhere a norm sees a micro-batch,
    and the running statistics are updated once for each of them. Dropout drops the same in both
    passes.

    Args:
        images: (2N, 3, H, W), all first views first.
        segments: from :func:`cut_into_segments`, used for this step only.
        decoders: one a unit, from the lowest to the highest.
        losses: one a unit, of the embeddings of all 2N views.
        on_ready: told of final parameters when the last micro-batch has been added.
        micro_batch_size: photographs, in two views each, that are alive at once; the last
            micro-batch may be smaller.

    Returns:
        The loss of each unit over the whole batch, detached.
    """
    micro_batches = [  # both views of the same photographs
        torch.cat(views)
        for views in zip(*(half.split(micro_batch_size) for half in images.chunk(2)), strict=True)
    ]
    parts, random_states = [], []
    for batch in micro_batches:
        random_states.append(_random_state(images.device))
        parts.append(_embed(batch, segments, decoders))
    found, gradients = [], []
    for loss, *of_unit in zip(losses, *parts, strict=True):  # a unit's embeddings, by micro-batch
        embeddings = _join(of_unit).requires_grad_()  # (2N, D)
        unit_loss = loss(embeddings)
        with torch.autocast(images.device.type, enabled=False):
            unit_loss.backward()
        found.append(unit_loss.detach())
        assert embeddings.grad is not None
        halves = (half.split(micro_batch_size) for half in embeddings.grad.chunk(2))
        gradients.append([torch.cat(views) for views in zip(*halves, strict=True)])
    modules = [m for segment in segments for block in segment.blocks for m in block]
    buffers = [buffer for module in (*modules, *decoders) for buffer in module.buffers()]
    statistics = [buffer.clone() for buffer in buffers]
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        for number, batch in enumerate(micro_batches):
            _set_random_state(images.device, random_states[number])  # dropout drops the same again
            streamed_backward(
                batch,
                segments,
                decoders,
                [partial(_weigh, gradient[number]) for gradient in gradients],
                on_ready if number == len(micro_batches) - 1 else lambda parameters: None,
            )
    for buffer, value in zip(buffers, statistics, strict=True):  # this pass saw them a second time
        buffer.copy_(value)
    return found


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    """Of the CPU's generator, and of the device's own where it has one."""
    own = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return torch.get_rng_state(), *own


def _set_random_state(device: torch.device, states: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(states[0])
    for own in states[1:]:
        torch.cuda.set_rng_state(own, device)


def _weigh(gradient: Tensor, embeddings: Tensor) -> Tensor:
    """A scalar whose gradient with respect to the embeddings is the one given."""
    return (embeddings * gradient).sum()


@torch.no_grad()
def _embed(
    images: Tensor, segments: Sequence[Segment], decoders: Sequence[nn.Module]
) -> list[Tensor]:
    """The embeddings of every unit, (2M, D) each, without a graph."""
    heads = iter(decoders)
    embeddings = []
    x = images
    for segment in segments:
        for block in segment.blocks:
            x = run_block(block, x)
        if segment.ends is not None:
            embeddings.append(next(heads)(x))
    return embeddings


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Both views of every micro-batch -> all first views, then all second views."""
    return torch.cat([half for view in (0, 1) for half in (part.chunk(2)[view] for part in parts)])
