"""What the project survives: kills at random moments in many places, and hostile inputs.

python -m tests.reliability --json FILE
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
from tests.reliability import hostile
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
            "with_faults": sum(bool(kill.faults) for kill in of),
        }
        for name in PLACES
        if (of := [kill for kill in kills if kill.place == name])
    }


def main(arguments: Sequence[str]) -> int:
    """The command; returns 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="the report, grows as it goes on")
    parser.add_argument("--kills", type=int, default=30, help="in each place; 0: none")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--inputs", type=int, default=50000, help="hostile ones; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    report: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "tests.reliability", *arguments]),
        "git_commit": git_commit(),
        "machine": processor(),
        "versions": package_versions(),
    }

    def write(**parts: Any) -> None:
        report.update(parts)
        write_atomically(args.json, (json.dumps(report, indent=1) + "\n").encode())

    def write_kills(kills: Sequence[Kill]) -> None:
        write(places=summary(kills), kills=[asdict(kill) for kill in kills])

    faults = 0
    if args.kills:
        base = Path(tempfile.mkdtemp(prefix="reliability-"))  # kept: runs with faults lie there
        kills = campaign(base, args.kills, args.seed, args.places, write_kills)
        faults += sum(bool(kill.faults) for kill in kills)
        print(f"{len(kills)} kills, {faults} with faults, in {base}")
    if args.inputs:
        found = hostile.campaign(args.inputs, args.seed)
        write(hostile_inputs=found)
        bad = {kind: len(found[kind]) for kind in ("crashes", "hangs", "unexplained")}
        faults += sum(bad.values())
        print(f"{found['inputs']} hostile inputs: {bad}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
