"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from results.record.files import write_atomically


def write_figure(figure: Figure, path: Path) -> list[Path]:
    """`path` with .png and .pdf added, without dates: the same figure gives the same bytes."""
    files = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=150, metadata=metadata)
        files.append(write_atomically(path.with_name(path.name + suffix), buffer.getvalue()))
    return files
