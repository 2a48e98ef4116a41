"""How neighbouring units share what they overlap in (section 5.5, Table 5).

Hard sharing, LoCo's own, is nothing but the layout of units. This file has the two alternatives
that the paper tries: keeping the upper unit's gradient only, and untied copies held together by a
penalty.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from pretrain.encoders import Encoder
from pretrain.units import Unit


@dataclass(frozen=True)
class Sharing:
    """What happens where two units overlap; the default is LoCo's.

    Attributes:
        upper_gradient_only: a shared block learns from the upper unit alone (Table 5, "Upper layer
            grad only"); the lower unit's gradient still passes through it, to what lies below.
        l2: coefficient of the penalty between untied copies (Table 5, "L2 penalty"); None ties.
    """

    upper_gradient_only: bool = False
    l2: float | None = None

    def __post_init__(self) -> None:
        if self.upper_gradient_only and self.l2 is not None:
            raise ValueError(
                "sharing has both upper_gradient_only and l2; copies that are not tied share no "
                "gradient: set one of them"
            )
        if self.l2 is not None and self.l2 < 0:
            raise ValueError(f"sharing.l2 is {self.l2}; expected a coefficient from 0 up")


def untie(units: Sequence[Unit], encoder: Encoder) -> tuple[tuple[Unit, ...], list[nn.Sequential]]:
    """Give every lower unit a copy of its own of what it shared with the next one.

    Returns:
        The units cut down to what is theirs alone, and for each the copies of the blocks that were
        cut off, identical to the originals; they go in front of the unit's decoder. Empty for the
        last unit, which keeps the originals.
    """
    blocks = encoder.blocks()
    cut, copies = [], []
    for lower, upper in pairwise(units):
        cut.append(Unit(lower.name, lower.start, upper.start))
        shared = [module for block in blocks[upper.start : lower.stop] for module in block]
        copies.append(copy.deepcopy(nn.Sequential(*shared)))
    return (*cut, units[-1]), [*copies, nn.Sequential()]


@torch.no_grad()
def add_penalty(
    units: Sequence[Unit], fronts: Sequence[nn.Module], encoder: Encoder, l2: float
) -> None:
    """Add the gradient of ``l2 / 2 * ||w - w'||^2`` to every pair of an original and its copy.

    The paper calls it "similar to L2 regularization on weights", whose gradient is the coefficient
    times the weight; here it is the coefficient times the difference.

    Args:
        units: as :func:`untie` returns them.
        fronts: the copies, as :func:`untie` returns them.
        encoder: holds the originals.
        l2: the coefficient.
    """
    blocks = encoder.blocks()
    for unit, front in zip(units, fronts, strict=True):
        above = [module for block in blocks[unit.stop :] for module in block]
        originals = dict(nn.Sequential(*above).named_parameters())  # named as their copies are
        for name, own in front.named_parameters():
            original = originals[name]
            pull = l2 * (original - own)
            original.grad = pull if original.grad is None else original.grad + pull
            own.grad = -pull if own.grad is None else own.grad - pull
