"""Where the cells of a `Table` stand: what every written form has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from results.tables.cells import Cell
from results.tables.tables import Table


class Layout(NamedTuple):
    """A table's headings, and its rows in blocks."""

    stub: tuple[tuple[str, str], ...]  # what names a row: heading and column of the cells
    headings: list[Cell]  # one cell per column, for its labels
    blocks: list[tuple[str, list[list[Cell]]]]  # title ("" for the first), rows of cells

    def names(self, row: list[Cell]) -> list[str]:
        """What names a row."""
        return [str(row[0][column]) for _, column in self.stub]

    def groups(self) -> Iterator[tuple[Cell, int]]:
        """Neighbouring columns under one heading: the first, and how many there are."""
        start = 0
        for place, heading in enumerate([*self.headings[1:], None], start=1):
            if heading is None or heading["group_label"] != self.headings[start]["group_label"]:
                yield self.headings[start], place - start
                start = place


def layout_of(table: Table) -> Layout:
    """Rows and columns of the table's tidy cells, in their order."""
    rows: dict[int, list[Cell]] = {}
    for cell in table.cells.sort_values(["row", "column"]).to_dict("records"):
        rows.setdefault(cell["row"], []).append({str(k): v for k, v in cell.items()})
    blocks: list[tuple[str, list[list[Cell]]]] = []
    for row in rows.values():
        if not blocks or blocks[-1][0] != row[0]["block"]:
            blocks.append((row[0]["block"], []))
        blocks[-1][1].append(row)
    return Layout(table.stub, next(iter(rows.values())), blocks)
