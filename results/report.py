"""One self-contained HTML page of what ran: tables, loss curves, detections, runs, problems.

No script, no network: pictures are inlined, and the page's own policy forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import groupby
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from results.artifacts import data_uri, in_order, load_losses, load_scenes, losses_by_method
from results.cells import Cell
from results.every_table import all_tables
from results.footprints import Report
from results.labels import DATASETS, EM_DASH, METHODS, epochs_label, label
from results.load import METRIC_PREFIX, Problem
from results.paper import optional_int
from results.plots import (
    ap_bars,
    decoder_curves,
    has_bars,
    loss_curves,
    loss_range,
    tsne_panels,
)
from results.record import write_atomically
from results.tables import Table
from results.tsne import load_features, side_by_side
from results.writers import to_html

TITLE = "Local contrastive pretraining: transfer report"
MAX_TRACED = 5  # records named in the text that a cell shows on hover


def write_report(
    records: pd.DataFrame,
    out: str | os.PathLike[str],
    problems: Iterable[Problem] = (),
    footprints: Sequence[Report] = (),
) -> list[Problem]:
    """Write the page to `out`; return `problems` and those that the records' files gave."""
    page, all_problems = render_report(records, problems, footprints)
    write_atomically(out, page.encode())
    return all_problems


def render_report(
    records: pd.DataFrame,
    problems: Iterable[Problem] = (),
    footprints: Sequence[Report] = (),
) -> tuple[str, list[Problem]]:
    """The page as text, from a frame of `load_records`; and every problem that it lists."""
    losses, loss_problems = load_losses(records)
    scenes, scene_problems = load_scenes(records)
    features, feature_problems = load_features(records)
    all_problems = [*problems, *loss_problems, *feature_problems, *scene_problems]
    tables = all_tables(records, footprints)
    ordered = in_order(records)
    anchors = {run["record_path"]: f"run-{i}" for i, run in enumerate(ordered, start=1)}
    runs = [_run(run, anchors[run["record_path"]]) for run in ordered]
    limits = loss_range(losses)
    style = resources.files("results").joinpath("templates/report.css").read_text("utf-8")
    environment = Environment(
        loader=PackageLoader("results", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=TITLE,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        summary=_summary(records, tables),
        tables=[Markup(to_html(table, _tracer(records, anchors))) for table in tables],
        bars=[
            (f"Box and mask AP on {dataset}. {table.title}", _png(ap_bars(cells)))
            for table in tables
            if has_bars(table.cells)
            for dataset, cells in table.cells.groupby("group_label", sort=False)
        ],
        decoders=[
            (title, _png(decoder_curves(frames)))
            for title, frames in losses_by_method(records).items()
        ],
        features=[(name, _png(tsne_panels(side_by_side(f)))) for name, f in features.items()],
        losses=[(name, _png(loss_curves({name: frame}, limits))) for name, frame in losses.items()],
        scenes=[
            (label(DATASETS, dataset), protocol, list(group))
            for (dataset, protocol), group in groupby(scenes, lambda s: (s.dataset, s.protocol))
        ],
        runs=runs,
        problems=all_problems,
    )
    return page, all_problems


def duration(seconds: float) -> str:
    """ "3 min 05 s"; hours and days where they are needed."""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02} s"
    return f"{total // 3600} h {total % 3600 // 60:02} min"


def _summary(records: pd.DataFrame, tables: list[Table]) -> list[str]:
    """What ran, and the best box AP per dataset of the first table."""
    if records.empty:
        return ["No run has finished yet."]
    counts = Counter(records["kind"])
    parts = []
    for kind, one, many in (
        ("pretrain", "pretraining", "pretrainings"),
        ("linear", "readout", "readouts"),
        ("transfer", "transfer", "transfers"),
    ):
        if counts[kind]:
            methods = set(records.loc[records["kind"] == kind, "method"])
            names = ", ".join(text for name, text in METHODS.items() if name in methods)
            parts.append(f"{counts[kind]} {one if counts[kind] == 1 else many} ({names})")
    last = max(records["recorded_at"]).strftime("%Y-%m-%d %H:%M UTC")
    total = duration(records["wall_time_s"].sum())
    sentences = [f"{' and '.join(parts)} ran for {total} in all; the last ended on {last}."]
    detection = [table.cells for table in tables if (table.cells["metric"] == "box_ap").any()]
    for name, cells in detection[0].groupby("group_label", sort=False) if detection else ():
        boxes = cells[(cells["metric"] == "box_ap") & (cells["n"] > 0)]
        if len(boxes) > 1:
            best = boxes.loc[boxes["shown"].idxmax()]
            sentences.append(
                f"Best box AP on {name}: {best['shown']:.1f}, {best['method_label']} with "
                f"{best['arch_label']}."
            )
    return sentences


def _tracer(records: pd.DataFrame, anchors: dict[str, str]) -> Callable[[Cell], tuple[str, str]]:
    by_path = {row["record_path"]: row for row in records.to_dict("records")}

    def trace(cell: Cell) -> tuple[str, str]:
        paths = cell["records"]
        if paths[0] not in by_path:
            return f"footprint: {paths[0]}", ""
        texts = [_provenance(by_path[path]) for path in paths[:MAX_TRACED]]
        if len(paths) > MAX_TRACED:
            texts.append(f"and {len(paths) - MAX_TRACED} more records")
        return "\n\n".join(texts), f"#{anchors[paths[0]]}"

    return trace


def _provenance(run: dict[Any, Any]) -> str:
    split = optional_int(run["split"])
    lines = {
        "record": run["record_path"],
        "config": f"{run['config']} ({run['config_hash'][:12]})",
        "weights": (run["backbone_sha256"] or "none: random initialisation")[:64],
        "data": f"{run['dataset']} ({run['dataset_fingerprint'][:12]})",
        "seed": f"{run['seed']}" + ("" if split is None else f", split {split}"),
        "code": run["git_commit"] or "unknown",
        "ended": run["finished_at"],
    }
    return "\n".join(f"{name}: {text}" for name, text in lines.items())


def _run(row: dict[Any, Any], anchor: str) -> dict[str, Any]:
    """A record as the strings of its row in "What ran"."""
    epochs, memory = optional_int(row["pretrain_epochs"]), row["peak_memory_mib"]
    metrics = {
        str(key).removeprefix(METRIC_PREFIX): f"{value:.4g}"
        for key, value in row.items()
        if str(key).startswith(METRIC_PREFIX) and not pd.isna(value)
    }
    return {
        "anchor": anchor,
        "kind": row["kind"],
        "method": label(METHODS, row["method"]),
        "encoder": row["encoder"],
        "dataset": row["dataset"],
        "protocol": row["protocol"],
        "epochs": EM_DASH if epochs is None else epochs_label(epochs),
        "batch": f"{row['global_batch_size']} over {row['world_size']}",
        "norm": row["norm"],
        "precision": row["precision"],
        "wall_time": duration(row["wall_time_s"]),
        "memory": EM_DASH if pd.isna(memory) else f"{memory:,.0f} MiB",
        "backbone": row["backbone_sha256"] or "",
        "config": row["config"],
        "config_hash": row["config_hash"],
        "commit": row["git_commit"],
        "deviations": row["deviations"],
        "metrics": metrics,
        "provenance": _provenance(row),
    }


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return data_uri(buffer.getvalue(), "image/png")
