"""Whether a difference from SimCLR is more than the splits' own spread: a paired t-test.

Every method is trained on the same splits (section 5.3), so a split's difference is free of what
makes that split easy or hard. The test is scipy's `ttest_rel`. Wilcoxon's signed ranks, which
assume less, cannot go below p = 0.0625 with five pairs, so they could never tell anything here.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from scipy import stats

from results.tables.cells import REFERENCE, conditions, rounded
from results.tables.grid import NAN, Cell, Note, RowKey, Table

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
    p = NAN if std < 1e-9 else float(stats.ttest_rel(ours, reference).pvalue)
    return PairedTest(mean, std, len(differences), p)


def with_tests(table: Table) -> list[Table]:
    """The table and, where its splits allow it, one with a paired test in place of each value.

    There `delta` is the mean difference, `std` its sample standard deviation, `n` the number of
    pairs and `p` the p value. Only runs with the same deviations are paired.
    """
    references: dict[tuple[object, ...], Cell] = {}
    for row in table.rows:
        for cell in row.cells if row.key and row.key.method == REFERENCE else ():
            if cell.n:
                references.setdefault(_conditions(row.key, cell), cell)
    rows = tuple(
        row._replace(
            cells=tuple(
                _tested(cell, references.get(_conditions(row.key, cell)))
                if row.key and row.key.method != REFERENCE
                else _tested(cell, None)
                for cell in row.cells
            )
        )
        for row in table.rows
    )
    tested = replace(
        table,
        name=f"{table.name}_splits",
        title=f"{table.title}; differences over splits",
        columns=tuple(column._replace(mark="") for column in table.columns),
        rows=rows,
        notes=(Note("", TESTED),),
    )
    return [table, tested] if any(cell.n for cell in tested.all_cells()) else [table]


def _tested(cell: Cell, reference: Cell | None) -> Cell:
    blank = Cell(encoder=cell.encoder, dataset=cell.dataset, metric=cell.metric, p=NAN)
    ours, theirs = _by_split(cell), _by_split(reference)
    shared = sorted(ours.keys() & theirs.keys())
    test = paired_test([ours[i] for i in shared], [theirs[i] for i in shared])
    if test is None or reference is None:
        return blank
    p = f"p={test.p:.3f}" if test.p >= 0.001 else "p<0.001"
    p = "p not defined" if math.isnan(test.p) else p
    return replace(
        blank,
        delta=test.mean,
        std=test.std,
        n=test.n,
        p=test.p,
        best=test.p < LEVEL,
        value_text=f"{rounded(test.mean):+} ± {rounded(test.std)} ({p}, n={test.n})",
        records=(*cell.records, *reference.records),
    )


def _conditions(key: RowKey | None, cell: Cell) -> tuple[object, ...]:
    assert key is not None
    return conditions(key, cell, cell.runs[0].record.deviations if cell.runs else ())


def _by_split(cell: Cell | None) -> dict[int, float]:
    """Split -> the mean over its seeds."""
    values: dict[int, list[float]] = defaultdict(list)
    for run in cell.runs if cell else ():
        if cell and run.record.split is not None:
            values[run.record.split].append(run.record.metrics[cell.metric])
    return {split: statistics.fmean(found) for split, found in values.items()}
