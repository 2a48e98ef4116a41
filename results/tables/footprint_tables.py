"""Tables 6, 7 and 8 from footprint reports, Table 7's accuracies from linear readouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from results.record.labels import ENCODERS, STEP_METHODS, label
from results.tables.cells import Cell, beside_paper, empty_cell, rounded, with_unit
from results.tables.footnotes import Note, add_footnotes
from results.tables.footprints import Report, best_report
from results.tables.paper import TABLE6, TABLE7
from results.tables.tables import (
    NOT_THE_PAPERS,
    Table,
    as_file_name,
    paper_cells,
    runs_of,
    with_paper,
)

LAYOUT = ("presnet50", "resnet50")  # Table 6, from left to right
SHARES = {"memory_percent": "Mem. (%)", "flops_percent": "FLOPS (%)"}
COLUMNS = {  # of a report's own table
    "peak_memory_mib": "Peak (MiB)",
    "saving_ratio": "Memory saving ratio",
    "work_ratio": "Work",
    "step_ratio": "Time",
}
STEPS = (("Method", "row_label"), ("Setting", "setting"))


def footprint_tables(records: pd.DataFrame, reports: Sequence[Report]) -> list[Table]:
    """Tables 6 and 7 with their forms beside the paper, as far as there is something to fill."""
    chosen = {name: best_report(reports, name) for name in LAYOUT}
    found = {name: report for name, report in chosen.items() if report is not None}
    tables = _table6(found) if found else []
    linear = records[records["kind"] == "linear"]
    fits = [TABLE7.admits(run) for run in runs_of(linear)]
    admitted = linear[pd.Series(fits, index=linear.index, dtype="bool")]
    if len(admitted) or "presnet50" in found:
        tables += _table7(admitted, found.get("presnet50"))
    return tables


def report_tables(reports: Sequence[Report]) -> list[Table]:
    """What every report says of a step of every method, one table each."""
    tables: dict[str, Table] = {}
    for report in reports:
        size = f"{report.image_size} px, batch {report.batch_size}"
        size += f" over {report.world_size}, {report.precision}"
        words = ["footprint", report.encoder, *size.replace(",", "").split()]
        name = as_file_name("_".join(words))
        while name in tables:
            name += "+"
        title = f"Footprint of a step: {label(ENCODERS, report.encoder)}, {size}"
        if report.encoder not in ENCODERS or report.image_size != 224:
            title += f" - {NOT_THE_PAPERS}"
        cells = [
            _number(report, getattr(method, metric), metric)
            | {"row": row, "column": column, "row_label": label(STEP_METHODS, key)}
            | {"setting": method.setting, "group_label": "", "column_label": heading}
            for row, (key, method) in enumerate(report.methods.items())
            for column, (metric, heading) in enumerate(COLUMNS.items())
        ]
        notes = (
            Note("", "Peak and work are counted, time is measured; ratios are to SimCLR's step."),
        )
        tables[name] = Table(name, title, pd.DataFrame(cells), notes, STEPS)
    return list(tables.values())


def _table6(found: dict[str, Report]) -> list[Table]:
    stages = [stage.name for stage in max((r.stages for r in found.values()), key=len)]
    cells = []
    for row, name in enumerate([*stages, "FLOPs"]):
        for k, encoder in enumerate(LAYOUT):
            for i, (metric, heading) in enumerate(SHARES.items()):
                cell = _table6_cell(found.get(encoder), encoder, name, metric)
                cell |= {"row": row, "column": 2 * k + i, "row_label": name}
                cell |= {"group_label": ENCODERS[encoder], "column_label": heading}
                cells.append(cell)
    notes = [
        Note("", f"{ENCODERS[encoder]}: the paper's res4 memory share {row['note']}.")
        for encoder in found
        for row in runs_of(TABLE6.values[TABLE6.values["note"] != ""])
        if row["encoder"] == encoder
    ]
    printed = {
        (row["row"], row["encoder"], row["metric"]): row["value"] for row in runs_of(TABLE6.values)
    }
    wide = []
    for cell in cells:
        key = (cell["row_label"], cell["encoder"], cell["metric"])
        own, *others = beside_paper(cell, printed.get(key))
        if key not in printed:  # no such stage
            others = [part | {"text": own["text"], "value_text": own["text"]} for part in others]
        wide += [own, *others]
    beside = f"{TABLE6.title}; beside the paper"
    return [
        Table("table6", TABLE6.title, pd.DataFrame(cells), (), TABLE6.stub),
        Table("table6_paper", beside, pd.DataFrame(wide), tuple(notes), TABLE6.stub),
    ]


def _table6_cell(report: Report | None, encoder: str, row: str, metric: str) -> Cell:
    """A stage's share; in the last row the total, in the first of the two columns."""
    if row == "FLOPs":
        if metric != "memory_percent":
            return _text(encoder, metric, "")
        return _number(report, report and report.flops_g, "flops_g", encoder)
    if report is None:
        return _number(None, None, metric, encoder)
    stages = {stage.name: stage for stage in report.stages}
    if row not in stages:
        return _text(encoder, metric, "-")
    return _number(report, getattr(stages[row], metric), metric)


def _table7(admitted: pd.DataFrame, report: Report | None) -> list[Table]:
    accuracy, saving = TABLE7.columns
    cells = paper_cells(admitted, TABLE7, [accuracy]).assign(group_label="")
    rows = []
    for cell in runs_of(cells):
        step = report.methods.get(cell["method"]) if report else None
        ratio = _number(report, step and step.saving_ratio, saving[1])
        labels = {name: cell[name] for name in cell if name not in ratio or name == "encoder"}
        ratio = labels | ratio | {"column": 1, "column_label": "Memory Saving Ratio"}
        ratio |= {"method": cell["method"], "dataset": saving[0], "metric": saving[1]}
        rows += [cell, ratio]
    frame = pd.DataFrame(rows).astype({"pretrain_epochs": "Int64"})
    counted: tuple[Note, ...] = ()
    if report:
        images, processes = report.batch_size, report.world_size
        text = (
            "Memory: SimCLR's peak over the method's, neither recomputing; counted for a step of "
            f"{images} images over {processes} process{'es' if processes > 1 else ''} in "
            f"{report.precision}. The paper does not say at which batch it measured."
        )
        counted = (Note("", text),)
    forms = {
        "table7": ("", frame),
        "table7_paper": ("; beside the paper", with_paper(frame, TABLE7)),
    }
    tables = []
    for name, (form, unmarked) in forms.items():
        marked, notes = add_footnotes(unmarked)
        title = TABLE7.title + form
        tables.append(Table(name, title, marked, (*notes, *counted), TABLE7.stub))
    return tables


def _number(report: Report | None, value: Any, metric: str, encoder: str = "") -> Cell:
    """A cell with a report's number, or with none."""
    cell = _text(report.encoder if report else encoder, metric, None)
    if report is None or value is None:
        return cell
    shown = rounded(value, metric)
    text = with_unit(shown, metric)
    found = {"value": float(value), "n": 1, "shown": float(shown), "records": (report.path,)}
    return cell | found | {"text": text, "value_text": text}


def _text(encoder: str, metric: str, text: str | None) -> Cell:
    cell = empty_cell() | {"block": "", "encoder": encoder, "dataset": "", "metric": metric}
    return cell if text is None else cell | {"text": text, "value_text": text}
