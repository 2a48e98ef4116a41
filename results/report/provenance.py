"""What a value of the report comes from, in words: of a run, or of a footprint report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.tables.footprints import Report
from results.tables.load import METRIC_PREFIX
from results.tables.paper import optional_int

Words = dict[str, str]  # by what they are about

PRETRAINING = {  # in a backbone's own provenance, and how it is called here
    "dataset": "",
    "dataset_fingerprint": "data sha256",
    "seed": "seed",
    "config_hash": "config sha256",
    "git_commit": "code",
}


def of_run(run: Mapping[Any, Any]) -> Words:
    """All that a row of `load_records` says of its run, in reading order; nothing is empty."""
    backbone = run["backbone"] or {}
    origin = backbone.get("provenance") or {}
    split, memory = optional_int(run["split"]), run["peak_memory_mib"]
    words = {
        "record": run["record_path"],
        "weights": backbone.get("path", "none" if run["kind"] == "pretrain" else "random"),
        "weights sha256": backbone.get("sha256", ""),
        "pretrained on": ", ".join(
            f"{name} {origin[key]}".strip()
            for key, name in PRETRAINING.items()
            if origin.get(key) not in (None, "")
        ),
        "config": run["config"],
        "config sha256": run["config_hash"],
        "code": run["git_commit"] or "unknown",
        "seed": run["seed"],
        "split": "" if split is None else split,
        "data": f"{run['dataset']}, protocol {run['protocol']}",
        "data sha256": run["dataset_fingerprint"],
        "batch": f"{run['global_batch_size']} over {_processes(run['world_size'])}",
        "norm": run["norm"],
        "precision": run["precision"],
        "hardware": hardware(run["hardware"]),
        "versions": _listed(run["versions"]),
        "began": run["started_at"],
        "ended": run["finished_at"],
        "took": duration(run["wall_time_s"]),
        "peak memory": "" if pd.isna(memory) else f"{memory:,.0f} MiB",
        "deviations": "; ".join(run["deviations"]),
        "metrics": _listed({name: f"{value:.4g}" for name, value in metrics(run).items()}),
    }
    return {name: str(text) for name, text in words.items() if str(text)}


def of_report(report: Report) -> Words:
    """The same of a footprint report."""
    measured = report.measured_batch_size
    words = {
        "report": report.path,
        "command": report.command or "",
        "images": f"{report.image_size} px",
        "batch": f"{report.batch_size} over {_processes(report.world_size)}",
        "measured batch": "none: counted alone" if measured is None else measured,
        "precision": report.precision,
        "hardware": hardware(report.machine or {}),
        "versions": _listed(report.versions or {}),
    }
    return {name: str(text) for name, text in words.items() if str(text)}


def metrics(run: Mapping[Any, Any]) -> dict[str, float]:
    """The metrics of a row of `load_records` that have a value."""
    return {
        str(key).removeprefix(METRIC_PREFIX): value
        for key, value in run.items()
        if str(key).startswith(METRIC_PREFIX) and value == value  # not NaN
    }


def hardware(found: Mapping[str, Any]) -> str:
    """A machine in words: "AMD EPYC, 16 cores, 8 x NVIDIA H100"; names that are not known too."""
    parts = []
    for name, value in found.items():
        if isinstance(value, list):
            parts += [f"{n} x {device}" for device, n in Counter(map(str, value)).items()]
        elif name in ("cpu", "gpu"):
            parts.append(str(value))
        else:
            parts.append(f"{value} {name}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """ "3 min 05 s"; hours and days where they are needed."""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02} s"
    return f"{total // 3600} h {total % 3600 // 60:02} min"


def _processes(number: int) -> str:
    return f"{number} process{'' if number == 1 else 'es'}"


def _listed(pairs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())
