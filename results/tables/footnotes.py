"""What the runs in a table have that its protocol has not, as few footnotes as say it all."""

from __future__ import annotations

import string
from collections import defaultdict
from typing import NamedTuple

import pandas as pd

from results.record.labels import METHODS

_Place = tuple[int, str]  # row, dataset


class Note(NamedTuple):
    """A line below a table; `mark` is the letter that points to it, "" where all cells mean it."""

    mark: str
    text: str


def add_footnotes(cells: pd.DataFrame) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Cells with the columns `mark` and `group_mark` (letters or ""), and the notes.

    A deviation that every run shares, or every contrastive one, becomes a plain line; one that all
    runs on a dataset share is marked at the dataset's heading, any other at its cells.
    """
    runs = {(row["row"], row["dataset"]): row for row in cells.to_dict("records") if row["n"]}
    every = frozenset(runs)
    contrastive = frozenset(
        place for place, run in runs.items() if run["method"] not in ("random", "supervised")
    )
    where: dict[str, set[_Place]] = defaultdict(set)
    for place, run in runs.items():
        for text in (*run["deviations"], *run["backbone_deviations"]):
            where[text].add(place)
    together: dict[frozenset[_Place], list[str]] = defaultdict(list)  # one note for equal reach
    for text, places in where.items():
        together[frozenset(places)].append(text)

    notes = _reading_aids(cells)
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
    place_of = list(zip(cells["row"], cells["dataset"], strict=True))
    marked = cells.assign(
        mark=[marks[place] if place in runs else "" for place in place_of],
        group_mark=[group_marks[dataset] for _, dataset in place_of],
    )
    return marked, tuple(sorted(notes, key=lambda note: note.mark != ""))


def _reading_aids(cells: pd.DataFrame) -> list[Note]:
    notes = []
    if (cells["delta_text"] != "").any():
        against = f"{METHODS['simclr']} of the same architecture and pretraining"
        notes.append(Note("", f"In parentheses: difference from {against}."))
    if cells["best"].any():
        notes.append(Note("", "Bold: the best of its block and column."))
    if (cells["n"] > 1).any():
        notes.append(Note("", "a ± b, n=c: mean and sample standard deviation of c runs."))
    return notes
