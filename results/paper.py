"""The paper's printed values (paper.csv), and which runs may stand beside them.

paper.csv has one row per printed number: `value` is the number, `printed` the cell as printed with
its delta, `note` what is odd about it. The paper's rows "Ours" have the method "loco" here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import pandas as pd

PRETRAINING_DATASET = "imagenet1k"  # section 5.1


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its rows and columns come from paper.csv."""

    number: int
    title: str
    protocols: Mapping[str, str]  # dataset -> the protocol that the paper states for it
    prints_deltas: bool = True  # differences from SimCLR in parentheses
    splits: tuple[int, ...] = ()  # of the training data; a cell is the mean over all of them

    @cached_property
    def values(self) -> pd.DataFrame:
        frame = _paper()
        return frame[frame["table"] == self.number]

    @cached_property
    def columns(self) -> list[tuple[str, str]]:
        """(dataset, metric), from left to right."""
        return list(dict.fromkeys(zip(self.values["dataset"], self.values["metric"], strict=True)))

    @cached_property
    def rows(self) -> list[tuple[int | None, str, str]]:
        """(pretraining epochs, method, encoder), from top to bottom; others' methods left out."""
        ours = self.values[self.values["method"] != ""]
        keys = zip(*(ours[c] for c in ("pretrain_epochs", "method", "encoder")), strict=True)
        return [(optional_int(e), method, encoder) for e, method, encoder in dict.fromkeys(keys)]

    def admits(self, run: Mapping[str, Any]) -> bool:
        """Whether a run follows this table's protocol to the letter and so may fill a cell."""
        return (
            self.protocols.get(run["dataset"]) == run["protocol"]
            and not run["deviations"]
            and not backbone_deviations(run)
            and self._has_row(run)
            and optional_int(run["split"]) in (self.splits or (None,))
        )

    def _has_row(self, run: Mapping[str, Any]) -> bool:
        """Random Init may join any table: it needs no weights, so none can differ."""
        encoders = {encoder for _, _, encoder in self.rows}
        key = (optional_int(run["pretrain_epochs"]), run["method"], run["encoder"])
        return key in self.rows or (run["method"] == "random" and run["encoder"] in encoders)


TABLE1 = PaperTable(
    number=1,
    title="Table 1: ImageNet accuracy of a linear classifier on the frozen encoder",
    protocols={"imagenet1k": "linear"},  # section 5.1
    prints_deltas=False,
)
TABLE2 = PaperTable(
    number=2,
    title="Table 2: Mask R-CNN on COCO and Cityscapes, backbone frozen",
    protocols={"coco2017": "frozen_1x", "cityscapes": "frozen_64ep"},  # section 5.2
)
TABLE3 = PaperTable(
    number=3,
    title="Table 3: Mask R-CNN fine-tuned on 10K and on 1K COCO images",
    protocols={"coco10k": "finetuned_60k", "coco1k": "finetuned_15k"},  # section 5.3
    splits=(0, 1, 2, 3, 4),
)


def backbone_deviations(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs from the paper in how a run's weights were pretrained, by their provenance.

    Weights that do not name their pretraining dataset, or have no (possibly empty) list of
    deviations, count as deviating: nobody can tell.
    """
    if run["method"] in ("random", "supervised"):
        return ()
    provenance = (run["backbone"] or {}).get("provenance")
    provenance = provenance if isinstance(provenance, dict) else {}
    dataset = provenance.get("dataset")
    found = [] if dataset == PRETRAINING_DATASET else [_other_dataset(dataset)]
    if "deviations" not in provenance:
        found.append("backbone: its provenance does not list how its pretraining deviates")
    return (*found, *(f"backbone: {text}" for text in _texts(provenance.get("deviations"))))


def optional_int(value: Any) -> int | None:
    """A value of a nullable integer column as Python's int or None."""
    return None if value is None or pd.isna(value) else int(value)


def _other_dataset(dataset: object) -> str:
    found = f"on {dataset}" if dataset else "on a dataset that its provenance does not name"
    return f"backbone pretrained {found}, not on {PRETRAINING_DATASET}"


def _texts(value: object) -> list[str]:
    """A list of strings; safetensors metadata holds strings only, so also one written as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value] if isinstance(value, str) and value.strip() else []
    if isinstance(value, str):
        value = [value]
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


@cache
def _paper() -> pd.DataFrame:
    with resources.files("results").joinpath("paper.csv").open("rb") as file:
        return pd.read_csv(
            file,
            dtype={"pretrain_epochs": "Int64"},
            keep_default_na=False,
            na_values={"pretrain_epochs": [""]},
        )
