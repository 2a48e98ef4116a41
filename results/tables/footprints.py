"""Reports of `python -m pretrain.footprint`, found beside the runs: the source of Tables 6 to 8.

A report is a file named `footprint*.json`, alone or several in one, as `python tools/measure.py
footprint` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from results.record.plain_json import plain, read_json
from results.tables.load import FOOTPRINTS, Problem, find_files

Share = Annotated[float, Meta(ge=0, le=10**15)]  # what is larger is no measurement
Number = Annotated[int, Meta(ge=1, le=10**15)]


class Stage(Struct, frozen=True):
    """What one stage has of all memory and computation."""

    name: str
    memory_percent: Share
    flops_percent: Share


class Step(Struct, frozen=True):
    """A step of one method; ratios are to SimCLR's."""

    peak_memory_mib: Share
    saving_ratio: Share
    work_ratio: Share
    setting: str
    step_ratio: Share | None = None  # where it was measured


class Layer(Struct, frozen=True):
    """A row of Table 8."""

    layer: str
    output_size: Number
    structure: tuple[str, ...]


class Report(Struct, frozen=True):
    """What one run of `python -m pretrain.footprint` says; `path` is its file."""

    encoder: str
    image_size: Number
    batch_size: Number
    world_size: Number
    precision: str
    flops_g: Share
    stages: tuple[Stage, ...]
    methods: dict[str, Step]
    command: str | None = None
    measured_batch_size: Number | None = None
    machine: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    architecture: tuple[Layer, ...] | None = None
    path: str = ""


MAX_BYTES = 64 << 20


def load_footprints(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Report], list[Problem]]:
    """Every footprint report at or below `paths`, found as `load_records` finds records."""
    reports: list[Report] = []
    problems: list[Problem] = []
    named = [p for p in map(Path, paths) if p.is_dir() or (p.match(FOOTPRINTS) and p.exists())]
    files = [file for path in named for file in find_files(path, FOOTPRINTS, problems)]
    for file in dict.fromkeys(files):
        try:
            reports += read_footprints(file)
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
    content = read_json(path, "footprint report", MAX_BYTES)
    reports = content.get("reports", [content]) if isinstance(content, dict) else []
    if not isinstance(reports, list) or not reports:
        raise ValueError(f"{path}: no footprint report; `python -m pretrain.footprint` writes one")
    try:
        found = msgspec.convert(plain("reports", reports), list[Report])
    except ValueError as error:
        raise ValueError(f"{path}: no footprint report: {error}") from error
    return [structs.replace(report, path=str(path)) for report in found]


def best_report(reports: Iterable[Report], encoder: str) -> Report | None:
    """The one that stands in the paper's tables: of 224 px, one precision, the most images.

    Stages' shares are the same at any batch; saving ratios come nearer to the paper's the more a
    step is activations and the less it is weights, that is with the images of one process.
    """
    fitting = [r for r in reports if r.encoder == encoder and r.image_size == 224]
    return max(fitting, key=_preference, default=None)


def _preference(report: Report) -> tuple[bool, int, str]:
    return (report.precision == "float32", report.batch_size // report.world_size, report.path)
