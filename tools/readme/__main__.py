"""README's tables, figures and pictures, from what was measured and stored in results/measured.

usage: python tools/readme.py                  rewrite what is stale
       python tools/readme.py --check          name what is stale; ends with 1 if anything is
       python tools/readme.py --take demo demo_out/runs
                                               take over the records of new runs, then rewrite
Between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->`` stands the table of that name in
tables.py; pictures.py has the pictures.
"""

import argparse
import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from results.record.files import write_atomically
from results.record.run_record import FILE_NAME, RunRecord
from tools.readme.pictures import PICTURES, is_current, write
from tools.readme.tables import REGIONS

ROOT = Path(__file__).resolve().parents[2]
MEASURED = "results/measured"
PAGES = ("README.md", "docs/pages/costs.md", "docs/pages/wrong.md", f"{MEASURED}/README.md")
TAKEN = ("demo", "learning")  # folders of run records
COMMAND = "python tools/readme.py"

_REGION = re.compile(r"(<!-- begin: (\w+) -->\n)(.*?)(<!-- end: \2 -->)", re.DOTALL)


def stale(root: Path) -> Iterator[str]:
    """What would be written anew, in words."""
    for page in PAGES:
        text = (root / page).read_text()
        for _, name, found, _ in regions(text):
            if found != body(name, root):
                yield f"{page}: region {name}"
    for picture in PICTURES:
        if not is_current(picture, root / MEASURED):
            yield f"{MEASURED}/{picture.file}"


def rewrite(root: Path) -> None:
    """Bring pages and pictures up to date; those that are stay as they are."""
    for page in PAGES:
        text = (root / page).read_text()
        regions(text)
        fresh = _REGION.sub(lambda found: found[1] + body(found[2], root) + found[4], text)
        if fresh != text:
            write_atomically(root / page, fresh.encode())
    for picture in PICTURES:
        if not is_current(picture, root / MEASURED):
            write(picture, root / MEASURED)


def regions(text: str) -> list[tuple[str, str, str, str]]:
    """The regions of a page: marker, name, what stands between, marker.

    Raises:
        ValueError: a marker has no other, or names no region.
    """
    found = _REGION.findall(text)
    markers = re.findall(r"<!-- (begin|end): *(\S*) -->", text)
    if markers != [(which, name) for _, name, _, _ in found for which in ("begin", "end")]:
        raise ValueError(
            f"found the markers {', '.join(' '.join(marker) for marker in markers)}; expected each "
            "`<!-- begin: NAME -->` at a line's end with its `<!-- end: NAME -->` right after it"
        )
    if unknown := {name for _, name, _, _ in found} - REGIONS.keys():
        raise ValueError(
            f"no region is called {', '.join(sorted(unknown))}; there are {', '.join(REGIONS)}"
        )
    return found


def body(name: str, root: Path) -> str:
    """What has to stand in a region."""
    return f"\n{REGIONS[name](root / MEASURED)}\n\n"


def take(runs: Path, folder: Path) -> None:
    """Replace a folder of records by those of `runs`, with their loss curves and nothing else.

    Raises:
        FileNotFoundError: no run has finished there.
        ValueError: a record cannot be read, or one of the demo's deviates from it.
    """
    records = {path.parent: RunRecord.read(path) for path in sorted(runs.glob(f"*/{FILE_NAME}"))}
    if not records:
        raise FileNotFoundError(
            f"found no {runs}/*/{FILE_NAME}; expected the runs of `bash tools/demo.sh` or of "
            "`python tools/measure.py learning`"
        )
    odd = {text for record in records.values() for text in record.deviations}
    if folder.name == "demo" and odd:
        raise ValueError(f"the runs in {runs} do not keep to the demo: {'; '.join(sorted(odd))}")
    shutil.rmtree(folder, ignore_errors=True)
    for source, record in records.items():
        losses = {name: file for name, file in record.artifacts.items() if name == "losses"}
        backbone = record.backbone
        if backbone:
            backbone = backbone | {"path": _below(backbone["path"] or "")}
        config = record.config.removeprefix(f"{ROOT}/")
        kept = dataclasses.replace(record, config=config, artifacts=losses, backbone=backbone)
        kept.write(folder / source.name)
        for file in losses.values():
            write_atomically(folder / source.name / file, (source / file).read_bytes())


def _below(path: str) -> str:
    """The file and its run's folder: the rest belongs to the machine."""
    return "/".join(Path(path).parts[-2:])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; ``arguments`` are those after the program's name."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument(
        "--take", nargs=2, metavar=("NAME", "RUNS"), help=f"NAME: {' or '.join(TAKEN)}"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    args = parser.parse_args(arguments)
    try:
        if args.take:
            name, runs = args.take
            if args.check or name not in TAKEN:
                parser.error(f"--take {' or '.join(TAKEN)} FOLDER, without --check")
            take(Path(runs), args.root / MEASURED / name)
        found = list(stale(args.root))
        if not args.check:
            rewrite(args.root)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for what in found:
        print(f"{what} {'is stale' if args.check else 'written'}")
    if args.check and found:
        sys.exit(f"{COMMAND} brings them up to date")


if __name__ == "__main__":
    main()
