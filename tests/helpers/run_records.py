"""Run records for the tests of results/: one that is valid, and the paper's tables as records."""

import dataclasses
from pathlib import Path

import pandas as pd

from results.record.migration import setting_until_version_3
from results.record.protocol import SUPERVISED
from results.record.run_record import RunRecord
from results.tables.paper import TABLE2

SHA = "0123456789abcdef" * 4


def make_record(**changes) -> RunRecord:
    """A LoCo transfer that follows Table 2's protocol, with `changes`."""
    method = changes.get("method", "loco")
    provenance = {"dataset": "imagenet1k", "deviations": [], "seed": 0}
    if method == "supervised":
        provenance = {"source_sha256": SUPERVISED["resnet50"] + SHA[8:]}
    fields = {
        "kind": "transfer",
        "method": method,
        "encoder": "resnet50",
        "pretrain_epochs": None if method in ("random", "supervised") else 100,
        "dataset": "coco2017",
        "dataset_fingerprint": SHA,
        "protocol": "frozen_1x",
        "deviations": (),
        "split": None,
        "seed": 0,
        "config": "configs/mask_rcnn_loco_r50_frozen.py",
        "config_hash": SHA,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "world_size": 8,
        "global_batch_size": 16,
        "precision": "float32",
        "norm": "SyncBatchNorm over 8 processes",
        "learning_rate": 0.02,
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "hardware": {"cpu": "a processor", "cores": 2, "devices": []},
        "backbone": {"path": "backbones/x.safetensors", "sha256": SHA, "provenance": provenance},
        "metrics": {"box_ap": 32.6, "mask_ap": 30.1},
        "wall_time_s": 61.5,
        "peak_memory_mib": 1234.5,
        "started_at": "2026-01-31T12:00:00+00:00",
        "finished_at": "2026-01-31T12:01:01+00:00",
        "artifacts": {},
    }
    if method == "random":
        fields["backbone"] = None
    fields["setting"] = setting_until_version_3(method, changes.get("settings", {}))
    return RunRecord(**(fields | changes))


def write_records(folder: Path, *records: RunRecord) -> Path:
    """Each record in a folder of its own below `folder`."""
    for number, record in enumerate(records):
        record.write(folder / f"run{number}" / "record.json")
    return folder


def twice(*records: RunRecord) -> list[RunRecord]:
    """Each run of seeds 0 and 1, with the same figures: what may be compared and stand in bold."""
    return [dataclasses.replace(record, seed=seed) for record in records for seed in (0, 1)]


def paper_table2_records() -> list[RunRecord]:
    """Table 2 of the paper as the records that would give it."""
    keys = ["pretrain_epochs", "method", "encoder", "dataset"]
    return [
        make_record(
            method=method,
            encoder=encoder,
            pretrain_epochs=None if pd.isna(epochs) else int(epochs),
            dataset=dataset,
            protocol=TABLE2.protocols[dataset],
            metrics=dict(zip(cells["metric"], cells["value"], strict=True)),
        )
        for (epochs, method, encoder, dataset), cells in TABLE2.values.groupby(keys, dropna=False)
    ]
