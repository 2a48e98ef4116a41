"""Peak memory against step time, every method a point."""

from typing import Any

from matplotlib.figure import Figure

LABELS = {
    "simclr": "SimCLR",
    "simclr_checkpoint": "SimCLR, recomputed",
    "gim": "GIM",
    "gim_recompute": "GIM, recomputed",
    "loco": "LoCo",
    "loco_recompute": "LoCo, recomputed",
    "loco_naive": "LoCo, naive",
}
COLOURS = {"simclr": "#444444", "gim": "#d1731d", "loco": "#2264a8"}


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
            f"{LABELS[name]} saves {saves} ({method['saving_ratio']:.2f}x) and takes {takes} "
            f"{word} ({method[cost]:.2f}x)."
        )
    return "\n".join(sentences)


def memory_against_time(report: dict[str, Any]) -> Figure:
    """The methods of a measured report, peak GiB over step time.

    Args:
        report: as ``pretrain.footprint`` writes it, with times.

    Returns:
        A figure that belongs to no window.

    Raises:
        ValueError: the report has no times.
    """
    methods = report["methods"]
    untimed = [name for name, method in methods.items() if method["step_ratio"] is None]
    if untimed:
        raise ValueError(
            f"no step time for {', '.join(untimed)}: run pretrain.footprint with --measure"
        )
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    axes, text = figure.subplots(2, 1, height_ratios=[4, 1.1])
    for name, method in methods.items():
        family, _, variant = name.partition("_")
        x, y = method["step_ratio"], method["peak_memory_mib"] / 1024
        hollow = variant in ("recompute", "checkpoint")
        axes.plot(
            x, y, linestyle="none", markersize=10, marker="X" if variant == "naive" else "o",
            color=COLOURS[family], markerfacecolor="white" if hollow else COLOURS[family],
            markeredgewidth=2,
        )  # fmt: skip
        axes.annotate(
            f"{LABELS[name]} ({method['saving_ratio']:.2f}×)", (x, y), xytext=(0, 9),
            textcoords="offset points", ha="center", color=COLOURS[family], fontsize=9,
        )  # fmt: skip
        if hollow:  # from the plain method to the one that recomputes
            plain = methods[family]
            axes.annotate(
                "", (x, y), (plain["step_ratio"], plain["peak_memory_mib"] / 1024),
                arrowprops={"arrowstyle": "->", "color": COLOURS[family], "alpha": 0.45,
                            "shrinkA": 8, "shrinkB": 8},
            )  # fmt: skip
    rival = methods["simclr_checkpoint"]
    axes.axhline(rival["peak_memory_mib"] / 1024, color="#444444", linewidth=0.8, linestyle=":")
    axes.set_xlabel(
        f"time of a step / SimCLR's (measured, batch {report['measured_batch_size']}, "
        f"{methods['simclr']['step_seconds']:.2f} s for SimCLR)"
    )
    axes.set_ylabel(f"peak memory of a step, GiB (counted, batch {report['batch_size']})")
    axes.set_title(
        f"{report['encoder']}, {report['image_size']} px, {report['precision']}: "
        "memory against time (saving ratio)", fontsize=11,
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.margins(x=0.16, y=0.12)
    axes.grid(alpha=0.25)
    text.axis("off")
    text.text(
        0, 1, where_it_pays(methods), va="top", fontsize=8.5, transform=text.transAxes,
        linespacing=1.35,
    )  # fmt: skip
    return figure
