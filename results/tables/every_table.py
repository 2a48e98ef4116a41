"""All tables: the paper's first, in its order, then those that are not comparable with it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.tables.architecture_table import architecture_tables
from results.tables.footprint_tables import footprint_tables, report_tables
from results.tables.footprints import Report
from results.tables.linear_tables import linear_tables
from results.tables.tables import Table, transfer_tables


def all_tables(records: pd.DataFrame, footprints: Sequence[Report] = ()) -> list[Table]:
    """Every table that the records and the footprint reports can fill."""
    tables = [
        *linear_tables(records),
        *transfer_tables(records),
        *footprint_tables(records, footprints),
        *architecture_tables(footprints),
        *report_tables(footprints),
    ]
    return sorted(tables, key=_place)


def _place(table: Table) -> tuple[bool, int]:
    """Tables of one number stay in the order in which they were made."""
    numbered = table.name.startswith("table")
    return (not numbered, int(table.name[len("table")]) if numbered else 0)
