"""Reports of `python -m pretrain.footprint`, found beside the runs: the source of Tables 6 to 8.

A report is a file named `footprint*.json`, alone or several in one, as `python tools/measure.py
footprint` writes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from results.record.field_types import conform, shown
from results.record.files import regular_file
from results.tables.load import FOOTPRINTS, Problem

Report = dict[str, Any]

_STAGE: dict[str, Any] = {"name": str, "memory_percent": float, "flops_percent": float}
_METHOD: dict[str, Any] = {
    "peak_memory_mib": float,
    "saving_ratio": float,
    "work_ratio": float,
    "setting": str,
    "step_ratio": float | None,
}
_REPORT: dict[str, Any] = {"encoder": str, "image_size": int, "batch_size": int, "world_size": int}
_REPORT |= {"precision": str, "flops_g": float}
_REPORT |= {"stages": tuple[Any, ...], "methods": dict[str, Any]}
_REPORT |= {"command": str | None, "measured_batch_size": int | None}
_REPORT |= {"machine": dict[str, Any] | None, "versions": dict[str, Any] | None}
_REPORT |= {"architecture": tuple[Any, ...] | None}
_LAYER: dict[str, Any] = {"layer": str, "output_size": int, "structure": tuple[str, ...]}
MAX_BYTES = 64 << 20
MAX_NUMBER = 10**15  # what is larger is no measurement


def load_footprints(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Report], list[Problem]]:
    """Every footprint report at or below `paths`, each with its file under `path`.

    Hidden folders and links below a path are not followed. What is no report becomes a `Problem`.
    """
    reports: list[Report] = []
    problems: list[Problem] = []
    files = (file for path in paths for file in _find(Path(path), problems))
    for file in dict.fromkeys(files):
        try:
            reports += [report | {"path": str(file)} for report in read_footprints(file)]
        except (OSError, ValueError) as error:
            reason = str(error).removeprefix(f"{file}: ")
            problems.append(Problem("bad", str(file), reason))
    return reports, problems


def read_footprints(path: str | os.PathLike[str]) -> list[Report]:
    """The reports in one file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no report; names the file and says what is missing.
    """
    if regular_file(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES >> 20} MiB; expected a footprint report")
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a JSON file ({error}); expected a footprint report"
        ) from error
    reports = content.get("reports", [content]) if isinstance(content, dict) else []
    if not isinstance(reports, list) or not reports:
        raise ValueError(f"{path}: no footprint report; `python -m pretrain.footprint` writes one")
    try:
        conform("reports", reports, tuple[Any, ...])  # nothing without end in them
        for report in reports:
            _check("report", report, _REPORT)
            for layer in report.get("architecture") or ():
                _check("architecture", layer, _LAYER)
            for stage in report["stages"]:
                _check("stage", stage, _STAGE)
            for name, method in report["methods"].items():
                _check(f"method {name}", method, _METHOD)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return reports


def best_report(reports: Iterable[Report], encoder: str) -> Report | None:
    """The one that stands in the paper's tables: of 224 px, one precision, the most images.

    Stages' shares are the same at any batch; saving ratios come nearer to the paper's the more a
    step is activations and the less it is weights, that is with the images of one process.
    """
    fitting = [r for r in reports if r["encoder"] == encoder and r["image_size"] == 224]
    return max(fitting, key=_preference, default=None)


def _preference(report: Report) -> tuple[Any, ...]:
    images = report["batch_size"] // report["world_size"]
    return (report["precision"] == "float32", images, report["path"])


def _find(root: Path, problems: list[Problem]) -> Iterator[Path]:
    if root.match(FOOTPRINTS) and root.exists() and not root.is_dir():
        yield root
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            if file.match(FOOTPRINTS) and file.is_symlink():
                problems.append(Problem("bad", str(file), "a link or not a plain file; not read"))
            elif file.match(FOOTPRINTS):
                yield file


def _check(what: str, found: Any, expected: dict[str, Any]) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{what}: found {shown(found)}, expected an object of a footprint report")
    for name, kind in expected.items():
        value = conform(f"{what}: {name}", found.get(name), kind)
        least = 1 if isinstance(value, int) else 0
        if isinstance(value, (int, float)) and not least <= value <= MAX_NUMBER:
            raise ValueError(f"{what}: {name}: found {value}, expected {least} to {MAX_NUMBER}")
