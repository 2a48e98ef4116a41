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
    segments: Sequence["Segment"],
    decoders: Sequence[nn.Module],
    losses: Sequence[Callable[[Tensor], Tensor]],
    on_ready: OnReady = lambda parameters: None,
) -> list[Tensor]:
    """One step of local learning: every parameter's gradient is added to its ``.grad``.

    This is the serial schedule: when a unit's last segment has run forward, the unit's loss goes
    backward through its segments at once, before the next segment runs.

    Args:
        images: (2N, 3, H, W).
        segments: from :func:`cut_into_segments`, used for this step only.
        decoders: one a unit, from the lowest to the highest; takes the output of its last block.
        losses: one a unit; of the decoder's output, gives a scalar.
        on_ready: called with the parameters of a decoder or segment as soon as they are final.

    Returns:
        The loss of each unit, detached.
    """
    heads = iter(zip(decoders, losses, strict=True))
    found = []
    x = images
    for top, segment in enumerate(segments):
        x = segment.forward(x)
        unit = segment.ends
        if unit is None:
            continue
        decoder, loss = next(heads)
        boundary = x.detach().requires_grad_()
        unit_loss = loss(decoder(boundary))
        found.append(unit_loss.detach())
        with torch.autocast(x.device.type, enabled=False):  # a gradient has its tensor's type
            unit_loss.backward()
            on_ready([p for p in decoder.parameters() if p.requires_grad])
            segment.output_gradient, boundary.grad = boundary.grad, None
            place = top
            while unit.start < segments[place].start:
                segments[place - 1].output_gradient = segments[place].backward(unit, on_ready)
                place -= 1
            segments[place].backward(unit, on_ready)
    return found


def cut_into_segments(
    blocks: Sequence[Block], units: Sequence[Unit], upper_gradient_only: bool = False
) -> list["Segment"]:
    """The chain of blocks, cut wherever a unit begins or ends; see :class:`Segment`."""
    return [
        Segment(
            start,
            blocks[start:stop],
            units=[unit for unit in units if unit.start <= start and stop <= unit.stop],
            ends=next((unit for unit in units if unit.stop == stop), None),
            upper_gradient_only=upper_gradient_only,
        )
        for start, stop in segment_bounds(units)
    ]


class Segment:
    """A piece of the chain between two unit boundaries, and what is alive of it during one step.

    A schedule calls ``forward`` once, then for every unit of the segment, from the lowest to the
    highest, sets ``output_gradient`` and calls ``backward``. The gradient is handed over as an
    attribute, so that nobody else holds it while the segment works: it may be as large as the
    largest activation.

    Args:
        start: place of its first block in the chain.
        blocks: that it runs.
        units: that it belongs to, from the lowest to the highest.
        ends: the unit whose decoder takes this segment's output, if any.
        upper_gradient_only: the parameters learn from the highest unit alone (Table 5).

    Attributes:
        output_gradient: of the next unit's loss, with the shape of the output.
    """

    def __init__(
        self,
        start: int,
        blocks: Sequence[Block],
        units: Sequence[Unit],
        ends: Unit | None,
        upper_gradient_only: bool = False,
    ) -> None:
        self.start, self.blocks, self.units, self.ends = start, blocks, units, ends
        self.upper_gradient_only = upper_gradient_only
        self.parameters = block_parameters(blocks)
        self.output_gradient: Tensor | None = None
        self._input: Tensor | None = None
        self._output: Tensor | None = None
        self._waiting: Tensor | None = None  # output gradients of the units so far, summed

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks on ``x``, which no graph leads to; none leads to the result either."""
        self._input = x.requires_grad_(any(unit.start < self.start for unit in self.units))
        self._output = self._input
        for block in self.blocks:
            self._output = run_block(block, self._output)
        return self._output.detach()

    def backward(self, unit: Unit, on_ready: OnReady = lambda parameters: None) -> Tensor | None:
        """Take ``output_gradient``, one unit's, through the segment.

        There are four cases, by whether the unit began further below and whether it is the last of
        this segment's units:

        - further below, not the last: the input's gradient is computed, the graph is kept, and the
          output's gradient waits for the others;
        - begins here, not the last: the output's gradient waits, nothing is computed;
        - begins here, the last: the parameters' gradient is computed from the sum of all that
          waited, and whatever the segment kept is dropped;
        - further below, the last: both. One pass serves both gradients where nothing waited.

        Args:
            unit: whose gradient it is.
            on_ready: called with the parameters once their gradient is final.

        Returns:
            The gradient of the input, or None where the unit begins here.
        """
        assert self._input is not None and self._output is not None
        gradient, self.output_gradient = self.output_gradient, None
        assert gradient is not None
        last, goes_below = unit is self.units[-1], unit.start < self.start
        at_once = goes_below and last and self._waiting is None
        of_input = None
        if goes_below and not at_once:
            (of_input,) = torch.autograd.grad(
                self._output, self._input, gradient, retain_graph=True
            )
        if not last:
            if not self.upper_gradient_only:
                self._waiting = gradient if self._waiting is None else self._waiting + gradient
            return of_input
        if self._waiting is not None:
            gradient = self._waiting + gradient
            self._waiting = None
        root = _GradientOf.apply(self._output, gradient)  # type: ignore[no-untyped-call]
        del gradient
        torch.autograd.backward(
            root, inputs=[*self.parameters, *([self._input] if at_once else [])]
        )
        if at_once:
            of_input = self._input.grad
        self._input = self._output = None
        on_ready(self.parameters)
        return of_input


class _GradientOf(torch.autograd.Function):
    """A root of the graph that gives ``output`` its gradient and lets go of it.

    Given to ``backward`` as an argument it would be held until the whole segment is done.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        return gradient, None
