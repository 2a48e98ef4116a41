"""Tables 1, 4 and 5 from the records of linear readouts, and what each stage's features give."""

from __future__ import annotations

import pandas as pd

from results.record.labels import ACCURACIES, DATASETS, rank
from results.tables.load import METRIC_PREFIX
from results.tables.paper import TABLE1, TABLE4, TABLE5, TABLE7
from results.tables.tables import (
    NOT_THE_PAPERS,
    Table,
    as_file_name,
    free_table,
    protocol_title,
    runs_of,
    tables_of,
    transfer_table,
)

BY_STAGE = "top1_"  # with a stage's name: the accuracy of the linear classifier on its features


def linear_tables(records: pd.DataFrame) -> list[Table]:
    """Tables 1, 4 and 5, those of other readouts as in `transfer_tables`, and accuracy by stage.

    Readouts of Table 7 are left to `footprint_tables`, which has its other column.
    """
    linear = records[records["kind"] == "linear"]
    shown_there = [TABLE7.admits(run) for run in runs_of(linear)]
    rest = linear[~pd.Series(shown_there, index=linear.index, dtype="bool")]
    tables = tables_of(rest, [TABLE1, TABLE4, TABLE5], ACCURACIES)
    measured = [name for name in linear.columns if name.startswith(METRIC_PREFIX + BY_STAGE)]
    for name, runs in linear[linear[measured].notna().any(axis=1)].groupby("protocol"):
        title = f"{protocol_title(str(name))}: top-1 at every stage - {NOT_THE_PAPERS}"
        cells = transfer_table(runs, _stage_columns(runs, measured))
        cells["column_label"] = cells["metric"].str.removeprefix(BY_STAGE)
        tables.append(free_table(f"stages_{as_file_name(str(name))}", title, cells))
    return tables


def _stage_columns(runs: pd.DataFrame, measured: list[str]) -> list[tuple[str, str]]:
    """(dataset, metric) wherever a run has a value."""
    return [
        (dataset, name.removeprefix(METRIC_PREFIX))
        for dataset in sorted(runs["dataset"].unique(), key=rank(DATASETS))
        for name in measured
        if runs.loc[runs["dataset"] == dataset, name].notna().any()
    ]
