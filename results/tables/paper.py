"""The paper's printed values (paper.csv), and which runs may stand beside them.

paper.csv has one row per printed number: `value` is the number, `printed` the cell as printed with
its delta, `note` what is odd about it. The paper's rows "Ours" have the method "loco" here, and
`setting` says how an ablation's pretraining differs from its method's (see `settings`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from results.record.labels import METHODS
from results.record.text import shown
from results.tables.backbone import unexplained
from results.tables.cells import RowKey

LOCAL = ("gim", "loco")
CHECK = "✓"
COLUMNS = [
    "table", "row", "column", "value", "printed", "method", "encoder", "pretrain_epochs",
    "setting", "dataset", "metric", "note",
]  # fmt: skip
NUMBERS = {  # what is read as one
    "table": r"[1-9]",
    "value": r"[0-9]{1,6}(\.[0-9]{1,6})?",
    "pretrain_epochs": r"[0-9]{0,6}",
}


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its rows and columns come from paper.csv."""

    number: int
    title: str
    protocols: Mapping[str, str]  # dataset -> the protocol that the paper states for it
    prints_deltas: bool = True  # differences from SimCLR in parentheses
    splits: tuple[int, ...] = ()  # of the training data; a cell is the mean over all of them
    stub: tuple[tuple[str, str], ...] = ()  # what names a row: headings and columns of cells
    others_join: bool = True  # Random Init and Supervised: no pretraining of ours can differ

    @cached_property
    def values(self) -> pd.DataFrame:
        frame = _paper()
        return frame[frame["table"] == self.number]

    @cached_property
    def columns(self) -> list[tuple[str, str]]:
        """(dataset, metric), from left to right."""
        return list(dict.fromkeys(zip(self.values["dataset"], self.values["metric"], strict=True)))

    @cached_property
    def rows(self) -> tuple[RowKey, ...]:
        """From top to bottom; others' methods left out."""
        return tuple(self._names)

    @cached_property
    def _names(self) -> dict[RowKey, str]:
        """What the paper calls each row."""
        ours = self.values[self.values["method"] != ""]
        columns = ("pretrain_epochs", "method", "encoder", "setting", "row")
        lines = zip(*(ours[name] for name in columns), strict=True)
        return {RowKey(optional_int(epochs), *key): row for epochs, *key, row in lines}

    def add_labels(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Cells with the columns that `stub` names; a block that is the only one needs no title."""
        names = [self._names.get(RowKey(optional_int(e), *key), "") for e, *key in _keys(cells)]
        parts = [name.split(", ") for name in names]
        local = [
            method in LOCAL or "local" in part
            for method, part in zip(cells["method"], parts, strict=True)
        ]
        marked = cells.assign(
            row_label=[part[0].replace("Ours", METHODS["loco"]) for part in parts],
            local_label=[CHECK if yes else "" for yes in local],
            sharing_label=[CHECK if "sharing" in part else "" for part in parts],
        )
        blocks = {row.pretrain_epochs for row in self.rows}
        return marked if len(blocks) > 1 else marked.assign(block="")

    def admits(self, run: Mapping[str, Any]) -> bool:
        """Whether a run follows this table's protocol to the letter and so may fill a cell.

        `run` is a row of `results.tables.load.load_records`.
        """
        return (
            self.protocols.get(run["dataset"]) == run["protocol"]
            and not run["deviations"]
            and self._has_row(run)
            and not unexplained(run["backbone_deviations"], run["setting"])
            and optional_int(run["split"]) in (self.splits or (None,))
        )

    def _has_row(self, run: Mapping[str, Any]) -> bool:
        epochs, encoder = optional_int(run["pretrain_epochs"]), run["encoder"]
        if run["method"] in ("random", "supervised") and self.others_join:
            return encoder in {row.encoder for row in self.rows}
        return RowKey(epochs, run["method"], encoder, run["setting"]) in self._names


LINEAR = {"imagenet1k": "linear"}  # section 5.1
METHOD_ARCH = (("Method", "method_label"), ("Arch", "arch_label"))
TABLE1 = PaperTable(
    number=1,
    title="Table 1: ImageNet accuracy of a linear classifier on the frozen encoder (800 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=(*METHOD_ARCH, ("Local", "local_label")),
)
TABLE2 = PaperTable(
    number=2,
    title="Table 2: Mask R-CNN on COCO and Cityscapes, backbone frozen",
    protocols={"coco2017": "frozen_1x", "cityscapes": "frozen_64ep"},  # section 5.2
    stub=METHOD_ARCH,
)
TABLE3 = PaperTable(
    number=3,
    title="Table 3: Mask R-CNN fine-tuned on 10K and on 1K COCO images",
    protocols={"coco10k": "finetuned_60k", "coco1k": "finetuned_15k"},  # section 5.3
    splits=(0, 1, 2, 3, 4),
    stub=(("Method", "method_label"),),
)
TABLE4 = PaperTable(
    number=4,
    title="Table 4: ImageNet accuracy with different decoders (ResNet-50, 100 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=(
        ("Extra layers before MLP decoder", "row_label"),
        ("Local", "local_label"),
        ("Sharing", "sharing_label"),
    ),
    others_join=False,
)
TABLE5 = PaperTable(
    number=5,
    title="Table 5: ImageNet accuracy with different sharing strategies (ResNet-50, 100 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=(("Sharing description", "row_label"),),
    others_join=False,
)
TABLE6 = PaperTable(
    number=6,
    title="Table 6: memory footprint and computation of every stage, in percent",
    protocols={},
    stub=(("Stage", "row_label"),),
)
TABLE7 = PaperTable(
    number=7,
    title="Table 7: ImageNet accuracy and memory saving ratio with PResNet-50 (100 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=(("Method", "method_label"),),
    others_join=False,
)


def _keys(cells: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    columns = ("pretrain_epochs", "method", "encoder", "setting")
    return zip(*(cells[name] for name in columns), strict=True)


def optional_int(value: Any) -> int | None:
    """A value of a nullable integer column as Python's int or None."""
    return None if value is None or pd.isna(value) else int(value)


@cache
def _paper() -> pd.DataFrame:
    with resources.as_file(resources.files("results.tables").joinpath("paper.csv")) as file:
        return read_values(file)


def read_values(path: Path) -> pd.DataFrame:
    """The printed values in a file such as paper.csv.

    Raises:
        ValueError: other columns, or a number that is none; names the file and the first fault.
    """
    try:
        texts = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file: {error}") from error
    if list(texts.columns) != COLUMNS:
        found = shown(", ".join(map(str, texts.columns)))
        raise ValueError(f"{path} has the columns {found}; expected {', '.join(COLUMNS)}")
    if texts.empty or not texts.map(lambda text: isinstance(text, str)).all(axis=None):
        raise ValueError(f"{path} has rows that are cut short, or none; take the file as released")
    for name, pattern in NUMBERS.items():
        if not (fits := texts[name].str.fullmatch(pattern)).all():
            row = int(fits.argmin())
            raise ValueError(
                f"{path}: {name} of value {row + 1} is {shown(texts[name].iloc[row])}, expected a "
                "number; take the file as released"
            )
    epochs = pd.to_numeric(texts["pretrain_epochs"].replace("", None)).astype("Int64")
    return texts.astype({"table": int, "value": float}).assign(pretrain_epochs=epochs)
