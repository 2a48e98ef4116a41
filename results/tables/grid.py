"""A table as every writer, figure and trace sees it: rows of cells below columns, with notes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from results.record.labels import EM_DASH
from results.tables.load import Run

NAN = math.nan


class RowKey(NamedTuple):
    """What a row of a table of runs is about."""

    pretrain_epochs: int | None
    method: str
    encoder: str
    setting: str = ""  # of the pretraining, as a run record has it
    variant: int = 0  # tells apart runs that deviate differently


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value as printed, what it is a value of, and what it comes from."""

    encoder: str = ""
    dataset: str = ""
    metric: str = ""
    value: float = NAN  # mean over the runs
    std: float = NAN  # of the sample
    n: int = 0
    shown: float = NAN  # the value as printed
    value_text: str = EM_DASH  # with unit and spread
    delta: float = NAN  # of `shown` against SimCLR's
    delta_text: str = ""
    p: float | None = None  # of a paired test; NaN where it is not defined
    best: bool = False
    mark: str = ""  # letters of footnotes
    deviations: tuple[str, ...] = ()
    backbone_deviations: tuple[str, ...] = ()
    records: tuple[str, ...] = ()  # paths of run records or footprint reports
    runs: tuple[Run, ...] = ()

    @property
    def text(self) -> str:
        """The whole cell as printed."""
        return self.value_text + (f" ({self.delta_text})" if self.delta_text else "")


class Column(NamedTuple):
    """Headings: neighbouring columns of one `group` stand under it."""

    label: str
    group: str = ""
    dataset: str = ""
    mark: str = ""  # of the group: letters of footnotes

    @property
    def name(self) -> str:
        """ "COCO AP^bb"."""
        return f"{self.group} {self.label}".strip()


class Row(NamedTuple):
    """Names, one for every heading of the stub, and cells, one for every column."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    block: str = ""  # title over neighbouring rows
    key: RowKey | None = None  # None where no runs are in it
    label: str | None = None  # what the paper calls it


class Note(NamedTuple):
    """A line below a table; `mark` is the letter that points to it, "" where all cells mean it."""

    mark: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table ready for a writer."""

    name: str  # file name without suffix
    title: str
    stub: tuple[str, ...]  # headings of the rows' names
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()

    def blocks(self) -> Iterator[tuple[str, list[Row]]]:
        """Title and rows of every block."""
        return ((title, list(rows)) for title, rows in groupby(self.rows, lambda row: row.block))

    def groups(self) -> Iterator[tuple[Column, int]]:
        """Neighbouring columns under one heading: the first, and how many there are."""
        for _, columns in groupby(self.columns, lambda column: column.group):
            found = list(columns)
            yield found[0], len(found)

    def all_cells(self) -> Iterator[Cell]:
        """Row by row."""
        return (cell for row in self.rows for cell in row.cells)

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell, for analysis: its fields, its row's and its column's."""
        lines = [
            self._line(row, column, cell) | {"row": y, "column": x}
            for y, row in enumerate(self.rows)
            for x, (column, cell) in enumerate(zip(self.columns, row.cells, strict=True))
        ]
        frame = pd.DataFrame(lines)
        typed = {"pretrain_epochs": "Int64"} if "pretrain_epochs" in frame else {}
        return frame.astype(typed)

    def _line(self, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
        line: dict[str, Any] = {"block": row.block}
        line |= {} if row.label is None else {"row_label": row.label}
        line |= dict(zip(self.stub, row.names, strict=True))
        line |= {"setting": line["Setting"]} if "Setting" in line else {}
        line |= row.key._asdict() if row.key else {}
        line |= {"group_label": column.group, "column_label": column.label}
        line |= {"group_mark": column.mark, "text": cell.text}
        values = {name: getattr(cell, name) for name in Cell.__dataclass_fields__}
        return line | {name: v for name, v in values.items() if name != "p" or v is not None}
