"""What the runs in a table have that its protocol has not, as few footnotes as say it all."""

from __future__ import annotations

import string
from collections import defaultdict
from dataclasses import replace

from results.record.labels import METHODS
from results.tables.grid import Note, Table

_Place = tuple[int, str]  # row, dataset


def with_footnotes(table: Table) -> Table:
    """The table with marks (letters) at cells and headings, and the notes that they point to.

    A deviation that every run shares, or every contrastive one, becomes a plain line; one that all
    runs on a dataset share is marked at the dataset's heading, any other at its cells.
    """
    cells = {
        (y, cell.dataset): cell for y, row in enumerate(table.rows) for cell in row.cells if cell.n
    }
    every = frozenset(cells)
    contrastive = frozenset(
        (y, dataset) for y, dataset in cells if not _is_other(table, y)
    )  # fmt: skip
    where: dict[str, set[_Place]] = defaultdict(set)
    for place, cell in cells.items():
        for text in (*cell.deviations, *cell.backbone_deviations):
            where[text].add(place)
    together: dict[frozenset[_Place], list[str]] = defaultdict(list)  # one note for equal reach
    for text, places in where.items():
        together[frozenset(places)].append(text)

    notes = _reading_aids(table)
    marks: dict[_Place, str] = defaultdict(str)
    group_marks: dict[str, str] = defaultdict(str)
    letters = iter(string.ascii_lowercase + string.ascii_uppercase)
    for reach, texts in together.items():
        words = "; ".join(texts) + "."
        datasets = {dataset for _, dataset in reach}
        if reach == every:
            notes.append(Note("", f"Every run: {words}"))
        elif reach == contrastive:
            notes.append(Note("", f"Every contrastive row: {words}"))
        else:
            letter = next(letters, "*")
            notes.append(Note(letter, words))
            if reach == {place for place in every if place[1] in datasets}:
                for dataset in datasets:
                    group_marks[dataset] += letter
            else:
                for place in reach:
                    marks[place] += letter
    return replace(
        table,
        columns=tuple(c._replace(mark=group_marks[c.dataset]) for c in table.columns),
        rows=tuple(
            row._replace(cells=tuple(replace(c, mark=marks[y, c.dataset]) for c in row.cells))
            for y, row in enumerate(table.rows)
        ),
        notes=tuple(sorted(notes, key=lambda note: note.mark != "")),
    )


def _is_other(table: Table, row: int) -> bool:
    key = table.rows[row].key
    return key is not None and key.method in ("random", "supervised")


def _reading_aids(table: Table) -> list[Note]:
    cells = list(table.all_cells())
    notes = []
    if any(cell.delta_text for cell in cells):
        against = f"{METHODS['simclr']} of the same architecture and pretraining"
        notes.append(Note("", f"In parentheses: difference from {against}."))
    if any(cell.best for cell in cells):
        notes.append(Note("", "Bold: the best of its block and column."))
    if any(cell.n > 1 for cell in cells):
        notes.append(Note("", "a ± b, n=c: mean and sample standard deviation of c runs."))
    return notes
