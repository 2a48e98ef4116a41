"""One self-contained HTML page of what ran: tables, figures, runs, problems.

Nothing is fetched: pictures are inlined, and the page's own policy allows its one style and its one
script by their hashes and forbids everything else. Without the script the page is whole; with it,
tables are sorted and filtered, and every value shows where it comes from.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from results.figures.artifacts import (
    Scene,
    data_uri,
    in_order,
    load_losses,
    load_plots,
    load_scenes,
    losses_by_method,
)
from results.figures.plots import (
    ap_bars,
    decoder_curves,
    has_bars,
    loss_curves,
    loss_range,
    tsne_panels,
)
from results.figures.tsne import CACHE, load_features, side_by_side
from results.record.files import write_atomically
from results.record.labels import (
    ARCHS,
    DATASETS,
    EM_DASH,
    ENCODERS,
    METHODS,
    epochs_label,
    label,
    rank,
)
from results.report.provenance import duration, of_report, of_run
from results.tables.every_table import all_tables
from results.tables.footprints import Report
from results.tables.grid import Cell, Table
from results.tables.load import Problem, Run
from results.tables.run_tables import as_file_name
from results.tables.writers import Trace, to_html

TITLE = "Local contrastive pretraining: transfer report"
PAPER_TABLES = range(1, 9)
MAX_TRACED = 5  # records named in the text that a cell shows on hover without the script
HEADLINES = {"box_ap": "box AP", "mask_ap": "mask AP", "top1": "top-1", "knn_top1": "k-NN"}


def write_report(
    runs: Sequence[Run],
    out: str | os.PathLike[str],
    problems: Iterable[Problem] = (),
    footprints: Sequence[Report] = (),
) -> list[Problem]:
    """Write the page to `out`; return `problems` and those that the records' files gave."""
    page, all_problems = render_report(runs, problems, footprints, Path(out).parent / CACHE)
    write_atomically(out, page.encode())
    return all_problems


def render_report(
    runs: Sequence[Run],
    problems: Iterable[Problem] = (),
    footprints: Sequence[Report] = (),
    cache: Path | None = None,
) -> tuple[str, list[Problem]]:
    """The page as text, and every problem that it lists.

    Embeddings are kept in the folder `cache`, see `results.figures.tsne.embed`.
    """
    # ---- read what the records point to
    losses, loss_problems = load_losses(runs)
    scenes, scene_problems = load_scenes(runs)
    features, feature_problems = load_features(runs)
    plots, plot_problems = load_plots(footprints)
    found = [*loss_problems, *feature_problems, *scene_problems, *plot_problems]
    all_problems = [*problems, *found]

    # ---- tables, and what their cells come from
    tables = all_tables(runs, footprints)
    shown_runs = [_run(run, f"run-{i}") for i, run in enumerate(in_order(runs), start=1)]
    reports = [_report(report, f"report-{i}") for i, report in enumerate(footprints, start=1)]
    trace = _tracer(shown_runs, reports)
    numbered = {table.name for table in tables}
    limits = loss_range(losses)

    # ---- the page
    style, script = _template("report.css"), _template("report.js")
    environment = Environment(
        loader=PackageLoader("results.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=TITLE,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        summary=_summary(runs, tables),
        tables=[
            (as_file_name(table.name), table.title, Markup(to_html(table, trace)))
            for table in tables
        ],
        contents=_contents(tables),
        absent=[f"table{k}" for k in PAPER_TABLES if f"table{k}" not in numbered],
        bars=[
            (f"{table.title}: {group}", _png(ap_bars(table, dataset)))
            for table in tables
            if has_bars(table)
            for dataset, group in {c.dataset: c.group for c in table.columns}.items()
        ],
        decoders=[
            (title, _png(decoder_curves(frames)))
            for title, frames in losses_by_method(runs).items()
        ],
        features=[
            (name, _png(tsne_panels(side_by_side(f, cache)))) for name, f in features.items()
        ],
        losses=[(name, _png(loss_curves({name: frame}, limits))) for name, frame in losses.items()],
        scenes=[
            (label(DATASETS, dataset), protocol, _rows_of_shots(list(group)))
            for (dataset, protocol), group in groupby(scenes, lambda s: (s.dataset, s.protocol))
        ],
        plots=plots,
        runs=shown_runs,
        reports=reports,
        problems=all_problems,
    )
    return page, all_problems


def _summary(runs: Sequence[Run], tables: list[Table]) -> list[str]:
    """What ran, and the first table's best box AP per dataset, unless a single run is in it."""
    if not runs:
        return ["No run has finished yet."]
    parts = []
    for kind, one in (("pretrain", "pretraining"), ("linear", "readout"), ("transfer", "transfer")):
        if found := [run.record.method for run in runs if run.record.kind == kind]:
            names = ", ".join(
                label(METHODS, name) for name in sorted(set(found), key=rank(METHODS))
            )
            parts.append(f"{len(found)} {one}{'s' if len(found) > 1 else ''} ({names})")
    last = max(run.finished_at for run in runs).strftime("%Y-%m-%d %H:%M UTC")
    total = duration(sum(run.record.wall_time_s for run in runs))
    sentences = [f"{' and '.join(parts)} ran for {total} in all; the last ended on {last}."]
    detection = [t for t in tables if any(cell.metric == "box_ap" for cell in t.all_cells())]
    for dataset, name in {c.dataset: c.group for t in detection[:1] for c in t.columns}.items():
        boxes = [
            (cell, row)
            for row in detection[0].rows
            for cell in row.cells
            if (cell.metric, cell.dataset) == ("box_ap", dataset) and cell.n
        ]
        if len(boxes) > 1 and all(cell.n > 1 for cell, _ in boxes):
            best, row = max(boxes, key=lambda box: box[0].shown)
            whose = f"{row.names[0]} with {label(ARCHS, best.encoder)}"
            sentences.append(f"Best box AP on {name}: {best.shown:.1f}, {whose}.")
    return sentences


def _tracer(
    runs: Sequence[Mapping[str, Any]], reports: Sequence[Mapping[str, Any]]
) -> Callable[[Cell], Trace]:
    """For `to_html`: from a cell to the rows of the page that say what it comes from."""
    anchors: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for row in (*runs, *reports):
        anchors.setdefault(row["path"], []).append(row["anchor"])
        texts[row["path"]] = row["short"]

    def trace(cell: Cell) -> Trace:
        paths = cell.records
        title = "\n\n".join(texts[path] for path in paths[:MAX_TRACED])
        if len(paths) > MAX_TRACED:
            title += f"\n\nand {len(paths) - MAX_TRACED} more records"
        sources = [anchor for path in paths for anchor in _of_cell(anchors[path], cell, reports)]
        return Trace(title, f"#{sources[0]}", " ".join(sources))

    return trace


def _of_cell(anchors: list[str], cell: Cell, reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of several reports in one file those of the cell's encoder."""
    if len(anchors) == 1:
        return anchors
    encoders = {report["anchor"]: report["encoder"] for report in reports}
    return [anchor for anchor in anchors if encoders[anchor] == cell.encoder] or anchors


def _run(run: Run, anchor: str) -> dict[str, Any]:
    """A record as the strings of its row in "What ran"."""
    words, record = of_run(run), run.record
    epochs = record.pretrain_epochs
    shown = (f"{t} {record.metrics[m]:.1f}" for m, t in HEADLINES.items() if m in record.metrics)
    seed = f"seed {record.seed}" + ("" if record.split is None else f", split {record.split}")
    weights = words.get("weights sha256", words["weights"])[:12]
    return {
        "anchor": anchor,
        "path": run.path,
        "short": f"{run.path}\n{record.config} ({record.config_hash[:12]})\n"
        f"weights {weights}, {seed}",
        "name": f"{record.kind}: {label(METHODS, record.method)}",
        "encoder": record.encoder,
        "dataset": record.dataset,
        "protocol": record.protocol,
        "epochs": EM_DASH if epochs is None else epochs_label(epochs),
        "seed": seed,
        "result": ", ".join(shown) or EM_DASH,
        "seconds": record.wall_time_s,
        "wall_time": words["took"],
        "memory": words.get("peak memory", EM_DASH),
        "moment": run.finished_at.timestamp(),
        "ended": run.finished_at.strftime("%Y-%m-%d %H:%M"),
        "words": words,
    }


def _report(report: Report, anchor: str) -> dict[str, Any]:
    """A footprint report as the strings of its row."""
    words = of_report(report)
    return {
        "anchor": anchor,
        "path": report.path,
        "short": "\n".join(f"{name}: {text}" for name, text in list(words.items())[:2]),
        "name": label(ENCODERS, report.encoder),
        "encoder": report.encoder,
        "words": words,
    }


def _contents(tables: Iterable[Table]) -> list[list[tuple[str, str]]]:
    """(anchor, words) of every table; forms of one ("TITLE; beside the paper") stand together."""
    forms: dict[str, list[tuple[str, str]]] = {}
    for table in tables:
        title, _, form = table.title.partition("; ")
        words = form if form and title in forms else table.title
        forms.setdefault(title, []).append((as_file_name(table.name), words))
    return list(forms.values())


def _rows_of_shots(scenes: Sequence[Scene]) -> list[list[tuple[str, str, str]]]:
    """(scene, caption, data URI) in rows: a scene each, or one row where one backbone drew all."""
    rows = [[(scene.name, *shot) for shot in scene.shots] for scene in scenes]
    return rows if any(len(row) > 1 for row in rows) else [[shot for row in rows for shot in row]]


def _template(name: str) -> str:
    return resources.files("results.report").joinpath(f"templates/{name}").read_text("utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return data_uri(buffer.getvalue(), "image/png")
