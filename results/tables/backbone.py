"""What differs from the paper in how a run's weights were pretrained, by their provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable

from results.record.protocol import is_published
from results.record.run_record import RunRecord

PRETRAINING_DATASET = "imagenet1k"  # section 5.1
EXPLAINED = ("units", "decoder", "temperature", "sharing")  # by a record's `setting`


def backbone_deviations(record: RunRecord) -> tuple[str, ...]:
    """In words, by what the weights' provenance says.

    Weights that do not name their pretraining dataset, or have no (possibly empty) list of
    deviations, count as deviating: nobody can tell.
    """
    if record.method == "random":
        return ()
    provenance = (record.backbone or {}).get("provenance") or {}
    if record.method == "supervised":
        known = is_published(record.encoder, provenance.get("source_sha256"))
        return () if known else ("backbone: not known to be torchvision's published weights",)
    dataset = provenance.get("dataset")
    texts = _texts(provenance.get("deviations"))
    found = []
    if dataset != PRETRAINING_DATASET:
        on = f"on {dataset}" if dataset else "on a dataset that its provenance does not name"
        found.append(f"backbone pretrained {on}, not on {PRETRAINING_DATASET}")
        texts = [text for text in texts if not text.startswith(f"dataset: {dataset} instead of ")]
    if "deviations" not in provenance:
        found.append("backbone: its provenance does not list how its pretraining deviates")
    return (*found, *(f"backbone: {text}" for text in texts))


def unexplained(deviations: Iterable[str], setting: str) -> tuple[str, ...]:
    """The deviations of a backbone that the setting of its pretraining does not already state."""
    told = tuple(f"backbone: {name}: " for name in EXPLAINED) if setting else ()
    return tuple(text for text in deviations if not text.startswith(told))


def _texts(value: object) -> list[str]:
    """A list of strings; safetensors metadata holds strings only, so also one written as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value] if isinstance(value, str) and value.strip() else []
    if isinstance(value, str):
        value = [value]
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []
