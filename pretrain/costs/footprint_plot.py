"""Peak memory against step time, every method a point.

    python -m pretrain.costs.footprint_plot REPORT.json OUT.png

draws a report of ``python -m pretrain.footprint --measure`` again.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path as Line
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from results.record.files import regular_file
from results.record.labels import ENCODERS, STEP_METHODS

COLOURS = {"simclr": "#444444", "gim": "#d1731d", "loco": "#2264a8"}
# Where a label may stand, in typographic points from the centre of its point: the nearest first.
SPOTS = [
    (dx * reach, dy * reach)
    for reach in (9, 20, 34, 48, 62, 76)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
]

LINE = 70  # characters of the text below the plot

Point = tuple[float, float]


def where_it_pays(methods: dict[str, dict[str, Any]]) -> str:
    """Each local method against plain checkpointing of SimCLR, in memory and in what it costs."""
    timed = methods["simclr"]["step_ratio"] is not None
    cost, word = ("step_ratio", "time") if timed else ("work_ratio", "work")
    rival = methods["simclr_checkpoint"]
    sentences = [
        f"SimCLR with checkpointing alone saves {rival['saving_ratio']:.2f}x at "
        f"{rival[cost]:.2f}x the {word} ({rival['setting']})."
    ]
    for name in ("gim", "gim_recompute", "loco", "loco_recompute"):
        method = methods[name]
        saves = "more" if method["saving_ratio"] > rival["saving_ratio"] else "less"
        takes = "more" if method[cost] > rival[cost] else "less"
        sentences.append(
            f"{STEP_METHODS[name]} saves {saves} ({method['saving_ratio']:.2f}x) and takes {takes} "
            f"{word} ({method[cost]:.2f}x)."
        )
    return "\n".join(sentences)


def memory_against_time(report: dict[str, Any]) -> Figure:
    """The methods of a measured report, peak GiB over step time.

    Args:
        report: as ``pretrain.costs.footprint`` writes it, with times.

    Returns:
        A figure that belongs to no window.

    Raises:
        ValueError: the report has no times.
    """
    methods = report["methods"]
    untimed = [name for name, method in methods.items() if method["step_ratio"] is None]
    if untimed:
        raise ValueError(
            f"no step time for {', '.join(untimed)}: run pretrain.costs.footprint with --measure"
        )
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    axes, text = figure.subplots(2, 1, height_ratios=[4.6, 1])
    points = {
        name: (method["step_ratio"], method["peak_memory_mib"] / 1024)
        for name, method in methods.items()
    }
    rival = points["simclr_checkpoint"][1]
    lines = [((-9, rival), (9, rival))]
    for name, (x, y) in points.items():
        family, _, variant = name.partition("_")
        hollow = variant in ("recompute", "checkpoint")
        axes.plot(
            x, y, linestyle="none", markersize=10, marker="X" if variant == "naive" else "o",
            color=COLOURS[family], markerfacecolor="white" if hollow else COLOURS[family],
            markeredgewidth=2,
        )  # fmt: skip
        if hollow:  # from the plain method to the one that recomputes
            lines.append((points[family], (x, y)))
            axes.annotate(
                "", (x, y), points[family],
                arrowprops={"arrowstyle": "->", "color": COLOURS[family], "alpha": 0.45,
                            "shrinkA": 8, "shrinkB": 8},
            )  # fmt: skip
    axes.axhline(rival, color="#444444", linewidth=0.8, linestyle=":")
    axes.set_xlabel(
        f"time of a step / SimCLR's (measured, batch {report['measured_batch_size']}, "
        f"{methods['simclr']['step_seconds']:.2f} s for SimCLR)"
    )
    axes.set_ylabel(f"peak memory of a step, GiB (counted, batch {report['batch_size']})")
    axes.set_title(
        f"{ENCODERS.get(report['encoder'], report['encoder'])}, {report['image_size']} px, "
        f"{report['precision']}: memory against time\nin brackets: SimCLR's peak over the method's",
        fontsize=10,
    )
    axes.margins(x=0.2)
    axes.set_ylim(0, 1.15 * max(y for _, y in points.values()))
    axes.grid(alpha=0.25)
    text.axis("off")
    told = where_it_pays(methods).splitlines()
    lines_below = [line for sentence in told for line in textwrap.wrap(sentence, LINE)]
    text.text(
        0, 1, "\n".join(lines_below), va="top", fontsize=8.5, transform=text.transAxes,
        linespacing=1.3,
    )  # fmt: skip
    remark = axes.annotate(
        "below: saves more than checkpointing SimCLR", (0, rival), xytext=(0, 0),
        xycoords=("axes fraction", "data"), textcoords="offset points",
        color="#444444", fontsize=7.5, style="italic",
    )  # fmt: skip
    labels = [
        axes.annotate(
            f"{STEP_METHODS[name]} ({methods[name]['saving_ratio']:.2f}×)", point, xytext=(0, 0),
            textcoords="offset points", color=COLOURS[name.partition("_")[0]], fontsize=9,
        )
        for name, point in points.items()
    ]  # fmt: skip
    _keep_apart(figure, axes, list(points.values()), lines, remark, labels)
    return figure


def _keep_apart(
    figure: Figure,
    axes: Axes,
    points: Sequence[Point],
    lines: Sequence[tuple[Point, Point]],
    remark: Annotation,
    labels: Sequence[Annotation],
) -> None:
    """Move every text to the nearest of its spots that is free of points, lines and other texts."""
    for text in (remark, *labels):
        text.set_in_layout(False)  # the axes stay where they are while texts move
    figure.draw_without_rendering()
    dot = 7 * figure.dpi / 72  # half a marker and a little air, in pixels
    taken = [
        Bbox.from_extents(x - dot, y - dot, x + dot, y + dot)
        for x, y in axes.transData.transform(points)
    ]
    drawn = [Line(axes.transData.transform(line)) for line in lines]
    room = (axes.bbox.width - remark.get_window_extent().width) * 72 / figure.dpi  # on its line
    line_spots = [(part * room, y) for y in (-3, 3) for part in (0.99, 0.01, 0.5, 0.25, 0.75)]
    for text in (remark, *labels):
        for dx, dy in line_spots if text is remark else SPOTS:
            across = "left" if dx > 0 else "right" if dx < 0 else "center"
            up = "bottom" if dy > 0 else "top" if dy < 0 else "center"
            text.set(position=(dx, dy), ha=across, va=up)
            box = text.get_window_extent()
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            crossed = any(line.intersects_bbox(box, filled=False) for line in drawn)
            if inside and not crossed and not box.count_overlaps(taken):
                break
        taken.append(box.padded(4))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; ``arguments`` are those after the program's name."""
    parser = argparse.ArgumentParser(
        prog="python -m pretrain.costs.footprint_plot",
        description="Draw peak memory against step time from a report with measured steps.",
    )
    parser.add_argument("report", type=Path, metavar="REPORT.json")
    parser.add_argument("out", type=Path, metavar="OUT.png")
    args = parser.parse_args(arguments)
    try:
        figure = memory_against_time(json.loads(regular_file(args.report).read_text()))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {args.report}: {error}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
