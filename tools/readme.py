"""The tables and pictures of README and docs, from what is stored in results/measured.

usage: python tools/readme.py           rewrite what is stale
       python tools/readme.py --check   name what is stale; ends with 1 if anything is
       python tools/readme.py --take demo demo_out/runs   take over new runs' records, then rewrite

Between ``<!-- begin: WHAT -->`` and ``<!-- end -->`` a page has a table, and WHAT says which one:
``FOLDER`` is the tables of its run records, ``REPORT.json ROWS COLUMN...`` has a row for each entry
of ROWS. A column is a path (``signals.SIGTERM``), after its heading where it has one
(``"with SIGTERM=signals.SIGTERM"``).
"""

import argparse
import dataclasses
import hashlib
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from pretrain.costs.footprint_plot import memory_against_time
from results.figures.artifacts import losses_by_method
from results.figures.plots import decoder_curves
from results.record.files import write_atomically
from results.record.labels import EM_DASH, STEP_METHODS, label
from results.record.run_record import FILE_NAME, RunRecord
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.writers import to_markdown

MEASURED = "results/measured"
PAGES = ("README.md", "docs/pages/*.md", f"{MEASURED}/README.md")
DRAWN_FROM = "Drawn from"  # in each picture, beside the digest of its sources
_REGION = re.compile(r"(<!-- begin: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


PICTURES = {  # what each is drawn from
    "footprint_resnet50_cpu.png": "footprint_resnet50_cpu.json",
    "footprint_presnet50_cpu.png": "footprint_presnet50_cpu.json",
    "demo_losses.png": "demo/pretrain_*/*",
}


def stale(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Each page and picture that is not what the measurements say, and what it should be."""
    measured = root / MEASURED
    for page in (page for pattern in PAGES for page in sorted(root.glob(pattern))):
        text = page.read_text()
        if (fresh := with_tables(text, measured)) != text:
            yield page, fresh.encode()
    for name, sources in PICTURES.items():
        files = sorted(measured.glob(sources))
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(measured).as_posix()}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        if not (measured / name).is_file() or drawn_from(measured / name) != digest.hexdigest():
            png, said = io.BytesIO(), {DRAWN_FROM: digest.hexdigest()}
            drawn(files).savefig(png, format="png", dpi=110, metadata=said)
            yield measured / name, png.getvalue()


def drawn_from(picture: Path) -> str | None:
    """The digest that a picture carries; its pixels change with matplotlib's version."""
    with Image.open(io.BytesIO(picture.read_bytes()), formats=("PNG",)) as image:
        return image.info.get(DRAWN_FROM)


def drawn(files: Sequence[Path]) -> Figure:
    """Peak memory against time of a footprint, or the loss curves of runs."""
    if len(files) == 1:
        return memory_against_time(json.loads(files[0].read_text()))
    (frames,) = losses_by_method(load_records({file.parent for file in files})[0]).values()
    return decoder_curves(frames)


def with_tables(text: str, measured: Path) -> str:
    """A page with every table as measured; a ValueError where its marks do not fit."""
    marks = re.findall(r"<!-- (?:begin|end)\b.*?-->", text)
    if len(marks) != 2 * len(_REGION.findall(text)):
        raise ValueError(f"found the marks {' '.join(marks)}; expected `<!-- begin: WHAT -->` at a "
                         "line's end, each with its `<!-- end -->` before the next")  # fmt: skip
    return _REGION.sub(lambda found: f"{found[1]}\n{table(found[2], measured)}\n\n{found[3]}", text)


def table(what: str, measured: Path) -> str:
    """What a mark names, in Markdown."""
    source, *given = shlex.split(what)
    if not given:
        records, problems = load_records([measured / source])
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        printed = (to_markdown(table).partition("\n") for table in all_tables(records))
        return "\n".join(f"**{title[4:]}**\n{rest}" for title, _, rest in printed).strip()
    rows = at(json.loads((measured / source).read_text()), given[0])
    columns = {column.split("=")[0]: column.split("=")[-1] for column in given[1:]}
    if isinstance(rows, dict) and isinstance(next(iter(rows.values())), dict):
        rows = [
            {"": label(STEP_METHODS, name).replace("_", " "), **row} for name, row in rows.items()
        ]
        columns = {"": "", **columns}
    rows = rows if isinstance(rows, list) else [rows]
    values = [[at(row, path) for path in columns.values()] for row in rows]
    for path, column in zip(columns.values(), zip(*values, strict=True), strict=True):
        if all(value is None for value in column):
            raise ValueError(f"{source}: found no {path} in {given[0]}")
    rule = ["---:" if head else "---" for head in columns]
    lines = [list(columns), rule, *([cell(value) for value in row] for row in values)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def at(content: Any, path: str) -> Any:
    """What lies at a path like ``methods.loco.saving_ratio``; None where nothing does."""
    for key in path.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def cell(value: Any) -> str:
    """A name, or a number with at least three digits; of a list, a range."""
    if isinstance(value, list):
        return " to ".join(map(cell, value)) or "none"
    if isinstance(value, float):
        return f"{value:#.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return EM_DASH if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def take(runs: Path, folder: Path) -> None:
    """Replace a folder's records by those of `runs`, with their loss curves and nothing else."""
    records = {path.parent: RunRecord.read(path) for path in sorted(runs.glob(f"*/{FILE_NAME}"))}
    if not records:
        raise FileNotFoundError(f"found no {runs}/*/{FILE_NAME}; `bash tools/demo.sh` or "
                                "`python tools/measure.py learning` leaves them")  # fmt: skip
    odd = {text for record in records.values() for text in record.deviations}
    if folder.name == "demo" and odd:
        raise ValueError(f"the runs in {runs} do not keep to the demo: {'; '.join(sorted(odd))}")
    shutil.rmtree(folder, ignore_errors=True)
    for source, record in records.items():
        losses = {name: file for name, file in record.artifacts.items() if name == "losses"}
        backbone = record.backbone  # its path without what belongs to the machine
        if backbone:
            backbone = backbone | {"path": "/".join(Path(backbone["path"] or "").parts[-2:])}
        config = record.config.removeprefix(f"{ROOT}/")
        kept = dataclasses.replace(record, config=config, artifacts=losses, backbone=backbone)
        kept.write(folder / source.name)
        for file in losses.values():
            write_atomically(folder / source.name / file, (source / file).read_bytes())


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """The command; ``arguments`` are those after the program's name."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--take", nargs=2, metavar=("NAME", "RUNS"), help="demo or learning")
    args = parser.parse_args(arguments)
    try:
        if args.take:
            name, runs = args.take
            if args.check or name not in ("demo", "learning"):
                parser.error("expected --take demo RUNS or --take learning RUNS, without --check")
            take(Path(runs), root / MEASURED / name)
        found = list(stale(root))
        for path, content in found:
            print(f"{path.relative_to(root)} {'is stale' if args.check else 'written'}")
            if not args.check:
                write_atomically(path, content)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if args.check and found:
        sys.exit("python tools/readme.py brings them up to date")


if __name__ == "__main__":
    main()
