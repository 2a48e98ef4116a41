"""Tables, figures and a report from run records: `python -m results RUNS... --out DIR`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from results.artifacts import load_losses
from results.load import load_records
from results.plots import ap_bars, loss_curves
from results.record import write_atomically
from results.report import write_report
from results.tables import transfer_tables
from results.writers import FORMATS, to_markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `DIR/tables`, `DIR/figures` and `DIR/report.html`; 2 where there is no record."""
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or folders of them")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to write")
    options = parser.parse_args(arguments)
    out: Path = options.out

    # ---- read
    records, problems = load_records(options.runs)
    if records.empty:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(
            f"found no record.json under {', '.join(options.runs)}; a finished run writes one; "
            "start one with `bash tools/dist_train.sh CONFIG`",
            file=sys.stderr,
        )
        return 2

    # ---- tables
    tables = transfer_tables(records)
    written = []
    for table in tables:
        for suffix, write in FORMATS.items():
            path = out / "tables" / f"{table.name}{suffix}"
            written.append(write_atomically(path, write(table).encode()))
        print(to_markdown(table))
    if not tables:
        print("no transfer run among the records, so no table")

    # ---- figures
    losses, _ = load_losses(records)  # the report lists what was wrong
    figures = {"loss_curves": loss_curves(losses)} if losses else {}
    figures |= {f"ap_{t.name}": ap_bars(t.cells) for t in tables if not t.name.endswith("_paper")}
    for name, figure in figures.items():
        written += _write_figure(figure, out / "figures" / name)

    # ---- report
    problems = write_report(records, out / "report.html", problems)
    written.append(out / "report.html")

    print(f"records: {len(records)}, problems: {len(problems)}")
    for problem in problems:
        print(f"  {problem}")
    print("wrote")
    for path in written:
        print(f"  {path}")
    return 0


def _write_figure(figure: Figure, path: Path) -> list[Path]:
    """PNG and PDF, without dates, so that the same records give the same bytes."""
    files = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=150, metadata=metadata)
        files.append(write_atomically(path.with_name(path.name + suffix), buffer.getvalue()))
    return files


if __name__ == "__main__":
    sys.exit(main())
