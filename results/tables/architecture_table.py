"""Table 8 from footprint reports: the layers of the encoders that were counted."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.record.labels import ENCODERS
from results.tables.cells import Cell, empty_cell
from results.tables.footnotes import Note
from results.tables.footprints import Layer, Report, best_report
from results.tables.tables import Table

TITLE = "Table 8: architecture of PResNet-50 and of ResNet-50, read from the encoders"
NOTES = (
    Note(
        "",
        "The paper also groups the expanding 1×1 in the later blocks of res5 and res6; its own "
        "computation shares (Table 6) do not, and neither do these encoders.",
    ),
)


def architecture_tables(reports: Sequence[Report]) -> list[Table]:
    """Table 8, where a report of PResNet-50 says what its layers are."""
    found = {name: best_report(reports, name) for name in ENCODERS}
    layers = {
        name: {layer.layer: layer for layer in report.architecture}
        for name, report in found.items()
        if report is not None and report.architecture
    }
    if "presnet50" not in layers:
        return []
    cells: list[Cell] = []
    for row, layer in enumerate(layers["presnet50"]):
        for k, encoder in enumerate(("presnet50", "resnet50")):
            here = layers.get(encoder, {}).get(layer)
            texts = _texts(here) if here or encoder in layers else None
            report = found[encoder]
            for i, heading in enumerate(("Output size", "Block structure")):
                cell = empty_cell() | {"row": row, "column": 2 * k + i, "row_label": layer}
                cell |= {"block": "", "encoder": encoder, "dataset": "", "metric": heading}
                cell |= {"group_label": ENCODERS[encoder], "column_label": heading}
                if texts:
                    cell |= {
                        "text": texts[i],
                        "value_text": texts[i],
                        "records": (report.path,) if report else (),
                    }
                cells.append(cell)
    return [Table("table8", TITLE, pd.DataFrame(cells), NOTES, (("Layer", "row_label"),))]


def _texts(layer: Layer | None) -> tuple[str, str]:
    """Size and structure; dashes where the encoder has no such layer."""
    if layer is None:
        return "-", "-"
    return f"{layer.output_size}×{layer.output_size}", ", ".join(layer.structure)
