"""From a cell of a table back to what it comes from: records, weights, configs, splits, logs.

    python -m results trace TABLE ROW COLUMN RUNS... [--json]
    python -m results trace table2 "LoCo R-50 100" "COCO AP" work_dirs

ROW and COLUMN are labels of the printed table, or as many of their words as single one out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.record.run_record import Backbone
from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints
from results.tables.grid import Cell, Row, Table
from results.tables.load import Run, artifact_path, load_records
from results.tables.paper import CHECK


def find_cell(
    tables: Sequence[Table], table: str, row: str, column: str
) -> tuple[Table, str, str, Cell]:
    """Table, labels of row and column, and the cell that the words name.

    Raises:
        ValueError: no or several tables, rows or columns fit; says which there are.
    """
    by_name = {found.name: found for found in tables}
    chosen = by_name[_choose("table", table, list(by_name))]
    rows = {row_label(chosen, found): found for found in reversed(chosen.rows)}
    columns = {found.name: place for place, found in reversed([*enumerate(chosen.columns)])}
    row = _choose("row", row, list(rows)[::-1])
    column = _choose("column", column, list(columns)[::-1])
    return chosen, row, column, rows[row].cells[columns[column]]


def row_label(table: Table, row: Row) -> str:
    """What names a row: its printed labels, ticks by their heading, epochs of pretraining."""
    names = zip(table.stub, row.names, strict=True)
    parts = [heading.lower() if name == CHECK else name for heading, name in names]
    if row.key and row.key.pretrain_epochs is not None:
        parts.append(str(row.key.pretrain_epochs))
    if row.key and row.key.variant:
        parts.append(f"variant {row.key.variant}")
    return " ".join(filter(None, parts))


def trace(cell: Cell, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """All that is known of each run behind a cell; empty where nothing ran."""
    by_path = {run.path: run for run in runs}
    return [
        _run(by_path[path], cell.metric, by_path.values())
        if path in by_path
        else {"footprint report": path}
        for path in cell.records
    ]


def _run(run: Run, metric: str, runs: Iterable[Run]) -> dict[str, Any]:
    record = run.record
    found = {
        "record": run.path,
        metric: record.metrics.get(metric),
        **_common(run),
        "deviations": list(record.deviations),
        "split": _split(run),
        "weights": "random" if record.backbone is None else _weights(record.backbone, runs),
    }
    return {name: value for name, value in found.items() if value not in (None, [], "")}


def _common(run: Run) -> dict[str, Any]:
    record = run.record
    return {
        "kind": record.kind,
        "config": record.config,
        "config sha256": record.config_hash,
        "code": record.git_commit or "unknown",
        "dataset": record.dataset,
        "dataset sha256": record.dataset_fingerprint,
        "seed": record.seed,
        "finished": record.finished_at,
        "logs": logs(Path(run.path).parent),
    }


def _split(run: Run) -> dict[str, Any] | None:
    artifacts = run.record.artifacts
    if run.record.split is None:
        return None
    sha256 = artifacts.get("split_ids_sha256", "unknown")
    found = {"number": run.record.split, "ids sha256": sha256}
    if "split_ids" in artifacts:
        try:
            found["ids file"] = str(artifact_path(run.path, artifacts["split_ids"]))
        except (OSError, ValueError) as error:
            found["ids file"] = f"not there: {error}"
    return found


def _weights(backbone: Backbone, runs: Iterable[Run]) -> dict[str, Any]:
    """The backbone file, what it says of itself, its pretraining where that is among the runs."""
    found: dict[str, Any] = {"file": backbone["path"], "sha256": backbone["sha256"]}
    found["provenance"] = {
        name: value
        for name, value in (backbone["provenance"] or {}).items()
        if value not in (None, "", [], ()) and name != "weights_sha256"
    }
    for run in runs:
        theirs = (run.record.backbone or {}).get("sha256")
        if run.record.kind == "pretrain" and theirs == backbone["sha256"]:
            found["pretraining"] = {"record": run.path, **_common(run)}
            break
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
    runs, _ = load_records(options.runs)
    footprints, _ = load_footprints(options.runs)
    try:
        tables = all_tables(runs, footprints)
        table, row, column, cell = find_cell(tables, options.table, options.row, options.column)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = {
        "table": table.title,
        "row": row,
        "column": column,
        "cell": cell.text,
    }
    traced = trace(cell, runs)
    if options.json:
        print(json.dumps(result | {"runs": traced}, indent=2))
        return 0
    print("\n".join(to_text(result)))
    for number, run in enumerate(traced, start=1):
        print(f"\nrun {number} of {len(traced)}")
        print("\n".join(to_text(run, "  ")))
    return 0
