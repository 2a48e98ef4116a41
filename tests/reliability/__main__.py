"""What the project survives: kills at random moments in many places, and inputs that are hostile.

Kills are tests/reliability/kills.py's, inputs tests/reliability/inputs.py's.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results.record.environment import git_commit, package_versions, processor
from results.record.files import write_atomically
from tests.reliability import inputs as hostile_inputs
from tests.reliability.kills import Kill, campaign
from tests.reliability.places import PLACES


def summary(kills: Sequence[Kill]) -> dict[str, Any]:
    """Counts of the kills, by place."""
    return {
        name: {
            "kills": len(of),
            "signals": dict(Counter(kill.signal for kill in of)),
            "phases": dict(Counter(kill.phase for kill in of)),
            "statuses": dict(Counter(str(kill.status) for kill in of)),
            "whole_files_read_after_kills": sum(kill.whole_files for kill in of),
            "half_written_and_left_at_the_end": sum(kill.left_at_the_end for kill in of),
            "with_faults": sum(bool(kill.faults) for kill in of),
        }
        for name in PLACES
        if (of := [kill for kill in kills if kill.place == name])
    }


def table(places: dict[str, Any]) -> str:
    """The summary as Markdown."""
    lines = ["| place | kills | SIGTERM | while writing | with faults |",
             "| --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for name, of in places.items():
        term, writing = of["signals"].get("SIGTERM", 0), of["phases"].get("writing", 0)
        lines.append(f"| {name} | {of['kills']} | {term} | {writing} | {of['with_faults']} |")
    total = sum(of["kills"] for of in places.values())
    return "\n".join([*lines, f"{total} kills"])


def as_text(report: dict[str, Any]) -> str:
    """JSON with a line for every kill."""
    lines = ",\n".join(f"    {json.dumps(kill)}" for kill in report.get("kills", []))
    whole = json.dumps(report | {"kills": []}, indent=2)
    return whole.replace('"kills": []', f'"kills": [\n{lines}\n  ]') + "\n"


def main(arguments: Sequence[str]) -> None:
    """The measurement; ``arguments`` are those after its name."""
    parser = argparse.ArgumentParser(
        prog="python tests.reliability", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--json", type=Path, required=True, help="the report, grows as it goes on")
    parser.add_argument("--kills", type=int, default=30, help="in each place; 0: none")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--inputs", type=int, default=10000, help="hostile ones; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for inputs and runs; a temporary one")
    args = parser.parse_args(arguments)
    where = ["--folder", str(args.folder)] if args.folder else []
    report: dict[str, Any] = {
        "command": shlex.join(
            ["python", "-m", "tests.reliability"]
            + [word for word in arguments if word not in where]
        ),
        "git_commit": git_commit(),
        "machine": processor(),
        "versions": package_versions(),
    }

    def write(**parts: Any) -> None:
        report.update(parts)
        write_atomically(args.json, as_text(report).encode())

    def write_kills(kills: Sequence[Kill]) -> None:
        write(places=summary(kills), kills=[asdict(kill) for kill in kills])

    with tempfile.TemporaryDirectory(prefix="reliability_") as folder:
        base = (args.folder or Path(folder)).resolve()
        if args.kills:
            write_kills(campaign(base, args.kills, args.seed, args.places, write_kills))
            print(table(report["places"]))
    if args.inputs:
        found = hostile_inputs.run(args.inputs, args.seed)
        write(hostile_inputs=found)
        bad = {name: len(found[name]) for name in ("crashes", "hangs", "unexplained")}
        print(f"{found['inputs']} hostile inputs, " + ", ".join(f"{n} {k}" for k, n in bad.items()))
    print(f"wrote {args.json}")


if __name__ == "__main__":
    main(sys.argv[1:])
