"""From a cell of a table back to what it comes from: records, weights, configs, splits, logs.

    python -m results trace TABLE ROW COLUMN RUNS... [--json]
    python -m results trace table2 "LoCo R-50 100" "COCO AP" work_dirs

ROW and COLUMN are labels of the printed table, or as many of their words as single one out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from results.tables.cells import Cell
from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints
from results.tables.load import METRIC_PREFIX, artifact_path, load_records
from results.tables.paper import CHECK, optional_int
from results.tables.tables import Table


def find_cell(tables: Sequence[Table], table: str, row: str, column: str) -> tuple[Table, Cell]:
    """The cell that the words name.

    Raises:
        ValueError: no or several tables, rows or columns fit; says which there are.
    """
    by_name = {found.name: found for found in tables}
    chosen = by_name[_choose("table", table, list(by_name))]
    cells = [{str(k): v for k, v in c.items()} for c in chosen.cells.to_dict("records")]
    rows = list(dict.fromkeys(row_label(chosen, cell) for cell in cells))
    columns = list(dict.fromkeys(map(column_label, cells)))
    place = _choose("row", row, rows), _choose("column", column, columns)
    return chosen, next(c for c in cells if (row_label(chosen, c), column_label(c)) == place)


def row_label(table: Table, cell: Cell) -> str:
    """What names a row: its printed labels, ticks by their heading, epochs of pretraining."""
    parts = [
        heading.lower() if cell[name] == CHECK else str(cell[name]) for heading, name in table.stub
    ]
    epochs = optional_int(cell.get("pretrain_epochs"))
    parts.append("" if epochs is None else str(epochs))
    variant = optional_int(cell.get("variant"))
    parts.append(f"variant {variant}" if variant else "")
    return " ".join(filter(None, parts))


def column_label(cell: Cell) -> str:
    """What names a column: "COCO AP^bb"."""
    return f"{cell['group_label']} {cell['column_label']}".strip()


def trace(cell: Cell, records: pd.DataFrame) -> list[dict[str, Any]]:
    """All that is known of each run behind a cell; see :func:`_run`. Empty where nothing ran."""
    by_path = {run["record_path"]: run for run in records.to_dict("records")}
    return [
        _run(by_path[path], str(cell["metric"]), records)
        if path in by_path
        else {"footprint report": path}
        for path in cell["records"]
    ]


def _run(run: Mapping[Any, Any], metric: str, records: pd.DataFrame) -> dict[str, Any]:
    value = run.get(METRIC_PREFIX + metric)
    found = {
        "record": run["record_path"],
        metric: None if value is None or pd.isna(value) else value,
        **_common(run),
        "deviations": list(run["deviations"]),
        "split": _split(run),
        "weights": "random" if run["backbone"] is None else _weights(run, records),
    }
    return {name: value for name, value in found.items() if value not in (None, [], "")}


def _common(run: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "kind": run["kind"],
        "config": run["config"],
        "config sha256": run["config_hash"],
        "code": run["git_commit"] or "unknown",
        "dataset": run["dataset"],
        "dataset sha256": run["dataset_fingerprint"],
        "seed": run["seed"],
        "finished": run["finished_at"],
        "logs": logs(Path(run["record_path"]).parent),
    }


def _split(run: Mapping[Any, Any]) -> dict[str, Any] | None:
    number = optional_int(run["split"])
    if number is None:
        return None
    artifacts = run["artifacts"]
    found = {"number": number, "ids sha256": artifacts.get("split_ids_sha256", "unknown")}
    if "split_ids" in artifacts:
        try:
            found["ids file"] = str(artifact_path(run["record_path"], artifacts["split_ids"]))
        except (OSError, ValueError) as error:
            found["ids file"] = f"not there: {error}"
    return found


def _weights(run: Mapping[Any, Any], records: pd.DataFrame) -> dict[str, Any]:
    """The backbone file, what it says of itself, its pretraining where that is among the runs."""
    backbone = run["backbone"]
    found = {"file": backbone["path"], "sha256": backbone["sha256"]}
    found["provenance"] = {
        name: value
        for name, value in (backbone["provenance"] or {}).items()
        if value not in (None, "", [], ()) and name != "weights_sha256"
    }
    same = (records["kind"] == "pretrain") & (records["backbone_sha256"] == backbone["sha256"])
    for origin in records[same].to_dict("records")[:1]:
        found["pretraining"] = {"record": origin["record_path"], **_common(origin)}
    return found


def logs(folder: Path) -> list[str]:
    """Of a run: its own, and what a command that started it has kept."""
    return sorted(str(path) for pattern in ("*.log", "*/*.log") for path in folder.glob(pattern))


def _choose(what: str, wanted: str, known: Sequence[str]) -> str:
    """The label that is `wanted`, or the only one that has all its words."""
    labels = {label: _words(label) for label in known}
    exact = [label for label, words in labels.items() if words == _words(wanted)]
    found = exact or [k for k, words in labels.items() if set(_words(wanted)) <= set(words)]
    if len(found) == 1:
        return found[0]
    several = f"{len(found)} {what}s fit {wanted!r}" if found else f"no {what} {wanted!r}"
    raise ValueError(f"{several}; the {what}s are: {', '.join(found or known) or 'none'}")


def _words(label: str) -> list[str]:
    return label.lower().replace("^", "").replace(",", " ").split()


def to_text(found: Any, indent: str = "") -> Iterator[str]:
    """Lines of a nested dict; its lists one item a line, numbers all on one."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from to_text(value, indent + "  ")
        else:
            lines = value if isinstance(value, (list, tuple)) else [value]
            if all(isinstance(line, (int, float)) for line in lines):
                lines = [", ".join(map(str, lines))]
            yield from (f"{indent}{name}: {line}" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 2 where there is no such cell."""
    parser = argparse.ArgumentParser(
        prog="python -m results trace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="TABLE", help="table2, other_demo_frozen, ...")
    parser.add_argument("row", metavar="ROW")
    parser.add_argument("column", metavar="COLUMN")
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or folders of them")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    records, _ = load_records(options.runs)
    footprints, _ = load_footprints(options.runs)
    try:
        tables = all_tables(records, footprints)
        table, cell = find_cell(tables, options.table, options.row, options.column)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = {
        "table": table.title,
        "row": row_label(table, cell),
        "column": column_label(cell),
        "cell": cell["text"],
        "runs": trace(cell, records),
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return 0
    runs = result.pop("runs")
    print("\n".join(to_text(result)))
    for number, run in enumerate(runs, start=1):
        print(f"\nrun {number} of {len(runs)}")
        print("\n".join(to_text(run, "  ")))
    return 0
