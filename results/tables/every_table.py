"""All tables: the paper's first, in its order, then those that are not comparable with it."""

from __future__ import annotations

from collections.abc import Sequence

from results.tables.footprint_tables import footprint_tables
from results.tables.footprints import Report
from results.tables.grid import Table
from results.tables.load import Run
from results.tables.paper import TABLE7
from results.tables.run_tables import linear_tables, transfer_tables


def all_tables(runs: Sequence[Run], footprints: Sequence[Report] = ()) -> list[Table]:
    """Every table that the runs and the footprint reports can fill."""
    of_table7 = [run for run in runs if run.record.kind == "linear" and TABLE7.admits(run)]
    tables = [
        *linear_tables(runs),
        *transfer_tables(runs),
        *footprint_tables(of_table7, footprints),
    ]
    return sorted(tables, key=_place)


def _place(table: Table) -> tuple[bool, int]:
    """Tables of one number stay in the order in which they were made."""
    numbered = table.name.startswith("table")
    return (not numbered, int(table.name.removeprefix("table").split("_")[0]) if numbered else 0)
