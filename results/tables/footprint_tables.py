"""Tables 6, 7 and 8 from footprint reports, Table 7's accuracies from linear readouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from results.record.labels import ENCODERS, STEP_METHODS, label
from results.tables.cells import number_cell
from results.tables.footprints import Layer, Report, best_report
from results.tables.grid import Cell, Column, Note, Row, Table
from results.tables.load import Run
from results.tables.paper import TABLE6, TABLE7
from results.tables.run_tables import (
    NOT_THE_PAPERS,
    as_file_name,
    beside,
    beside_columns,
    paper_rows,
    paper_tables,
)

SIDE_BY_SIDE = ("presnet50", "resnet50")  # Tables 6 and 8, from left to right
SHARES = {"memory_percent": "Mem. (%)", "flops_percent": "FLOPS (%)"}
STEP_COLUMNS = {  # of a report's own table
    "peak_memory_mib": "Peak (MiB)",
    "saving_ratio": "Memory saving ratio",
    "work_ratio": "Work",
    "step_ratio": "Time",
}
TABLE8 = "Table 8: architecture of PResNet-50 and of ResNet-50, read from the encoders"
TABLE8_NOTE = (
    "The paper also groups the expanding 1×1 in the later blocks of res5 and res6; its own "
    "computation shares (Table 6) do not, and neither do these encoders."
)


def footprint_tables(readouts: Sequence[Run], reports: Sequence[Report]) -> list[Table]:
    """Tables 6, 7 and 8, with their forms beside the paper, and one table a report.

    `readouts` are those that Table 7 admits.
    """
    chosen = {name: best_report(reports, name) for name in SIDE_BY_SIDE}
    found = {name: report for name, report in chosen.items() if report is not None}
    tables = _table6(found) if found else []
    if readouts or "presnet50" in found:
        tables += _table7(readouts, found.get("presnet50"))
    return [*tables, *_table8(found), *_report_tables(reports)]


def _table6(found: dict[str, Report]) -> list[Table]:
    stages = [stage.name for stage in max((r.stages for r in found.values()), key=len)]
    columns = tuple(Column(h, ENCODERS[name]) for name in SIDE_BY_SIDE for h in SHARES.values())
    printed = {(v.row, v.encoder, v.metric): v.value for v in TABLE6.values.itertuples()}
    rows, wide = [], []
    for name in [*stages, "FLOPs"]:
        cells = [_share(found.get(e), e, name, m) for e in SIDE_BY_SIDE for m in SHARES]
        beside_cells: list[Cell] = []
        for cell in cells:
            key = (name, cell.encoder, cell.metric)
            own, *others = beside(cell, printed.get(key))
            if key not in printed:  # no such stage
                others = [replace(part, value_text=own.value_text) for part in others]
            beside_cells += [own, *others]
        rows.append(Row((name,), tuple(cells), label=name))
        wide.append(Row((name,), tuple(beside_cells), label=name))
    notes = tuple(
        Note("", f"{ENCODERS[encoder]}: the paper's res4 memory share {value.note}.")
        for encoder in found
        for value in TABLE6.values.itertuples()
        if value.encoder == encoder and value.note
    )
    title = f"{TABLE6.title}; beside the paper"
    return [
        Table("table6", TABLE6.title, TABLE6.stub, columns, tuple(rows)),
        Table("table6_paper", title, TABLE6.stub, beside_columns(columns), tuple(wide), notes),
    ]


def _share(report: Report | None, encoder: str, row: str, metric: str) -> Cell:
    """A stage's share; in the last row the total, in the first of the two columns."""
    if row == "FLOPs":
        if metric != "memory_percent":
            return Cell(encoder=encoder, metric=metric, value_text="")
        metric = "flops_g"
    if report is None:
        return Cell(encoder=encoder, metric=metric)
    if row == "FLOPs":
        return number_cell(report.flops_g, encoder, metric, report.path)
    stage = next((stage for stage in report.stages if stage.name == row), None)
    if stage is None:
        return Cell(encoder=encoder, metric=metric, value_text="-")
    return number_cell(getattr(stage, metric), encoder, metric, report.path)


def _table7(readouts: Sequence[Run], report: Report | None) -> list[Table]:
    accuracy, (dataset, metric) = TABLE7.columns
    columns = (Column("Acc.", "", accuracy[0]), Column("Memory Saving Ratio", "", dataset))
    rows = paper_rows(readouts, TABLE7, [accuracy])
    for key, cells in rows.items():
        step = report.methods.get(key.method) if report else None
        path = report.path if report else ""
        value = step.saving_ratio if step else None
        ratio = number_cell(value, key.encoder, metric, path)
        cells.append(replace(ratio, dataset=dataset))
    tables = paper_tables(TABLE7, columns, rows)
    if report is None:
        return tables
    text = (
        "Memory: SimCLR's peak over the method's, neither recomputing; counted for a step of "
        f"{report.batch_size} images over {report.world_size} "
        f"process{'es' if report.world_size > 1 else ''} in {report.precision}. The paper does "
        "not say at which batch it measured."
    )
    return [replace(table, notes=(*table.notes, Note("", text))) for table in tables]


def _table8(found: dict[str, Report]) -> list[Table]:
    layers = {
        name: {layer.layer: layer for layer in report.architecture}
        for name, report in found.items()
        if report.architecture
    }
    if "presnet50" not in layers:
        return []
    headings = {"Output size": _size, "Block structure": _structure}
    columns = tuple(Column(h, ENCODERS[name]) for name in SIDE_BY_SIDE for h in headings)
    rows = []
    for layer in layers["presnet50"]:
        cells = [
            Cell(
                encoder=name,
                metric=heading,
                value_text=text(layers[name].get(layer)),
                records=(found[name].path,),
            )
            if name in layers
            else Cell(encoder=name, metric=heading)
            for name in SIDE_BY_SIDE
            for heading, text in headings.items()
        ]
        rows.append(Row((layer,), tuple(cells), label=layer))
    return [Table("table8", TABLE8, ("Layer",), columns, tuple(rows), (Note("", TABLE8_NOTE),))]


def _size(layer: Layer | None) -> str:
    return f"{layer.output_size}×{layer.output_size}" if layer else "-"


def _structure(layer: Layer | None) -> str:
    return ", ".join(layer.structure) if layer else "-"


def _report_tables(reports: Sequence[Report]) -> list[Table]:
    """What every report says of a step of every method, one table each."""
    tables: dict[str, Table] = {}
    columns = tuple(map(Column, STEP_COLUMNS.values()))
    note = Note("", "Peak and work are counted, time is measured; ratios are to SimCLR's step.")
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
        rows = tuple(
            Row(
                (label(STEP_METHODS, method), step.setting),
                tuple(
                    number_cell(getattr(step, metric), report.encoder, metric, report.path)
                    for metric in STEP_COLUMNS
                ),
                label=label(STEP_METHODS, method),
            )
            for method, step in report.methods.items()
        )
        tables[name] = Table(name, title, ("Method", "Setting"), columns, rows, (note,))
    return list(tables.values())
