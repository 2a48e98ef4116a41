"""Tables of runs in the layout of the paper's: records to one tidy row per cell."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.record.labels import ARCHS, DATASETS, ENCODERS, METHODS, METRICS, label, rank
from results.tables.backbone import unexplained
from results.tables.cells import (
    RowKey,
    Runs,
    add_best,
    add_deltas,
    beside_paper,
    run_cell,
    without_deltas,
)
from results.tables.footnotes import Note, add_footnotes
from results.tables.paper import TABLE2, TABLE3, PaperTable, optional_int
from results.tables.significance import TESTED, paired_tests

FAMILIES = {  # protocols that share a table
    "frozen_1x": "frozen",
    "frozen_64ep": "frozen",
    "finetuned_60k": "finetuned",
    "finetuned_15k": "finetuned",
}
TITLES = {
    "demo_finetuned": "Embedded scenes, fine-tuned on few of them, demo schedule",
    "demo_frozen": "Embedded scenes, demo schedule",
    "demo_linear": "Shapes of the embedded scenes, linear classifier and k-NN, demo schedule",
    "finetuned": "Fine-tuned on few images",
    "frozen": "Frozen backbone",
    "linear": "Linear classifier and k-NN on the frozen encoder",
    "linear_moco": "Linear classifier by MoCo's recipe, and k-NN, on the frozen encoder",
}
MAX_FILE_NAME = 100  # characters of a protocol's name in it; file systems take 255 in all
NOT_THE_PAPERS = "not comparable with the paper"
STUB = (("Method", "method_label"), ("Arch", "arch_label"))


@dataclass(frozen=True)
class Table:
    """A table ready for a writer: tidy cells (see `transfer_table`) and the notes below them."""

    name: str  # file name without suffix
    title: str
    cells: pd.DataFrame
    notes: tuple[Note, ...]
    stub: tuple[tuple[str, str], ...] = STUB  # what names a row: headings and columns of `cells`


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
    runs = runs_of(records)
    others = pd.Series(True, index=records.index)
    tables = []
    for paper in papers:
        admitted = pd.Series([paper.admits(r) for r in runs], index=records.index, dtype="bool")
        others &= ~admitted
        if admitted.any():
            tables += paper_tables(records[admitted], paper)
    rest = records[others]
    for name, found in rest.groupby(rest["protocol"].map(lambda name: label(FAMILIES, name))):
        datasets = sorted(found["dataset"].unique(), key=rank(DATASETS))
        columns = [(dataset, metric) for dataset in datasets for metric in metrics]
        title = f"{protocol_title(str(name))} - {NOT_THE_PAPERS}"
        tables += _with_tests(
            free_table(f"other_{as_file_name(str(name))}", title, transfer_table(found, columns))
        )
    return tables


def free_table(name: str, title: str, cells: pd.DataFrame) -> Table:
    """A table that is none of the paper's; says which setting where one is not its method's own."""
    stub = (*STUB, ("Setting", "setting")) if cells["setting"].any() else STUB
    return Table(name, title, *add_footnotes(cells), stub)


def paper_tables(admitted: pd.DataFrame, paper: PaperTable) -> list[Table]:
    """A table of the paper from runs that it admits, the form beside the paper, and the tests."""
    cells = paper_cells(admitted, paper, paper.columns)
    name, title = f"table{paper.number}", paper.title
    beside = add_footnotes(with_paper(cells, paper))
    table = Table(name, title, *add_footnotes(cells), paper.stub or STUB)
    return [
        table,
        Table(f"{name}_paper", f"{title}; beside the paper", *beside, paper.stub or STUB),
        *_with_tests(table)[1:],
    ]


def paper_cells(
    admitted: pd.DataFrame, paper: PaperTable, columns: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """`transfer_table` with the rows, labels and deltas of a table of the paper."""
    cells = transfer_table(admitted, columns, paper.rows, paper.splits)
    cells = cells if paper.prints_deltas else without_deltas(cells)
    return paper.add_labels(cells)


def _with_tests(table: Table) -> list[Table]:
    """The table and, where its splits allow them, the paired tests of its differences."""
    tested = paired_tests(table.cells)
    if tested.empty:
        return [table]
    title = f"{table.title}; differences over splits"
    return [table, Table(f"{table.name}_splits", title, tested, (Note("", TESTED),), table.stub)]


def protocol_title(name: str) -> str:
    """What a protocol is, or a family of them."""
    return TITLES.get(name, f"Protocol {name}")


def transfer_table(
    records: pd.DataFrame,
    columns: Sequence[tuple[str, str]],
    rows: Sequence[RowKey] = (),
    splits: Sequence[int] = (),
) -> pd.DataFrame:
    """One tidy row per cell, empty ones included, in reading order.

    `columns` are (dataset, metric); `rows` are to show even where nothing ran. Runs of one row and
    dataset are averaged, except that runs with different deviations stand in rows of their own
    (`variant` 0, 1, ...). A cell that lacks some of `splits` says so in its deviations, and is
    compared with cells of the same splits only.

    Columns of the result: `row` and `column` (places); the keys of `RowKey`, `dataset`, `metric`;
    the labels `block`, `method_label`, `arch_label`, `group_label`, `column_label`; `value` (mean),
    `std` (of the sample; NaN for n < 2), `n`, `shown` (`value` as printed), `delta` (of `shown`
    against SimCLR with the same encoder, block, dataset and deviations), `best` (of its block and
    column), both only where no single run is in it; `text` (the printed cell) and its parts
    `value_text` and `delta_text`; `deviations`, `backbone_deviations`; `records`, the paths that
    the cell comes from, and `samples`, their (split, value).
    """
    samples: dict[tuple[RowKey, str], dict[tuple[str, ...], Runs]] = defaultdict(dict)
    for run in runs_of(records):
        epochs = optional_int(run["pretrain_epochs"])
        key = RowKey(epochs, run["method"], run["encoder"], run["setting"])
        told = unexplained(run["backbone_deviations"], run["setting"])
        run["backbone_deviations"] = told  # the setting is a row's own
        deviations = (*run["deviations"], *run["backbone_deviations"])
        samples[key, run["dataset"]].setdefault(deviations, []).append(run)
    row_keys = set(rows)
    placed: dict[tuple[RowKey, str], Runs] = {}
    for (key, dataset), variants in samples.items():
        for variant, texts in enumerate(sorted(variants, key=lambda texts: (len(texts), texts))):
            row_keys.add(key._replace(variant=variant))
            placed[key._replace(variant=variant), dataset] = variants[texts]
    cells = [
        run_cell(placed.get((key, dataset), []), key, dataset, metric, splits)
        | {"row": row, "column": column}
        for row, key in enumerate(sorted(row_keys, key=lambda key: _row_order(key, rows)))
        for column, (dataset, metric) in enumerate(columns)
    ]
    add_deltas(cells)
    add_best(cells)
    return pd.DataFrame(cells).astype({"pretrain_epochs": "Int64"})


def with_paper(cells: pd.DataFrame, paper: PaperTable) -> pd.DataFrame:
    """The same table with the paper's value, and ours minus the paper's, beside every cell."""
    places = ("pretrain_epochs", "method", "encoder", "setting", "dataset", "metric")
    printed = {
        (optional_int(row["pretrain_epochs"]), *(row[name] for name in places[1:])): row["value"]
        for row in runs_of(paper.values)
    }
    wide = []
    for cell in [*_others_rows(cells, paper), *runs_of(cells)]:
        key = (optional_int(cell["pretrain_epochs"]), *(cell[name] for name in places[1:]))
        wide += beside_paper(cell, cell.get("printed", printed.get(key)))
    return pd.DataFrame(wide).astype({"pretrain_epochs": "Int64"})


def _others_rows(cells: pd.DataFrame, paper: PaperTable) -> Runs:
    """The paper's rows of methods that are not run here, which stand above ours."""
    others = runs_of(paper.values[paper.values["method"] == ""])
    first = runs_of(cells)[0]
    rows = []
    for place, row in enumerate(others):
        key = RowKey(None, "", row["encoder"])
        name = row["row"].removesuffix(f" {ENCODERS.get(key.encoder)}")
        cell = first | run_cell([], key, row["dataset"], row["metric"]) | {"method_label": name}
        cell |= {"row": place - len(others), "column": 0, "local_label": "", "block": ""}
        rows.append(cell | {"column_label": first["column_label"], "printed": row["value"]})
    return rows


def runs_of(frame: pd.DataFrame) -> Runs:
    """The rows of a frame as dicts."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _row_order(key: RowKey, rows: Sequence[RowKey]) -> tuple[Any, ...]:
    """By block; within it as `rows` where they are ablations, else by encoder and method."""
    epochs = -1 if key.pretrain_epochs is None else key.pretrain_epochs
    ablations = any(row.setting for row in rows)
    place = rows.index(key) if ablations and key in rows else 0
    named = (rank(ARCHS)(key.encoder), rank(METHODS)(key.method))
    return (epochs, place, *named, key.setting, key.variant)


def as_file_name(name: str) -> str:
    """A protocol's name as part of a file name; two that differ stay different."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:MAX_FILE_NAME]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
