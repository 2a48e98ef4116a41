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

Spans = list[tuple[int, int]]
"""First block and one past the last block of each unit."""


def _sharing_blocks(count: int) -> Callable[[list[int]], Spans]:
    """A unit a stage, reaching ``count`` blocks into the next one (section 5.5)."""

    def spans(ends: list[int]) -> Spans:
        tops = [min(stop + count, above) for stop, above in pairwise(ends[1:])]
        units = list(zip(ends[:-2], tops, strict=True))
        # Where the last stage has no block left over, the unit below ends where its own would.
        return units if tops[-1] == ends[-1] else [*units, (ends[-2], ends[-1])]

    return spans


# By name, from the ends of the stages: [0, blocks of stage 0, blocks of stages 0 and 1, ...].
LAYOUTS: dict[str, Callable[[list[int]], Spans]] = {
    "simclr": lambda ends: [(0, ends[-1])],
    "gim": lambda ends: list(pairwise(ends)),
    "loco": lambda ends: list(zip(ends[:-2], ends[2:], strict=True)),
    "loco_1_block": _sharing_blocks(1),  # Table 5, "Sharing 1 block"
    "loco_2_blocks": _sharing_blocks(2),  # Table 5, "Sharing 2 blocks"
    # Appendix A plots a loss at res2 too, which the pairs of section 4.1 do not have.
    "loco_res2": lambda ends: [(0, ends[1]), *zip(ends[:-2], ends[2:], strict=True)],
}


@dataclass(frozen=True)
class Unit:
    """Blocks ``start`` up to, not including, ``stop`` of the encoder's chain of blocks."""

    name: str
    start: int
    stop: int


def build_units(layout: str | StageSpans, encoder: Encoder) -> tuple[Unit, ...]:
    """The units of a layout's name or of an explicit list of stage spans.

    Raises:
        ValueError: an unknown name, or a layout that leaves a gap, goes backwards or past the end.
    """
    ends = [0, *accumulate(len(stage) for stage in encoder.stages())]
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"unknown method {layout!r}; the methods are: {', '.join(LAYOUTS)}")
        spans = LAYOUTS[layout](ends)
    else:
        spans = [_blocks_of(span, ends, encoder) for span in layout]
    units = tuple(
        Unit(_name(start, stop, ends, encoder.stage_names), start, stop) for start, stop in spans
    )
    check_units(units, ends[-1])
    return units


def _blocks_of(span: Sequence[int], ends: list[int], encoder: Encoder) -> tuple[int, int]:
    """A run of neighbouring stages as a span of blocks."""
    names = encoder.stage_names
    neighbours = bool(span) and list(span) == list(range(span[0], span[-1] + 1))
    if not neighbours or span[0] < 0 or span[-1] >= len(names):
        raise ValueError(
            f"unit {tuple(span)} is not a run of neighbouring stages of {encoder.name}, whose "
            f"stages are 0 to {len(names) - 1} ({', '.join(names)}); layouts by name: "
            f"{', '.join(LAYOUTS)}"
        )
    return ends[span[0]], ends[span[-1] + 1]


def _name(start: int, stop: int, ends: list[int], names: Sequence[str]) -> str:
    """``res2+res3``; ``res2+res3[:1]`` for a unit that holds only the first block of res3."""
    parts = []
    for name, (first, last) in zip(names, pairwise(ends), strict=True):
        low, high = max(start, first), min(stop, last)
        if low < high:
            whole = (low, high) == (first, last)
            parts.append(name if whole else f"{name}[{low - first or ''}:{high - first}]")
    return "+".join(parts)


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
        if not (lower.start <= upper.start <= lower.stop < upper.stop):
            raise ValueError(
                f"units {_spans([lower, upper])}: the upper one must begin inside or right after "
                "the lower one, not before it, and end beyond it"
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
