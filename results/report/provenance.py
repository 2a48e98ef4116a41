"""What a value of the report comes from, in words: of a run, or of a footprint report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from results.tables.footprints import Report
from results.tables.load import Run

Words = dict[str, str]  # by what they are about

PRETRAINING = {  # in a backbone's own provenance, and how it is called here
    "dataset": "",
    "dataset_fingerprint": "data sha256",
    "seed": "seed",
    "config_hash": "config sha256",
    "git_commit": "code",
}


def of_run(run: Run) -> Words:
    """All that a record says of its run, in reading order; nothing is empty."""
    record = run.record
    backbone = record.backbone or {}
    origin = backbone.get("provenance") or {}
    memory = record.peak_memory_mib
    return _told(
        {
            "record": run.path,
            "weights": backbone.get("path", "none" if record.kind == "pretrain" else "random"),
            "weights sha256": backbone.get("sha256", ""),
            "pretrained on": ", ".join(
                f"{name} {origin[key]}".strip()
                for key, name in PRETRAINING.items()
                if origin.get(key) not in (None, "")
            ),
            "config": record.config,
            "config sha256": record.config_hash,
            "code": record.git_commit or "unknown",
            "seed": record.seed,
            "split": "" if record.split is None else record.split,
            "data": f"{record.dataset}, protocol {record.protocol}",
            "data sha256": record.dataset_fingerprint,
            "batch": f"{record.global_batch_size} over {_processes(record.world_size)}",
            "norm": record.norm,
            "precision": record.precision,
            "hardware": hardware(record.hardware),
            "versions": _listed(record.versions),
            "began": record.started_at,
            "ended": record.finished_at,
            "took": duration(record.wall_time_s),
            "peak memory": "" if memory is None else f"{memory:,.0f} MiB",
            "deviations": "; ".join(record.deviations),
            "metrics": _listed({m: f"{record.metrics[m]:.4g}" for m in sorted(record.metrics)}),
        }
    )


def of_report(report: Report) -> Words:
    """The same of a footprint report."""
    measured = report.measured_batch_size
    words: dict[str, object] = {
        "report": report.path,
        "command": report.command or "",
        "images": f"{report.image_size} px",
        "batch": f"{report.batch_size} over {_processes(report.world_size)}",
        "measured batch": "none: counted alone" if measured is None else measured,
        "precision": report.precision,
        "hardware": hardware(report.machine or {}),
        "versions": _listed(report.versions or {}),
    }
    return _told(words)


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


def _told(words: Mapping[str, object]) -> Words:
    return {name: str(text) for name, text in words.items() if str(text)}
