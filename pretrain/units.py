"""A method is a layout of local units over the encoder's stages (Fig. 1).

A unit is a span of residual blocks with a decoder and an InfoNCE loss at its end; its gradient
stops where the unit begins. SimCLR is one unit over everything, Greedy InfoMax one a stage, LoCo
one for each pair of neighbouring stages, so that every middle stage is shared by two units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from pretrain.encoders import Encoder

StageSpans = Sequence[Sequence[int]]
"""One tuple of neighbouring stage numbers a unit, e.g. ``[(0, 1), (1, 2), (2, 3)]``."""

LAYOUTS: dict[str, Callable[[int], StageSpans]] = {
    "simclr": lambda stages: [tuple(range(stages))],
    "gim": lambda stages: [(k,) for k in range(stages)],
    "loco": lambda stages: [(k, k + 1) for k in range(stages - 1)],
}


@dataclass(frozen=True)
class Unit:
    """Blocks ``start`` up to, not including, ``stop`` of the encoder's chain of blocks."""

    name: str
    start: int
    stop: int


def build_units(layout: str | StageSpans, encoder: Encoder) -> tuple[Unit, ...]:
    """The units of a method's name or of an explicit list of stage spans.

    Raises:
        ValueError: an unknown name, or a layout that leaves a gap, goes backwards or past the end.
    """
    names = encoder.stage_names
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"unknown method {layout!r}; the methods are: {', '.join(LAYOUTS)}")
        spans = LAYOUTS[layout](len(names))
    else:
        spans = layout
    ends = [0, *accumulate(len(stage) for stage in encoder.stages())]
    for span in spans:
        if list(span) != list(range(span[0], span[-1] + 1)) or not 0 <= span[0] <= span[-1] < len(
            names
        ):
            raise ValueError(
                f"unit {tuple(span)} is not a run of neighbouring stages of {encoder.name}, "
                f"whose stages are 0 to {len(names) - 1} ({', '.join(names)}); "
                f"layouts by name: {', '.join(LAYOUTS)}"
            )
    units = tuple(
        Unit("+".join(names[k] for k in span), ends[span[0]], ends[span[-1] + 1]) for span in spans
    )
    check_units(units, ends[-1])
    return units


def check_units(units: Sequence[Unit], num_blocks: int) -> None:
    """Refuse a layout that does not cover the chain of blocks from its first to its last, in order.

    Raises:
        ValueError: says which unit is at fault.
    """
    if not units or units[0].start != 0 or units[-1].stop != num_blocks:
        raise ValueError(
            f"the units {_spans(units)} must begin at block 0 and end at block {num_blocks}, the "
            "end of the encoder"
        )
    for unit in units:
        if unit.start >= unit.stop:
            raise ValueError(f"unit {unit.name} holds no block: {_spans([unit])}")
    for lower, upper in pairwise(units):
        if not (lower.start < upper.start <= lower.stop < upper.stop):
            raise ValueError(
                f"units {_spans([lower, upper])}: the upper one must begin inside or right after "
                "the lower one, and end beyond it"
            )


def segment_bounds(units: Sequence[Unit]) -> list[tuple[int, int]]:
    """Cut the chain of blocks wherever a unit begins or ends.

    Returns:
        The (start, stop) of every segment, in order. All blocks of a segment belong to the same
        units, so a segment is the largest piece that can run forward and backward as one.
    """
    cuts = sorted({cut for unit in units for cut in (unit.start, unit.stop)})
    return list(pairwise(cuts))


def _spans(units: Sequence[Unit]) -> str:
    return ", ".join(f"{unit.name} [{unit.start}, {unit.stop})" for unit in units) or "(none)"
