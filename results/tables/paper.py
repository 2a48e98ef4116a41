"""The paper's printed values (paper.csv), and which runs may stand beside them.

paper.csv has one row per printed number: `value` is the number, `printed` the cell as printed with
its delta, `note` what is odd about it. The paper's rows "Ours" have the method "loco" here, and
`setting` says how an ablation's pretraining differs from its method's.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from results.record.labels import ARCHS, METHODS, epochs_label, label
from results.record.text import shown
from results.tables.cells import row_of
from results.tables.grid import RowKey
from results.tables.load import Run

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
    stub: tuple[str, ...]  # headings of the rows' names
    prints_deltas: bool = True  # differences from SimCLR in parentheses
    splits: tuple[int, ...] = ()  # of the training data; a cell is the mean over all of them
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
    def rows(self) -> dict[RowKey, str]:
        """What the paper calls each row, from top to bottom; others' methods left out."""
        return {key_of(row): row.row for row in self.values.itertuples() if row.method}

    @cached_property
    def printed(self) -> dict[tuple[RowKey, str, str], float]:
        """The paper's value by row, dataset and metric."""
        return {
            (key_of(row), row.dataset, row.metric): row.value for row in self.values.itertuples()
        }

    def label(self, key: RowKey) -> str:
        """What the paper calls a row; "" for one that it has not."""
        return self.rows.get(key, "").split(", ")[0].replace("Ours", METHODS["loco"])

    def names(self, key: RowKey) -> tuple[str, ...]:
        """What stands under each heading of the stub."""
        told = self.rows.get(key, "").split(", ")
        fixed = {
            "Method": label(METHODS, key.method),
            "Arch": label(ARCHS, key.encoder),
            "Local": CHECK if key.method in LOCAL or "local" in told else "",
            "Sharing": CHECK if "sharing" in told else "",
        }
        own = self.label(key) or fixed["Method"]  # a method of another's stands under its own name
        return tuple(fixed.get(heading, own) for heading in self.stub)

    def block(self, key: RowKey) -> str:
        """The title over a row; a block that is the only one needs none."""
        alone = len({row.pretrain_epochs for row in self.rows}) == 1
        return "" if alone else block_title(key)

    def admits(self, run: Run) -> bool:
        """Whether a run follows this table's protocol to the letter and so may fill a cell."""
        record = run.record
        return (
            self.protocols.get(record.dataset) == record.protocol
            and not run.deviations
            and self._has_row(run)
            and record.split in (self.splits or (None,))
        )

    def _has_row(self, run: Run) -> bool:
        """A method that the paper has not gets a row below those of its epochs and encoder."""
        key = row_of(run)
        if key.method in ("random", "supervised") and self.others_join:
            return key.encoder in {row.encoder for row in self.rows}
        if key.method not in METHODS and not key.setting:
            alike = ((row.pretrain_epochs, row.encoder) for row in self.rows)
            return (key.pretrain_epochs, key.encoder) in alike
        return key in self.rows


def block_title(key: RowKey) -> str:
    """ "Backbone weights with 100 Epochs"."""
    epochs = key.pretrain_epochs
    return "" if epochs is None else f"Backbone weights with {epochs_label(epochs).title()}"


def key_of(row: Any) -> RowKey:
    """The row that a line of paper.csv belongs to."""
    return RowKey(optional_int(row.pretrain_epochs), row.method, row.encoder, row.setting)


LINEAR = {"imagenet1k": "linear"}  # section 5.1
METHOD_ARCH = ("Method", "Arch")
TABLE1 = PaperTable(
    number=1,
    title="Table 1: ImageNet accuracy of a linear classifier on the frozen encoder (800 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=(*METHOD_ARCH, "Local"),
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
    stub=("Method",),
)
TABLE4 = PaperTable(
    number=4,
    title="Table 4: ImageNet accuracy with different decoders (ResNet-50, 100 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=("Extra layers before MLP decoder", "Local", "Sharing"),
    others_join=False,
)
TABLE5 = PaperTable(
    number=5,
    title="Table 5: ImageNet accuracy with different sharing strategies (ResNet-50, 100 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=("Sharing description",),
    others_join=False,
)
TABLE6 = PaperTable(
    number=6,
    title="Table 6: memory footprint and computation of every stage, in percent",
    protocols={},
    stub=("Stage",),
)
TABLE7 = PaperTable(
    number=7,
    title="Table 7: ImageNet accuracy and memory saving ratio with PResNet-50 (100 epochs)",
    protocols=LINEAR,
    prints_deltas=False,
    stub=("Method",),
    others_join=False,
)


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
