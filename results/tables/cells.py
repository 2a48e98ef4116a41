"""A cell of a table: the mean over its runs, how it is printed, its delta and whether it is best.

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
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import pandas as pd

from results.record.labels import (
    ACCURACIES,
    ARCHS,
    DATASETS,
    EM_DASH,
    METHODS,
    METRICS,
    UNITS,
    epochs_label,
    label,
)
from results.tables.load import METRIC_PREFIX

REFERENCE = "simclr"  # deltas are against it
DECIMALS = {  # else 1
    **{"memory_percent": 2, "flops_percent": 2, "flops_g": 2, "saving_ratio": 2},
    **{"work_ratio": 2, "step_ratio": 2, "peak_memory_mib": 0},
}

Cell = dict[str, Any]
Runs = list[dict[str, Any]]


class RowKey(NamedTuple):
    """What a row of a table of runs is about."""

    pretrain_epochs: int | None
    method: str
    encoder: str
    setting: str = ""  # of the pretraining, see results.record.run_record
    variant: int = 0  # tells apart runs that deviate differently


def rounded(value: float, metric: str = "") -> Decimal:
    """As the paper prints `metric`: halves away from zero, free of binary noise (29.25 -> 29.3)."""
    places = Decimal(1).scaleb(-DECIMALS.get(metric, 1))
    return Decimal(repr(round(float(value), 9))).quantize(places, ROUND_HALF_UP)


def with_unit(value: Decimal, metric: str) -> str:
    """The number with its unit; a saving ratio of one is the paper's "1×"."""
    text = "1" if metric == "saving_ratio" and value == 1 else str(value)
    return text + UNITS.get(metric, "")


def empty_cell() -> Cell:
    """A cell in which nothing ran, without labels."""
    nan = float("nan")
    return {
        **{"value": nan, "std": nan, "n": 0, "shown": nan, "delta": nan, "best": False},
        **{"text": EM_DASH, "value_text": EM_DASH, "delta_text": ""},
        **{"deviations": (), "run_deviations": (), "backbone_deviations": ()},
        **{"records": (), "samples": ()},
        **{"mark": "", "group_mark": ""},
    }


def run_cell(
    runs: Runs, row: RowKey, dataset: str, metric: str, splits: Sequence[int] = ()
) -> Cell:
    """The mean of `metric` over `runs`; `tables.transfer_table` says what it holds."""
    column = METRIC_PREFIX + metric
    runs = [run for run in runs if not pd.isna(run.get(column))]
    epochs = row.pretrain_epochs
    cell = empty_cell() | row._asdict()
    cell |= {
        "dataset": dataset,
        "metric": metric,
        "block": "" if epochs is None else f"Backbone weights with {epochs_label(epochs).title()}",
        "method_label": label(METHODS, row.method),
        "arch_label": label(ARCHS, row.encoder),
        "group_label": label(DATASETS, dataset),
        "column_label": label({**METRICS, **ACCURACIES}, metric),
    }
    if not runs:
        return cell
    values = [run[column] for run in runs]
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 else float("nan")
    shown = rounded(mean, metric)
    spread = f" ± {rounded(std, metric)}, n={len(values)}" if len(values) > 1 else ""
    text = with_unit(shown, metric) + spread
    return cell | {
        "value": mean,
        "std": std,
        "n": len(values),
        "shown": float(shown),
        "text": text,
        "value_text": text,
        "run_deviations": runs[0]["deviations"],
        "deviations": (*runs[0]["deviations"], *_missing_splits(runs, splits)),
        "backbone_deviations": runs[0]["backbone_deviations"],
        "records": tuple(run["record_path"] for run in runs),
        "samples": tuple((run["split"], run[column]) for run in runs),
    }


def _missing_splits(runs: Runs, splits: Sequence[int]) -> tuple[str, ...]:
    """In words, that a mean is not over all splits."""
    here = {run["split"] for run in runs if not pd.isna(run["split"])}
    found = [split for split in splits if split in here]
    if len(found) == len(splits):
        return ()
    noun = "splits" if len(found) > 1 else "split"
    return (f"{noun} {', '.join(map(str, found))} alone, not the mean over {len(splits)}",)


def add_deltas(cells: list[Cell]) -> None:
    """Fill `delta` and its text where SimCLR ran under the same conditions, both more than once."""

    def conditions(cell: Cell) -> tuple[Any, ...]:
        names = ("pretrain_epochs", "encoder", "dataset", "metric", "deviations")
        return tuple(cell[name] for name in names)

    references: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        if cell["method"] == REFERENCE and cell["n"] > 1:
            references.setdefault(conditions(cell), cell)
    for cell in cells:
        reference = references.get(conditions(cell))
        if reference and cell["n"] > 1 and cell["method"] != REFERENCE:
            metric = cell["metric"]
            delta = rounded(cell["shown"], metric) - rounded(reference["shown"], metric)
            cell["delta"], cell["delta_text"] = float(delta), f"{delta:+}"
            cell["text"] = f"{cell['value_text']} ({delta:+})"


def without_deltas(cells: pd.DataFrame) -> pd.DataFrame:
    """For a table in which the paper prints none."""
    return cells.assign(delta=float("nan"), delta_text="", text=cells["value_text"])


def add_best(cells: list[Cell]) -> None:
    """Mark the highest printed value of every block and column, where there is a choice.

    Runs that deviate differently from the protocol do not compete, and where one competitor is a
    single run nobody wins.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell["n"]:
            names = ("pretrain_epochs", "dataset", "metric", "deviations")
            groups[tuple(cell[name] for name in names)].append(cell)
    for group in groups.values():
        highest = max(cell["shown"] for cell in group)
        choice = len(group) > 1 and all(cell["n"] > 1 for cell in group)
        for cell in group:
            cell["best"] = choice and cell["shown"] == highest


def beside_paper(cell: Cell, printed: float | None) -> list[Cell]:
    """A cell, the paper's value and ours minus the paper's, as three columns."""
    metric, name = cell["metric"], cell["column_label"]
    theirs = None if printed is None else rounded(printed, metric)
    ours = rounded(cell["shown"], metric) if cell["n"] else None
    difference = None if ours is None or theirs is None else ours - theirs
    cell = cell | {"delta": float("nan"), "delta_text": "", "best": False}
    triple = [
        cell | {"text": cell["value_text"]},
        cell
        | {"column_label": f"{name} paper", "records": ()}
        | _as_text(EM_DASH if theirs is None else with_unit(theirs, metric)),
        cell
        | {"column_label": f"{name} diff."}
        | _as_text(EM_DASH if difference is None else f"{difference:+}"),
    ]
    return [part | {"column": 3 * cell["column"] + i} for i, part in enumerate(triple)]


def _as_text(text: str) -> Cell:
    return {"text": text, "value_text": text}
