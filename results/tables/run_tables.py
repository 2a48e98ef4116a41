"""Tables of runs: the paper's from the runs that follow its protocols, others from the rest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from results.record.labels import (
    ACCURACIES,
    ARCHS,
    DATASETS,
    EM_DASH,
    ENCODERS,
    METHODS,
    METRICS,
    label,
    rank,
)
from results.tables.cells import Rows, rounded, rows_of_runs, with_unit
from results.tables.footnotes import with_footnotes
from results.tables.grid import NAN, Cell, Column, Row, RowKey, Table
from results.tables.load import Run
from results.tables.paper import (
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5,
    TABLE7,
    PaperTable,
    block_title,
)
from results.tables.significance import with_tests

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
BY_STAGE = "top1_"  # with a stage's name: the accuracy of the linear classifier on its features
MAX_FILE_NAME = 100  # characters of a protocol's name in it; file systems take 255 in all
NOT_THE_PAPERS = "not comparable with the paper"


def transfer_tables(runs: Iterable[Run]) -> list[Table]:
    """Every transfer table that the runs can fill: the paper's first, then one a protocol.

    A run fills a cell of the paper's only if `PaperTable.admits` it. All others, such as runs on
    embedded or reduced data, or with any deviation, get tables of their own that say so.
    """
    transfers = [run for run in runs if run.record.kind == "transfer"]
    return tables_of(transfers, [TABLE2, TABLE3], METRICS)


def linear_tables(every: Iterable[Run]) -> list[Table]:
    """The same of readouts, Tables 1, 4 and 5; and the accuracy on every stage's features.

    Readouts of Table 7 are left to `footprint_tables`, which has its other column.
    """
    runs = [run for run in every if run.record.kind == "linear"]
    rest = [run for run in runs if not TABLE7.admits(run)]
    tables = tables_of(rest, [TABLE1, TABLE4, TABLE5], ACCURACIES)
    measured = sorted({m for r in runs for m in r.record.metrics if m.startswith(BY_STAGE)})
    with_stages = [run for run in runs if set(measured) & run.record.metrics.keys()]
    for protocol, found in _grouped(with_stages, lambda run: run.record.protocol):
        has = {(run.record.dataset, metric) for run in found for metric in run.record.metrics}
        columns = [
            (dataset, metric)
            for dataset in _datasets(found)
            for metric in measured
            if (dataset, metric) in has
        ]
        title = f"{protocol_title(protocol)}: top-1 at every stage - {NOT_THE_PAPERS}"
        name = f"stages_{as_file_name(protocol)}"
        tables.append(free_table(name, title, columns, rows_of_runs(found, columns)))
    return tables


def tables_of(
    runs: Sequence[Run], papers: Iterable[PaperTable], metrics: Iterable[str]
) -> list[Table]:
    """The paper's tables from the runs that they admit, and one of `metrics` per other protocol."""
    tables: list[Table] = []
    rest = list(runs)
    for paper in papers:
        if admitted := [run for run in runs if paper.admits(run)]:
            rows = paper_rows(admitted, paper, paper.columns)
            tables += paper_tables(paper, column_headings(paper.columns), rows)
        rest = [run for run in rest if not paper.admits(run)]
    for name, found in _grouped(rest, lambda run: label(FAMILIES, run.record.protocol)):
        columns = [(dataset, metric) for dataset in _datasets(found) for metric in metrics]
        title = f"{protocol_title(name)} - {NOT_THE_PAPERS}"
        cells = rows_of_runs(found, columns)
        tables += with_tests(free_table(f"other_{as_file_name(name)}", title, columns, cells))
    return tables


def free_table(name: str, title: str, columns: Sequence[tuple[str, str]], cells: Rows) -> Table:
    """A table that is none of the paper's; says which setting where one is not its method's own."""
    stub = ("Method", "Arch", "Setting")[: 3 if any(key.setting for key in cells) else 2]
    rows = tuple(
        Row(
            names=(label(METHODS, key.method), label(ARCHS, key.encoder), key.setting)[: len(stub)],
            cells=tuple(found),
            block=block_title(key),
            key=key,
        )
        for key, found in cells.items()
    )
    return with_footnotes(Table(name, title, stub, column_headings(columns), rows))


def column_headings(columns: Iterable[tuple[str, str]]) -> tuple[Column, ...]:
    """Of (dataset, metric)."""
    names = METRICS | ACCURACIES
    return tuple(
        Column(names.get(m, m.removeprefix(BY_STAGE)), label(DATASETS, d), d) for d, m in columns
    )


def paper_rows(
    admitted: Sequence[Run], paper: PaperTable, columns: Sequence[tuple[str, str]]
) -> Rows:
    """`rows_of_runs` with the rows of a table of the paper, and deltas where it prints them."""
    rows = rows_of_runs(admitted, columns, tuple(paper.rows), paper.splits)
    if paper.prints_deltas:
        return rows
    return {key: [replace(c, delta=NAN, delta_text="") for c in row] for key, row in rows.items()}


def paper_tables(paper: PaperTable, columns: tuple[Column, ...], cells: Rows) -> list[Table]:
    """A table of the paper, its form beside the paper's values, and the tests over splits."""
    rows = tuple(
        Row(paper.names(key), tuple(found), paper.block(key), key, paper.label(key))
        for key, found in cells.items()
    )
    plain = Table(f"table{paper.number}", paper.title, paper.stub, columns, rows)
    table, *tests = with_tests(with_footnotes(plain))
    return [table, with_footnotes(_beside_paper(plain, paper)), *tests]


def _beside_paper(table: Table, paper: PaperTable) -> Table:
    """The paper's value, and ours minus the paper's, beside every cell; others' methods on top."""
    rows = [_others_row(row, table, paper) for row in paper.values.itertuples() if not row.method]
    for row in table.rows:
        assert row.key is not None
        key = row.key._replace(variant=0)
        cells = (beside(c, paper.printed.get((key, c.dataset, c.metric))) for c in row.cells)
        rows.append(row._replace(cells=tuple(part for parts in cells for part in parts)))
    return replace(
        table,
        name=f"{table.name}_paper",
        title=f"{table.title}; beside the paper",
        columns=beside_columns(table.columns),
        rows=tuple(rows),
    )


def _others_row(line: Any, table: Table, paper: PaperTable) -> Row:
    """The paper's row of a method that is not run here."""
    key = RowKey(None, "", line.encoder)
    names = dict(zip(table.stub, paper.names(key), strict=True))
    names["Method"] = line.row.removesuffix(f" {ENCODERS.get(line.encoder)}")
    cell = Cell(encoder=line.encoder, dataset=line.dataset, metric=line.metric)
    return Row(tuple(names.values()), beside(cell, line.value), "", key, table.rows[0].label)


def beside_columns(columns: Iterable[Column]) -> tuple[Column, ...]:
    """A column, the paper's and the difference."""
    words = ("", " paper", " diff.")
    return tuple(c._replace(label=c.label + word) for c in columns for word in words)


def beside(cell: Cell, printed: float | None) -> tuple[Cell, Cell, Cell]:
    """A cell, the paper's value and ours minus the paper's."""
    theirs = None if printed is None else rounded(printed, cell.metric)
    ours = rounded(cell.shown, cell.metric) if cell.n else None
    difference = None if ours is None or theirs is None else ours - theirs
    own = replace(cell, delta=NAN, delta_text="", best=False)
    text = EM_DASH if theirs is None else with_unit(theirs, cell.metric)
    return (
        own,
        replace(own, value_text=text, records=()),
        replace(own, value_text=EM_DASH if difference is None else f"{difference:+}"),
    )


def protocol_title(name: str) -> str:
    """What a protocol is, or a family of them."""
    return TITLES.get(name, f"Protocol {name}")


def as_file_name(name: str) -> str:
    """A protocol's name as part of a file name; two that differ stay different."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:MAX_FILE_NAME]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _datasets(runs: Iterable[Run]) -> list[str]:
    return sorted({run.record.dataset for run in runs}, key=rank(DATASETS))


def _grouped(runs: Iterable[Run], name: Callable[[Run], str]) -> list[tuple[str, list[Run]]]:
    """Runs by a name, in the order of the alphabet."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(name(run), []).append(run)
    return sorted(groups.items())
