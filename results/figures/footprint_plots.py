"""Memory against time as `pretrain.costs.footprint` plots it: the PNG beside a footprint report."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from results.figures.artifacts import MAX_PICTURE_BYTES, MAX_PICTURE_PIXELS, data_uri
from results.tables.footprints import Report
from results.tables.load import Problem

DRAW = "pretrain.costs.footprint_plot"  # draws a report with measured steps
SHOWN_WIDTH = 1200  # pixels at most, in the report


class Plot(NamedTuple):
    """A report's file and its plot, a data URI; or how to draw it."""

    path: str
    source: str
    command: str


def load_plots(reports: Iterable[Report]) -> tuple[list[Plot], list[Problem]]:
    """One for every file of reports, in their order; a picture that cannot be read is a problem."""
    plots, problems = [], []
    for path in dict.fromkeys(report.path for report in reports):
        picture = Path(path).with_suffix(".png")
        source = ""
        if picture.is_file():
            try:
                source = _read(picture)
            except (OSError, ValueError) as error:
                problems.append(Problem("warning", path, f"plot: {error}"))
        command = shlex.join(["python", "-m", DRAW, path, str(picture)])
        plots.append(Plot(path, source, "" if source else command))
    return plots, problems


def _read(picture: Path) -> str:
    """A PNG file, encoded anew, as a data URI."""
    if picture.is_symlink() or picture.stat().st_size > MAX_PICTURE_BYTES:
        raise ValueError(f"{picture.name} is a link or larger than {MAX_PICTURE_BYTES >> 20} MiB")
    try:
        with Image.open(picture, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise ValueError(f"{picture.name} has {image.width} x {image.height} pixels")
            shown = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{picture.name} is not a readable PNG file") from error
    shown.thumbnail((SHOWN_WIDTH, SHOWN_WIDTH))
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")
