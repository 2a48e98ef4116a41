"""Tables, figures and a report from run records: `python -m results RUNS... --out DIR`.

From a cell back to what it comes from: `python -m results trace TABLE ROW COLUMN RUNS...`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from results.figures.artifacts import load_losses, losses_by_method
from results.figures.figure_files import write_figure
from results.figures.plots import ap_bars, decoder_curves, has_bars, loss_curves, tsne_panels
from results.figures.tsne import CACHE, load_features, side_by_side
from results.record.files import NotWritten, write_atomically
from results.report import trace
from results.report.report import write_report
from results.tables.every_table import all_tables
from results.tables.footprints import load_footprints
from results.tables.load import load_records
from results.tables.writers import FORMATS, to_markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `DIR/tables`, `DIR/figures` and `DIR/report.html`; 2 where there is no record."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["trace"]:
        return trace.main(given[1:])
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUNS",
        help="run folders, or folders of them; a footprint*.json among them fills Tables 6 to 8",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to write")
    options = parser.parse_args(given)
    out: Path = options.out

    # ---- read
    runs, problems = load_records(options.runs)
    footprints, unreadable = load_footprints(options.runs)
    problems = list(dict.fromkeys([*problems, *unreadable]))
    if not runs and not footprints:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(
            f"error: found no record.json under {', '.join(options.runs)}; a finished "
            "run writes one; start one with `bash tools/dist_train.sh CONFIG`",
            file=sys.stderr,
        )
        return 1

    # ---- tables
    tables = all_tables(runs, footprints)
    written = []
    for table in tables:
        for suffix, write in FORMATS.items():
            path = out / "tables" / f"{table.name}{suffix}"
            written.append(write_atomically(path, write(table).encode()))
        print(to_markdown(table))
    if not tables:
        print("no transfer and no readout among the records, so no table")

    # ---- figures
    losses, _ = load_losses(runs)  # the report lists what was wrong
    figures = {"loss_curves": loss_curves(losses)} if losses else {}
    for number, frames in enumerate(losses_by_method(runs).values(), start=1):
        figures[f"fig2_{number}"] = decoder_curves(frames)
    for number, found in enumerate(load_features(runs)[0].values(), start=1):
        figures[f"fig3_{number}"] = tsne_panels(side_by_side(found, out / CACHE))
    figures |= {f"ap_{t.name}": ap_bars(t) for t in tables if has_bars(t)}
    for name, figure in figures.items():
        written += write_figure(figure, out / "figures" / name)

    # ---- report
    problems = write_report(runs, out / "report.html", problems, footprints)
    written.append(out / "report.html")

    print(f"records: {len(runs)}, problems: {len(problems)}")
    for problem in problems:
        print(f"  {problem}")
    print("wrote")
    for path in written:
        print(f"  {path}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotWritten as error:
        sys.exit(f"error: {error}")
