"""What records point to: loss curves and pictures, read with care and in bounded amounts.

A file that is missing, outside the record's folder or not what it should be becomes a `Problem`.
"""

from __future__ import annotations

import base64
import csv
import io
import shlex
from collections import defaultdict
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image

from results.record.labels import DATASETS, METHODS, backbone_label, epochs_label, rank
from results.record.run_record import KINDS, RunRecord
from results.record.text import is_printable, shown
from results.tables.footprints import Report
from results.tables.load import Problem, Run, artifact_path

MAX_PANELS = 24  # loss curves
MAX_LOSSES_BYTES = 64 << 20
MAX_ITERATION = 10**12
MAX_UNITS = 100
MAX_SCENES = 6  # pictures per dataset and protocol, each drawn for every backbone
MAX_PICTURE_BYTES = 32 << 20
MAX_PICTURE_PIXELS = 40_000_000
SHOWN_SIDE, PLOT_SIDE = 480, 1200  # pixels at most, of pictures and plots in the report
JPEG = {"quality": 88, "subsampling": 0}
DRAW = "pretrain.costs.footprint_plot"  # draws a report with measured steps


@dataclass(frozen=True)
class Scene:
    """One picture of a dataset with the detections of every backbone: (caption, data URI)."""

    dataset: str
    protocol: str
    name: str
    shots: tuple[tuple[str, str], ...]


class Plot(NamedTuple):
    """A footprint report's file and its plot, a data URI; or how to draw it."""

    path: str
    source: str
    command: str


def run_label(record: RunRecord) -> str:
    """A run's backbone in words: "LoCo, 100 epochs, resnet50"."""
    return f"{backbone_label(record.method, record.pretrain_epochs)}, {record.encoder}"


def load_losses(runs: Iterable[Run]) -> tuple[dict[str, pd.DataFrame], list[Problem]]:
    """losses.csv of every pretraining run, by the title of its panel, in the order of methods."""
    frames: dict[str, pd.DataFrame] = {}
    problems = []
    left_out = 0
    for run in in_order(runs, "pretrain"):
        record = run.record
        if "losses" not in record.artifacts:
            continue
        if len(frames) == MAX_PANELS:
            left_out += 1
            continue
        try:
            frame = _read_losses(run)
        except (OSError, ValueError) as error:
            problems.append(Problem("warning", run.path, f"loss curve: {error}"))
            continue
        title = run_label(record)
        if title in frames:
            title += f", {record.dataset}, seed {record.seed}"
        if title in frames:
            title += f", {Path(run.path).parent.name}"
        frames[free_name(title, frames)] = frame
    if left_out:
        reason = f"{left_out} loss curves beyond the first {MAX_PANELS} are not drawn"
        problems.append(Problem("warning", "loss curves", reason))
    return frames, problems


def losses_by_method(runs: Iterable[Run]) -> dict[str, dict[str, pd.DataFrame]]:
    """losses.csv by method, of pretrainings that agree in all else: what Fig. 2 compares.

    By a title that says what they agree in; of several seeds the first. A file that cannot be read
    is left out here and told by `load_losses`.
    """
    groups: dict[str, dict[str, pd.DataFrame]] = {}
    for run in in_order(runs, "pretrain")[:MAX_PANELS]:
        record = run.record
        epochs = epochs_label(record.pretrain_epochs or 0)
        title = f"{record.encoder}, {epochs}, {record.dataset}, {record.protocol}"
        if "losses" in record.artifacts and record.method not in groups.get(title, {}):
            with suppress(OSError, ValueError):
                groups.setdefault(title, {})[record.method] = _read_losses(run)
    return {title: frames for title, frames in groups.items() if len(frames) > 1}


def load_scenes(runs: Iterable[Run]) -> tuple[list[Scene], list[Problem]]:
    """Pictures of transfer runs, those of equal file name side by side, one run per backbone."""
    problems: list[Problem] = []
    groups: dict[tuple[str, str], dict[str, list[tuple[str, Run, object]]]] = {}
    seen = set()
    for run in in_order(runs, "transfer"):
        group, caption = (run.record.dataset, run.record.protocol), run_label(run.record)
        pictures = run.record.artifacts.get("pictures", [])
        if (*group, caption) in seen or not isinstance(pictures, list):
            continue
        seen.add((*group, caption))
        scenes = groups.setdefault(group, defaultdict(list))
        for relative in pictures:
            name = PurePosixPath(str(relative)).name
            if name in scenes or len(scenes) < MAX_SCENES:
                scenes[name].append((caption, run, relative))
    found = []
    for (dataset, protocol), by_name in groups.items():
        for name, shots in by_name.items():
            images = []
            for caption, run, relative in shots:
                try:
                    path = artifact_path(run.path, relative)
                    images.append((caption, read_picture(path, SHOWN_SIDE, "JPEG", **JPEG)))
                except (OSError, ValueError) as error:
                    problems.append(Problem("warning", run.path, f"picture: {error}"))
            if images:
                found.append(Scene(dataset, protocol, name, tuple(images)))
    return found, problems


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, with stars where it is taken."""
    while name in taken:
        name += "*"
    return name


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def in_order(runs: Iterable[Run], kind: str | None = None) -> list[Run]:
    """Runs (of one kind) in the order of tables: pretraining first, by dataset, then by row."""

    def place(run: Run) -> tuple[object, ...]:
        record = run.record
        epochs = -1 if record.pretrain_epochs is None else record.pretrain_epochs
        split = -1 if record.split is None else record.split
        what = (KINDS.index(record.kind), rank(DATASETS)(record.dataset), record.protocol)
        ours = (epochs, record.encoder, rank(METHODS)(record.method))
        return (*what, *ours, split, record.seed, run.path)

    return sorted((run for run in runs if kind in (None, run.record.kind)), key=place)


def _read_losses(run: Run) -> pd.DataFrame:
    path = artifact_path(run.path, run.record.artifacts["losses"])
    if path.stat().st_size > MAX_LOSSES_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_LOSSES_BYTES >> 20} MiB")
    try:
        frame = pd.read_csv(path, compression=None, index_col=False)  # by its name it may be a bomb
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path.name} is no CSV file: {error}") from error
    expected = ["iteration", "epoch"]
    if list(frame.columns[:2]) != expected or len(frame.columns) < 3 or frame.empty:
        raise ValueError(
            f"{path.name} has the columns {shown(', '.join(map(str, frame.columns)))} and "
            f"{len(frame)} rows, expected iteration, epoch, one column per unit and one row or more"
        )
    try:
        numbers = frame.astype(float)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}; expected numbers below the header") from error
    if not numbers["iteration"].between(0, MAX_ITERATION).all() or not _fits(numbers.columns):
        raise ValueError(
            f"{path.name}: iterations beyond 0 to {MAX_ITERATION}, or more than {MAX_UNITS} units "
            "or one with an odd name"
        )
    return numbers.astype({"iteration": int})


def _fits(columns: Iterable[Any]) -> bool:
    names = list(columns)
    return len(names) <= 2 + MAX_UNITS and all(is_printable(str(name)) for name in names)


def read_picture(path: Path, side: int, stored: str, **how: Any) -> str:
    """A PNG or JPEG file, shrunk to `side` pixels and encoded anew, as a data URI.

    Raises:
        ValueError: too large, or not readable; names the file.
    """
    if path.stat().st_size > MAX_PICTURE_BYTES:
        raise ValueError(f"{path.name!r} is larger than {MAX_PICTURE_BYTES >> 20} MiB")
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            picture = image.convert("RGB")
    except Exception as error:  # Pillow raises of every kind
        raise ValueError(f"{path.name!r} is not a readable PNG or JPEG file ({error})") from error
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, stored, **how)
    return data_uri(buffer.getvalue(), f"image/{stored.lower()}")


def load_plots(reports: Iterable[Report]) -> tuple[list[Plot], list[Problem]]:
    """One for every file of reports, in their order; a picture that cannot be read is a problem."""
    plots, problems = [], []
    for path in dict.fromkeys(report.path for report in reports):
        picture = Path(path).with_suffix(".png")
        source = ""
        try:
            if picture.is_symlink():
                raise ValueError(f"{picture.name} is a link")
            if picture.is_file():
                source = read_picture(picture, PLOT_SIDE, "PNG", optimize=True)
        except (OSError, ValueError) as error:
            problems.append(Problem("warning", path, f"plot: {error}"))
        command = shlex.join(["python", "-m", DRAW, path, str(picture)])
        plots.append(Plot(path, source, "" if source else command))
    return plots, problems
