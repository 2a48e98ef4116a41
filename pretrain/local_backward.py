"""The streamed backward: one forward a segment, activations freed as soon as their units are done.

Section 4.1 observes that sharing a stage leaves the forward pass alone and doubles only the
backward. Here not even that is doubled: through a shared segment the lower unit needs the gradient
of the *input* only, to reach what lies below; the gradient of the *parameters* is linear in the
output's gradient, so it is taken once, from the sum over the units, when the last of them has come.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.encoders import Block, block_parameters, run_block
from pretrain.units import Unit, segment_bounds

OnReady = Callable[[Sequence[nn.Parameter]], None]
"""Told of parameters whose gradient is final for this step (to average it over processes)."""


def streamed_backward(
    images: Tensor,
    blocks: Sequence[Block],
    units: Sequence[Unit],
    decoders: Sequence[nn.Module],
    loss: Callable[[Tensor], Tensor],
    on_ready: OnReady = lambda parameters: None,
    upper_gradient_only: bool = False,
) -> list[Tensor]:
    """One step of local learning: every parameter's gradient is added to its ``.grad``.

    Args:
        images: (2N, 3, H, W).
        blocks: the encoder's chain of blocks.
        units: spans over that chain, from the lowest to the highest.
        decoders: one a unit; takes the output of the unit's last block.
        loss: of a decoder's output; gives a scalar.
        on_ready: called with the parameters of a decoder or segment as soon as they are final.
        upper_gradient_only: shared parameters learn from their highest unit alone (Table 5).

    Returns:
        The loss of each unit, detached.
    """
    segments = [_Segment(start, stop, blocks, units) for start, stop in segment_bounds(units)]
    heads = {unit.stop: (unit, decoder) for unit, decoder in zip(units, decoders, strict=True)}
    losses = []
    x = images
    for top, segment in enumerate(segments):
        x = segment.forward(x)
        if segment.stop not in heads:
            continue
        unit, decoder = heads[segment.stop]
        boundary = x.detach().requires_grad_()
        unit_loss = loss(decoder(boundary))
        losses.append(unit_loss.detach())
        with torch.autocast(x.device.type, enabled=False):  # a gradient has its tensor's type
            unit_loss.backward()
            on_ready([p for p in decoder.parameters() if p.requires_grad])
            assert boundary.grad is not None
            grads, boundary.grad = [boundary.grad], None
            for below in reversed(segments[: top + 1]):
                if not grads:  # the unit has reached its beginning
                    break
                below.backward(unit, grads, on_ready, upper_gradient_only)
    return losses


class _HandOver(torch.autograd.Function):
    """A root of the graph that gives ``output`` the gradient in ``grads`` and lets go of it.

    Given to ``backward`` as an argument it would be held until the whole segment is done, and that
    is as large as the largest activation.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, grads: list[Tensor]) -> Tensor:
        ctx.grads = grads
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.grads.pop(), None


class _Segment:
    """A piece of the chain between two unit boundaries, and what is alive of it."""

    def __init__(
        self, start: int, stop: int, blocks: Sequence[Block], units: Sequence[Unit]
    ) -> None:
        self.start, self.stop = start, stop
        self.blocks = blocks[start:stop]
        self.parameters = block_parameters(self.blocks)
        self.units = [unit for unit in units if unit.start <= start and stop <= unit.stop]
        self.input: Tensor | None = None
        self.output: Tensor | None = None
        self.waiting: Tensor | None = None  # output gradients of the units that have passed, summed

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks on ``x``, a tensor without a past; the result has none either."""
        self.input = x.requires_grad_(any(unit.start < self.start for unit in self.units))
        self.output = self.input
        for block in self.blocks:
            self.output = run_block(block, self.output)
        return self.output.detach()

    def backward(
        self, unit: Unit, grads: list[Tensor], on_ready: OnReady, upper_gradient_only: bool
    ) -> None:
        """Take one unit's gradient of the output out of ``grads``; put that of the input in.

        Nothing goes in where the unit begins here. The parameters' gradient waits for the last unit
        that the segment belongs to; then everything that the segment kept is dropped.
        """
        assert self.input is not None and self.output is not None
        grad = grads.pop()
        last = unit is self.units[-1]
        goes_below = unit.start < self.start
        at_once = goes_below and last and self.waiting is None  # one pass serves both gradients
        if goes_below and not at_once:
            grads.extend(torch.autograd.grad(self.output, self.input, grad, retain_graph=True))
        total = [grad if self.waiting is None else self.waiting + grad]
        del grad
        self.waiting = None
        if not last:
            self.waiting = None if upper_gradient_only else total.pop()
            return
        torch.autograd.backward(
            _HandOver.apply(self.output, total),  # type: ignore[no-untyped-call]
            inputs=[*self.parameters, *([self.input] if at_once else [])],
        )
        if at_once:
            assert self.input.grad is not None
            grads.append(self.input.grad)
        self.input = self.output = None
        on_ready(self.parameters)
