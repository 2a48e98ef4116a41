"""Transfer tables in the layout of the paper's Tables 2 and 3: records to one tidy row per cell.

Deltas are differences of the values **as printed**, rounded to one decimal first. So does the
paper: all 32 deltas of its Table 2 are reproduced this way, where differences of unrounded values
would be 0.1 off in about every fourth cell; and a reader can check them by subtracting. The same
rule shows two slips in the paper's Table 3 (marked in paper.csv).
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

from results.footnotes import Note, add_footnotes
from results.labels import (
    ACCURACIES,
    ARCHS,
    DATASETS,
    EM_DASH,
    METHODS,
    METRICS,
    epochs_label,
    label,
    rank,
)
from results.load import METRIC_PREFIX
from results.paper import TABLE2, TABLE3, PaperTable, backbone_deviations, optional_int

REFERENCE = "simclr"  # deltas are against it
FAMILIES = {  # protocols that share a table
    "frozen_1x": "frozen",
    "frozen_64ep": "frozen",
    "finetuned_60k": "finetuned",
    "finetuned_15k": "finetuned",
}
TITLES = {
    "demo_frozen": "Embedded scenes, demo schedule",
    "finetuned": "Fine-tuned on few images",
    "frozen": "Frozen backbone",
    "linear": "Linear classifier and k-NN on the frozen encoder",
    "linear_moco": "Linear classifier by MoCo's recipe, and k-NN, on the frozen encoder",
}

Cell = dict[str, Any]
Runs = list[dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """A table ready for a writer: tidy cells (see `transfer_table`) and the notes below them."""

    name: str  # file name without suffix
    title: str
    cells: pd.DataFrame
    notes: tuple[Note, ...]


def transfer_tables(records: pd.DataFrame) -> list[Table]:
    """Every transfer table that `records` can fill: the paper's first, then one per other protocol.

    A run fills a cell of the paper's only if `PaperTable.admits` it. All others, such as runs on
    embedded or reduced data, or with any deviation, get tables of their own that say so.
    """
    return tables_of(records[records["kind"] == "transfer"], [TABLE2, TABLE3], METRICS)


def tables_of(
    records: pd.DataFrame, papers: Iterable[PaperTable], metrics: Iterable[str]
) -> list[Table]:
    """The paper's tables from the runs that they admit, and one of `metrics` per other protocol."""
    family = records["protocol"].map(lambda name: label(FAMILIES, name))
    others = pd.Series(True, index=records.index)
    tables = []
    for paper in papers:
        admitted = pd.Series(
            [paper.admits(run) for run in _runs(records)], index=records.index, dtype="bool"
        )
        others &= ~admitted
        if admitted.any():
            cells = transfer_table(records[admitted], paper.columns, paper.rows, paper.splits)
            cells = cells if paper.prints_deltas else _without_deltas(cells)
            name = f"table{paper.number}"
            tables.append(Table(name, paper.title, *add_footnotes(cells)))
            beside = add_footnotes(with_paper(cells, paper))
            tables.append(Table(f"{name}_paper", f"{paper.title}; beside the paper", *beside))
    for name, runs in records[others].groupby(family):
        datasets = sorted(runs["dataset"].unique(), key=rank(DATASETS))
        columns = [(dataset, metric) for dataset in datasets for metric in metrics]
        title = f"{protocol_title(str(name))} - not comparable with the paper"
        cells = transfer_table(runs, columns)
        tables.append(Table(f"other_{as_file_name(str(name))}", title, *add_footnotes(cells)))
    return tables


def protocol_title(name: str) -> str:
    """What a protocol is, or a family of them."""
    return TITLES.get(name, f"Protocol {name}")


def transfer_table(
    records: pd.DataFrame,
    columns: Sequence[tuple[str, str]],
    rows: Sequence[tuple[int | None, str, str]] = (),
    splits: Sequence[int] = (),
) -> pd.DataFrame:
    """One tidy row per cell, empty ones included, in reading order.

    `columns` are (dataset, metric); `rows` are (pretraining epochs, method, encoder) to show even
    where nothing ran. Runs of one row and dataset are averaged, except that runs with different
    deviations stand in rows of their own (`variant` 0, 1, ...). A cell that lacks some of `splits`
    says so in its deviations, and is compared with cells of the same splits only.

    Columns of the result: `row` and `column` (places); the keys `pretrain_epochs`, `method`,
    `encoder`, `variant`, `dataset`, `metric`; the labels `block`, `method_label`, `arch_label`,
    `group_label`, `column_label`; `value` (mean), `std` (of the sample; NaN for n < 2), `n`,
    `shown` (`value` to one decimal), `delta` (of `shown` against SimCLR with the same encoder,
    block, dataset and deviations), `best` (of its block and column); `text` (the printed cell) and
    its parts `value_text` and `delta_text`; `deviations`, `backbone_deviations`; and `records`, the
    paths that the cell comes from.
    """
    samples: dict[tuple[Any, ...], dict[tuple[str, ...], Runs]] = defaultdict(dict)
    for run in _runs(records):
        key = (optional_int(run["pretrain_epochs"]), run["method"], run["encoder"], run["dataset"])
        deviations = (*run["deviations"], *backbone_deviations(run))
        samples[key].setdefault(deviations, []).append(run)
    row_keys: set[tuple[Any, ...]] = {(*key, 0) for key in rows}
    placed: dict[tuple[Any, ...], Runs] = {}
    for (epochs, method, encoder, dataset), variants in samples.items():
        for variant, texts in enumerate(sorted(variants, key=lambda texts: (len(texts), texts))):
            row_keys.add((epochs, method, encoder, variant))
            placed[epochs, method, encoder, variant, dataset] = variants[texts]
    cells = [
        _cell(placed.get((*key, dataset), []), key, dataset, metric, splits)
        | {"row": row, "column": column}
        for row, key in enumerate(sorted(row_keys, key=_row_order))
        for column, (dataset, metric) in enumerate(columns)
    ]
    _add_deltas(cells)
    _add_best(cells)
    return pd.DataFrame(cells).astype({"pretrain_epochs": "Int64"})


def with_paper(cells: pd.DataFrame, paper: PaperTable) -> pd.DataFrame:
    """The same table with the paper's value, and ours minus the paper's, beside every cell."""
    places = ("pretrain_epochs", "method", "encoder", "dataset", "metric")
    printed = {
        (optional_int(row["pretrain_epochs"]), *(row[name] for name in places[1:])): row["value"]
        for row in _runs(paper.values)
    }
    wide = []
    for cell in _runs(cells):
        key = (optional_int(cell["pretrain_epochs"]), *(cell[name] for name in places[1:]))
        theirs = to_tenths(printed[key]) if key in printed else None
        ours = to_tenths(cell["shown"]) if cell["n"] else None
        difference = None if ours is None or theirs is None else ours - theirs
        cell |= {"delta": float("nan"), "delta_text": "", "best": False}
        name = cell["column_label"]
        triple = [
            cell | {"text": cell["value_text"]},
            cell | {"column_label": f"{name} paper", "records": ()} | _as_text(theirs, ""),
            cell | {"column_label": f"{name} diff."} | _as_text(difference, "+"),
        ]
        wide += [part | {"column": 3 * cell["column"] + i} for i, part in enumerate(triple)]
    return pd.DataFrame(wide)


def to_tenths(value: float) -> Decimal:
    """One decimal, halves away from zero, free of binary noise (29.25 -> 29.3)."""
    return Decimal(repr(round(float(value), 9))).quantize(Decimal("0.1"), ROUND_HALF_UP)


def _runs(frame: pd.DataFrame) -> Runs:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _row_order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    epochs, method, encoder, variant = key
    return (-1 if epochs is None else epochs, rank(ARCHS)(encoder), rank(METHODS)(method), variant)


def _cell(
    runs: Runs, row: tuple[Any, ...], dataset: str, metric: str, splits: Sequence[int]
) -> Cell:
    epochs, method, encoder, variant = row
    column = METRIC_PREFIX + metric
    runs = [run for run in runs if not pd.isna(run.get(column))]
    values = [run[column] for run in runs]
    mean = statistics.fmean(values) if values else float("nan")
    std = statistics.stdev(values) if len(values) > 1 else float("nan")
    shown = str(to_tenths(mean)) if values else EM_DASH
    spread = f" ± {to_tenths(std)}, n={len(values)}" if len(values) > 1 else ""
    return {
        "pretrain_epochs": epochs,
        "method": method,
        "encoder": encoder,
        "variant": variant,
        "dataset": dataset,
        "metric": metric,
        "block": "" if epochs is None else f"Backbone weights with {epochs_label(epochs).title()}",
        "method_label": label(METHODS, method),
        "arch_label": label(ARCHS, encoder),
        "group_label": label(DATASETS, dataset),
        "column_label": label({**METRICS, **ACCURACIES}, metric),
        "value": mean,
        "std": std,
        "n": len(values),
        "shown": float(shown) if values else float("nan"),
        "delta": float("nan"),
        "best": False,
        "text": shown + spread,
        "value_text": shown + spread,
        "delta_text": "",
        "deviations": (*runs[0]["deviations"], *_missing_splits(runs, splits)) if runs else (),
        "backbone_deviations": backbone_deviations(runs[0]) if runs else (),
        "records": tuple(run["record_path"] for run in runs),
    }


def _missing_splits(runs: Runs, splits: Sequence[int]) -> tuple[str, ...]:
    """In words, that a mean is not over all splits."""
    found = [split for split in splits if any(run["split"] == split for run in runs)]
    if len(found) == len(splits):
        return ()
    noun = "splits" if len(found) > 1 else "split"
    return (f"{noun} {', '.join(map(str, found))} alone, not the mean over {len(splits)}",)


def _add_deltas(cells: list[Cell]) -> None:
    """Fill `delta` and its text where SimCLR ran under the same conditions."""

    def conditions(cell: Cell) -> tuple[Any, ...]:
        names = ("pretrain_epochs", "encoder", "dataset", "metric", "deviations")
        return tuple(cell[name] for name in names)

    references: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        if cell["method"] == REFERENCE and cell["n"]:
            references.setdefault(conditions(cell), cell)
    for cell in cells:
        reference = references.get(conditions(cell))
        if reference and cell["n"] and cell["method"] != REFERENCE:
            delta = to_tenths(cell["shown"]) - to_tenths(reference["shown"])
            cell["delta"], cell["delta_text"] = float(delta), f"{delta:+}"
            cell["text"] = f"{cell['value_text']} ({delta:+})"


def _without_deltas(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.assign(delta=float("nan"), delta_text="", text=cells["value_text"])


def _add_best(cells: list[Cell]) -> None:
    """Mark the highest printed value of every block and column, where there is a choice.

    Runs that deviate differently from the protocol do not compete.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell["n"]:
            names = ("pretrain_epochs", "dataset", "metric", "deviations")
            groups[tuple(cell[name] for name in names)].append(cell)
    for group in groups.values():
        highest = max(cell["shown"] for cell in group)
        for cell in group:
            cell["best"] = len(group) > 1 and cell["shown"] == highest


def as_file_name(name: str) -> str:
    """A protocol's name as part of a file name; two that differ stay different."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _as_text(value: Decimal | None, sign: str) -> Cell:
    text = EM_DASH if value is None else f"{value:{sign}}"
    return {"text": text, "value_text": text}
