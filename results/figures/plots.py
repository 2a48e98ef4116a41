"""Figures from records: loss curves as in the paper's Fig. 2, t-SNE as in Fig. 3, values as bars.

Every function returns a Figure of its own; pyplot, with its global state, is not used. Colours are
Okabe and Ito's, told apart with any colour vision, and lines also differ in their dashes.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.record.labels import ARCHS, EM_DASH, METHODS, METRICS, label, rank
from results.tables.grid import Row, Table

X_COLUMNS = ("iteration", "epoch")  # of losses.csv; every other column is a unit
MAX_LABEL = 44  # characters
MAX_LINES, TITLE_WIDTH = 4, 38  # of a title, in lines and characters

# By the last stage of a unit, where its loss is computed, so that equal depths match over panels.
_STAGE_STYLES = {
    "res2": ("#D55E00", (0, (1, 1))),
    "res3": ("#009E73", (0, (5, 1.5))),
    "res4": ("#CC79A7", (0, (5, 1.5, 1, 1.5))),
    "res5": ("#0072B2", "solid"),
    "res6": ("#E69F00", (0, (3, 1, 1, 1, 1, 1))),
    "res7": ("#000000", (0, (8, 2))),
}
_OTHER_STYLE = ("#666666", "solid")
_METHOD_STYLES = {
    "simclr": ("#000000", (0, (5, 1.5))),
    "gim": ("#D55E00", "solid"),
    "loco": ("#0072B2", "solid"),
}
_Style = tuple[str, Any]  # colour, dashes
_CLASS_COLOURS = (  # Paul Tol's "muted", black for its grey: ten that any colour vision tells apart
    *("#332288", "#DDAA33", "#117733", "#CC6677", "#88CCEE"),
    *("#882255", "#44AA99", "#AA4499", "#999933", "#000000"),
)
_CLASS_MARKERS = ("o", "^", "s", "D", "v", "X", "P", "*", "<", ">")
_BOX_COLOUR, _MASK_COLOUR = "#0072B2", "#E69F00"


def units_of(frame: pd.DataFrame) -> list[str]:
    """The unit columns of a losses.csv, each named by its stages ("res2+res3")."""
    return [str(name) for name in frame.columns if name not in X_COLUMNS]


def loss_range(frames: Mapping[str, pd.DataFrame]) -> tuple[float, float]:
    """Limits of the loss axis that hold every finite loss of all runs, with a margin."""
    values = [frame[units_of(frame)].to_numpy(dtype=float).ravel() for frame in frames.values()]
    finite = np.concatenate([np.empty(0), *values])
    finite = finite[np.isfinite(finite)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def loss_curves(
    frames: Mapping[str, pd.DataFrame], loss_limits: tuple[float, float] | None = None
) -> Figure:
    """Contrastive loss of every unit, one panel per run, in the manner of the paper's Fig. 2.

    `frames` are losses.csv files by the title of their panel. All panels share the loss axis
    (`loss_limits`, by default what all runs need). Every unit has a faint line with the logged
    values (its gid is `raw:<unit>`) and a bold one with their running mean (`mean:<unit>`).
    """
    panels = max(1, len(frames))
    columns = min(3, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(4.2 * columns, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    low, high = loss_limits or loss_range(frames)
    for panel, (title, frame) in zip(axes.flat[: len(frames)], frames.items(), strict=True):
        _loss_panel(panel, title, frame)
        panel.set_ylim(low, high)
    for panel in list(axes.flat)[len(frames) :]:
        panel.set_visible(False)
    for first in axes[:, 0]:
        first.set_ylabel("contrastive loss")
    return figure


def decoder_curves(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Contrastive loss of every decoder, one panel per stage that a decoder reads: Fig. 2.

    `frames` are losses.csv files by method. The methods meet in a panel where their units end at
    the same stage. A method of one unit, SimCLR, is drawn in all panels: the paper compares the
    other decoders' losses with its (appendix A).
    """
    ends = {method: {_stage(unit): unit for unit in units_of(f)} for method, f in frames.items()}
    stages = sorted({stage for units in ends.values() for stage in units})
    figure = Figure(figsize=(2.9 * max(1, len(stages)) + 0.6, 3.4), layout="constrained")
    axes = figure.subplots(1, max(1, len(stages)), squeeze=False, sharex=True, sharey=True)[0]
    for panel, stage in zip(axes[: len(stages)], stages, strict=True):
        for method in sorted(frames, key=rank(METHODS)):
            everywhere = len(ends[method]) == 1
            unit = next(iter(ends[method].values())) if everywhere else ends[method].get(stage)
            if unit is not None:
                name = label(METHODS, method)
                name += f" ({_stage(unit)})" if everywhere and len(stages) > 1 else ""
                _curve(panel, frames[method], unit, _METHOD_STYLES.get(method, _OTHER_STYLE), name)
        panel.set_title(_title(f"decoder after {stage}", width=30), fontsize=11)
        panel.set_xlabel("iteration")
        _clean(panel)
    axes[0].set_ylim(*loss_range(frames))
    axes[0].set_ylabel("contrastive loss")
    handles = {text: line for panel in axes for line, text in zip(*_legend(panel), strict=True)}
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False
        )
    return figure


def tsne_panels(embeddings: Mapping[str, pd.DataFrame]) -> Figure:
    """Features in two dimensions, methods side by side, a colour and a marker per class: Fig. 3.

    `embeddings` are frames with the columns `x`, `y` and `class`, by the title of their panel.
    The axes of a t-SNE have no unit, so they have no ticks.
    """
    panels = max(1, len(embeddings))
    classes = sorted({str(name) for frame in embeddings.values() for name in frame["class"]})
    figure = Figure(figsize=(3.4 * panels, 3.8), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for panel, (title, frame) in zip(axes[: len(embeddings)], embeddings.items(), strict=True):
        for place, name in enumerate(classes):
            here = frame[frame["class"].astype(str) == name]
            panel.scatter(
                here["x"],
                here["y"],
                s=16,
                color=_CLASS_COLOURS[place % len(_CLASS_COLOURS)],
                marker=_CLASS_MARKERS[(place + place // 10) % len(_CLASS_MARKERS)],
                linewidths=0,
                alpha=0.85,
                label=_plain(name),
                gid=f"class:{name}",
            )
        panel.set_title(_title(title, width=36), fontsize=11)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_box_aspect(1)
        panel.margins(0.05)
    if classes:
        _legend_below(figure, axes[0])
    return figure


def _legend_below(figure: Figure, panel: Axes) -> None:
    """In as many columns as the figure is wide; it grows by what the legend takes."""
    for columns in (5, 4, 3, 2, 1):
        legend = figure.legend(
            *_legend(panel), loc="outside lower center", ncols=columns, frameon=False,
            markerscale=1.5, fontsize=9, handletextpad=0.3,
        )  # fmt: skip
        box = legend.get_window_extent()
        width, height = box.width / figure.dpi, box.height / figure.dpi  # inches
        if width <= figure.get_figwidth() or columns == 1:
            break
        legend.remove()
    figure.set_size_inches(max(figure.get_figwidth(), width), figure.get_figheight() + height)


def has_bars(table: Table) -> bool:
    """Whether `ap_bars` can draw it: AP in its own columns, no paper beside, no paired tests."""
    own = {column.label for column in table.columns} <= set(METRICS.values())
    return own and all(cell.p is None for cell in table.all_cells())


def ap_bars(table: Table, dataset: str | None = None) -> Figure:
    """Box and mask AP of every row of a transfer table, one panel per dataset (or for one)."""
    groups = {c.dataset: c.group for c in table.columns if dataset in (None, c.dataset)}
    width, height = 5.2 * len(groups), 1.3 + 0.52 * len(table.rows)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False, sharex=True, sharey=True)[0]
    metrics = (("box_ap", "box AP", _BOX_COLOUR, -0.2), ("mask_ap", "mask AP", _MASK_COLOUR, 0.2))
    rows = np.arange(len(table.rows))
    for panel, (here, title) in zip(axes, groups.items(), strict=True):
        for metric, name, colour, offset in metrics:
            wanted = (here, metric)
            values = [c.shown for c in table.all_cells() if (c.dataset, c.metric) == wanted]
            bars = panel.barh(
                rows + offset, np.nan_to_num(values), height=0.38, color=colour, label=name
            )
            texts = [EM_DASH if math.isnan(value) else f"{value:.1f}" for value in values]
            panel.bar_label(bars, texts, padding=3, fontsize=9)
        panel.set_title(_title(title), fontsize=11)
        panel.set_xlabel("AP (%)")
        panel.margins(x=0.12, y=0.02)
        _clean(panel)
        panel.grid(axis="y", visible=False)
    axes[0].set_yticks(rows, [_row_label(row) for row in table.rows])
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=10,
    )
    return figure


def _loss_panel(panel: Axes, title: str, frame: pd.DataFrame) -> None:
    for unit in units_of(frame):
        _curve(panel, frame, unit, _STAGE_STYLES.get(_stage(unit), _OTHER_STYLE), unit)
    panel.set_title(_title(title), fontsize=11)
    panel.set_xlabel("iteration")
    panel.legend(fontsize=9, frameon=False, handlelength=2.6, title="unit", title_fontsize=9)
    _clean(panel)


def _curve(panel: Axes, frame: pd.DataFrame, unit: str, style: _Style, name: str) -> None:
    """A unit's logged losses, faint, and their running mean, bold; a dot where no line begins."""
    iterations = frame["iteration"].to_numpy(dtype=float)
    raw = frame[unit].astype(float)
    mean = raw.rolling(max(1, len(frame) // 15), min_periods=1, center=True).mean()
    colour, dashes = style
    panel.plot(
        *(iterations, raw),
        color=colour,
        alpha=0.25,
        linewidth=0.8,
        gid=f"raw:{unit}",
        **_dots(raw),
    )
    panel.plot(
        iterations,
        mean,
        color=colour,
        linestyle=dashes,
        linewidth=2,
        label=_plain(name),
        gid=f"mean:{unit}",
        **_dots(mean),
    )


def _dots(values: pd.Series) -> dict[str, Any]:
    """Markers for the values without a neighbour, which a line does not show."""
    there = np.pad(np.isfinite(values.to_numpy(dtype=float)), 1)
    alone = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:])
    return {"marker": "o", "markersize": 4, "markevery": alone.tolist()} if alone.size else {}


def _stage(unit: str) -> str:
    """The last stage of a unit, where its decoder reads: "res2+res3" -> "res3"."""
    return re.split(r"\+", unit)[-1]


def _legend(panel: Axes) -> tuple[list[Artist], list[str]]:
    handles, texts = panel.get_legend_handles_labels()
    return handles, texts


def _row_label(row: Row) -> str:
    key = row.key
    assert key is not None, "a table of runs"
    epochs = "" if key.pretrain_epochs is None else f", {key.pretrain_epochs} ep."
    parts = [f"{label(METHODS, key.method)}, {label(ARCHS, key.encoder)}{epochs}", key.setting]
    parts += [f"variant {key.variant}"] if key.variant else []
    return _title(", ".join(filter(None, parts)))


def _clean(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#DDDDDD", linewidth=0.6)
    panel.set_axisbelow(True)


def _plain(text: str) -> str:
    """One line that leaves room for the data, in which matplotlib finds no formula.

    What is long loses its middle: names often differ at their end.
    """
    text = " ".join(text.split())
    if len(text) > MAX_LABEL:
        text = text[: MAX_LABEL // 2] + "\N{HORIZONTAL ELLIPSIS}" + text[1 - MAX_LABEL // 2 :]
    return text.replace("$", r"\$")


def _title(text: str, width: int = TITLE_WIDTH) -> str:
    """Up to MAX_LINES lines of `width` characters; what is longer loses its middle."""
    lines = textwrap.wrap(" ".join(text.split()), width)
    if len(lines) > MAX_LINES:
        last = lines[1 - MAX_LINES // 2 :]
        lines = [*lines[: MAX_LINES // 2], "\N{HORIZONTAL ELLIPSIS}", *last]
    return "\n".join(lines).replace("$", r"\$")
