"""Cells of runs: the mean over them, how it is printed, its delta and whether it is best.

Deltas are differences of the values **as printed**, rounded first. So does the paper: all 32 deltas
of its Table 2 are reproduced this way, where differences of unrounded values would be 0.1 off in
about every fourth cell; and a reader can check them by subtracting. The same rule shows two slips
in the paper's Table 3 (marked in paper.csv).

A cell of a single run has neither a delta nor bold type, and gives none to others: how far two runs
of one method lie apart is not known then.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from results.record.labels import ARCHS, METHODS, UNITS, rank
from results.tables.grid import Cell, RowKey
from results.tables.load import Run

REFERENCE = "simclr"  # deltas are against it
DECIMALS = {  # else 1
    **{"memory_percent": 2, "flops_percent": 2, "flops_g": 2, "saving_ratio": 2},
    **{"work_ratio": 2, "step_ratio": 2, "peak_memory_mib": 0},
}

Rows = dict[RowKey, list[Cell]]


def rounded(value: float, metric: str = "") -> Decimal:
    """As the paper prints `metric`: halves away from zero, free of binary noise (29.25 -> 29.3)."""
    places = Decimal(1).scaleb(-DECIMALS.get(metric, 1))
    return Decimal(repr(round(float(value), 9))).quantize(places, ROUND_HALF_UP)


def with_unit(value: Decimal, metric: str) -> str:
    """The number with its unit; a saving ratio of one is the paper's "1×"."""
    text = "1" if metric == "saving_ratio" and value == 1 else str(value)
    return text + UNITS.get(metric, "")


def rows_of_runs(
    runs: Sequence[Run],
    columns: Sequence[tuple[str, str]],
    rows: Sequence[RowKey] = (),
    splits: Sequence[int] = (),
) -> Rows:
    """A cell for every row and column, empty ones included, rows in the order of a table.

    `columns` are (dataset, metric); `rows` are to show even where nothing ran. Runs of one row and
    dataset are averaged, except that runs with different deviations stand in rows of their own
    (`variant` 0, 1, ...). A cell that lacks some of `splits` says so in its deviations, and is
    compared with cells of the same splits only.
    """
    groups: dict[tuple[RowKey, str], dict[tuple[str, ...], list[Run]]] = defaultdict(dict)
    for run in runs:
        groups[row_of(run), run.record.dataset].setdefault(run.deviations, []).append(run)
    placed = {
        (key._replace(variant=variant), dataset): variants[texts]
        for (key, dataset), variants in groups.items()
        for variant, texts in enumerate(sorted(variants, key=lambda texts: (len(texts), texts)))
    }
    keys = sorted({*rows, *(key for key, _ in placed)}, key=_order(rows))
    found = {
        key: [cell_of(placed.get((key, d), ()), key.encoder, d, m, splits) for d, m in columns]
        for key in keys
    }
    return _with_best(_with_deltas(found))


def row_of(run: Run) -> RowKey:
    """The row that a run stands in."""
    record = run.record
    return RowKey(record.pretrain_epochs, record.method, record.encoder, record.setting)


def cell_of(
    runs: Sequence[Run], encoder: str, dataset: str, metric: str, splits: Sequence[int] = ()
) -> Cell:
    """The mean of `metric` over `runs`, as far as they have it."""
    runs = tuple(run for run in runs if metric in run.record.metrics)
    cell = Cell(encoder=encoder, dataset=dataset, metric=metric)
    if not runs:
        return cell
    values = [run.record.metrics[metric] for run in runs]
    n, mean = len(values), statistics.fmean(values)
    std = statistics.stdev(values) if n > 1 else cell.std
    shown = rounded(mean, metric)
    spread = f" ± {rounded(std, metric)}, n={n}" if n > 1 else ""
    return replace(
        cell,
        value=mean,
        std=std,
        n=n,
        shown=float(shown),
        value_text=with_unit(shown, metric) + spread,
        deviations=(*runs[0].record.deviations, *_missing_splits(runs, splits)),
        backbone_deviations=runs[0].backbone_deviations,
        records=tuple(run.path for run in runs),
        runs=runs,
    )


def number_cell(value: float | None, encoder: str, metric: str, source: str) -> Cell:
    """A cell with one number of the file `source`; an empty one for None."""
    cell = Cell(encoder=encoder, metric=metric)
    if value is None:
        return cell
    shown = rounded(value, metric)
    return replace(
        cell,
        value=float(value),
        n=1,
        shown=float(shown),
        value_text=with_unit(shown, metric),
        records=(source,),
    )


def _missing_splits(runs: Sequence[Run], splits: Sequence[int]) -> tuple[str, ...]:
    found = sorted({run.record.split for run in runs if run.record.split is not None})
    if not splits or found == sorted(splits):
        return ()
    noun = "splits" if len(found) > 1 else "split"
    return (f"{noun} {', '.join(map(str, found))} alone, not the mean over {len(splits)}",)


def _order(rows: Sequence[RowKey]) -> Callable[[RowKey], tuple[Any, ...]]:
    """By block, the paper's methods first; as in `rows` if these are ablations, else by names."""
    ablations = any(row.setting for row in rows)

    def place(key: RowKey) -> tuple[Any, ...]:
        epochs = -1 if key.pretrain_epochs is None else key.pretrain_epochs
        at = rows.index(key) if ablations and key in rows else 0
        named = (rank(ARCHS)(key.encoder), rank(METHODS)(key.method))
        return (epochs, key.method not in METHODS, at, *named, key.setting, key.variant)

    return place


def conditions(key: RowKey, cell: Cell, deviations: Sequence[str]) -> tuple[object, ...]:
    """What two cells have to agree in for their difference to be one of methods."""
    return (key.pretrain_epochs, key.encoder, cell.dataset, cell.metric, *deviations)


def _with_deltas(rows: Rows) -> Rows:
    """With `delta` and its text where SimCLR ran under the same conditions, both more than once."""
    references: dict[tuple[object, ...], Cell] = {}
    for key, cells in rows.items():
        for cell in cells if key.method == REFERENCE else ():
            if cell.n > 1:
                references.setdefault(conditions(key, cell, cell.deviations), cell)

    def compared(key: RowKey, cell: Cell) -> Cell:
        reference = references.get(conditions(key, cell, cell.deviations))
        if reference is None or cell.n < 2 or key.method == REFERENCE:
            return cell
        delta = rounded(cell.shown, cell.metric) - rounded(reference.shown, cell.metric)
        return replace(cell, delta=float(delta), delta_text=f"{delta:+}")

    return {key: [compared(key, cell) for cell in cells] for key, cells in rows.items()}


def _with_best(rows: Rows) -> Rows:
    """With the highest printed value of every block and column marked, where there is a choice.

    Runs that deviate differently from the protocol do not compete, and where one competitor is a
    single run nobody wins.
    """

    def group(key: RowKey, cell: Cell) -> tuple[object, ...]:
        return (key.pretrain_epochs, cell.dataset, cell.metric, *cell.deviations)

    groups: Mapping[tuple[object, ...], list[Cell]] = defaultdict(list)
    for key, cells in rows.items():
        for cell in cells:
            if cell.n:
                groups[group(key, cell)].append(cell)
    highest = {
        name: max(cell.shown for cell in found)
        for name, found in groups.items()
        if len(found) > 1 and all(cell.n > 1 for cell in found)
    }
    return {
        key: [replace(c, best=c.n > 0 and c.shown == highest.get(group(key, c))) for c in cells]
        for key, cells in rows.items()
    }
