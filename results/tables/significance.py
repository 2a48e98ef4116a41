"""Whether a difference from SimCLR is more than the splits' own spread: a paired t-test.

Every method is trained on the same splits (section 5.3), so a split's difference is free of what
makes that split easy or hard. The test is scipy's `ttest_rel`. Wilcoxon's signed ranks, which
assume less, cannot go below p = 0.0625 with five pairs, so they could never tell anything here.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from results.tables.cells import REFERENCE, Cell, empty_cell, rounded

MIN_PAIRS = 3
LEVEL = 0.05
TESTED = (
    "a ± b (p): mean and sample standard deviation, over the splits that both ran, of the "
    "difference from SimCLR of the same architecture and pretraining; p of a two-sided paired "
    f"t-test, not corrected for the number of comparisons. Bold: p < {LEVEL}."
)


class PairedTest(NamedTuple):
    """Differences over n pairs, and the two-sided p value of their mean being zero."""

    mean: float
    std: float
    n: int
    p: float  # NaN where all differences are equal: nothing to compare their mean with


def paired_test(ours: Sequence[float], reference: Sequence[float]) -> PairedTest | None:
    """Of values that belong together by place; None for fewer than MIN_PAIRS."""
    if len(ours) < MIN_PAIRS:
        return None
    differences = [a - b for a, b in zip(ours, reference, strict=True)]
    mean, std = statistics.fmean(differences), statistics.stdev(differences)
    p = float("nan") if std < 1e-9 else float(stats.ttest_rel(ours, reference).pvalue)
    return PairedTest(mean, std, len(differences), p)


def paired_tests(cells: pd.DataFrame) -> pd.DataFrame:
    """The same table with a test in every cell that has one; empty where no cell has.

    `delta` is the mean difference, `std` its sample standard deviation, `n` the number of pairs and
    `p` the p value. Only runs with the same deviations are paired.
    """
    rows: list[Cell] = [
        {str(name): value for name, value in row.items()} for row in cells.to_dict("records")
    ]
    references: dict[tuple[Any, ...], Cell] = {}
    for cell in rows:
        if cell["method"] == REFERENCE and cell["n"]:
            references.setdefault(_conditions(cell), cell)
    tested = [_tested(cell, references.get(_conditions(cell))) for cell in rows]
    return pd.DataFrame(tested if any(cell["n"] for cell in tested) else [])


def _tested(cell: Cell, reference: Cell | None) -> Cell:
    blank = cell | empty_cell() | {"p": float("nan")}
    if reference is None or cell["method"] == REFERENCE:
        return blank
    ours, theirs = _by_split(cell), _by_split(reference)
    shared = sorted(ours.keys() & theirs.keys())
    test = paired_test([ours[i] for i in shared], [theirs[i] for i in shared])
    if test is None:
        return blank
    p = "p not defined" if pd.isna(test.p) else f"p={test.p:.3f}" if test.p >= 0.001 else "p<0.001"
    text = f"{rounded(test.mean):+} ± {rounded(test.std)} ({p}, n={test.n})"
    return blank | {
        "delta": test.mean,
        "std": test.std,
        "n": test.n,
        "p": test.p,
        "best": test.p < LEVEL,
        "text": text,
        "value_text": text,
        "records": [*cell["records"], *reference["records"]],
    }


def _conditions(cell: Cell) -> tuple[Any, ...]:
    names = ("encoder", "dataset", "metric", "run_deviations")
    epochs = None if pd.isna(cell["pretrain_epochs"]) else cell["pretrain_epochs"]
    return (epochs, *(cell[name] for name in names))


def _by_split(cell: Cell) -> dict[int, float]:
    """Split -> the mean over its seeds."""
    values: dict[int, list[float]] = defaultdict(list)
    for split, value in cell["samples"]:
        if not pd.isna(split):
            values[int(split)].append(value)
    return {split: statistics.fmean(found) for split, found in values.items()}
