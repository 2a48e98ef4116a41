"""One measurement of this project, repeated on this machine.

usage: python tools/measure.py NAME --json FILE [ARGUMENTS OF THE MEASUREMENT]
Each is a module beside this one, NAME.py: ``add_arguments`` says what it takes, ``measure`` returns
what it found. ``python tools/measure.py NAME --help`` lists its arguments.
"""

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.record.environment import package_versions, processor

MEASUREMENTS = {
    "footprint": "memory, work and time of a step of every method (Tables 6 and 7)",
    "learning": "what a short pretraining learns: k-NN and linear accuracy of every method",
    "tables": "from thousands of run records to every table in every format",
    "transfer": "our frozen Mask R-CNN against mmdetection's own ResNet-50",
    "throughput": "images a second of loading and of a SimCLR step, against lightly's",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a measurement and write its report: the command, what was found, machine, versions."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="python tools/measure.py",
        description=(__doc__ or "").partition("\n")[0],
        usage="%(prog)s NAME --json FILE [ARGUMENTS OF THE MEASUREMENT]",
        epilog="; ".join(f"{name}: {what}" for name, what in MEASUREMENTS.items()),
    )
    parser.add_argument("name", metavar="NAME", choices=MEASUREMENTS, help=", ".join(MEASUREMENTS))
    name = parser.parse_args(given[:1]).name
    module = importlib.import_module(f"tools.measure.{name}")
    about = (module.__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog=f"python tools/measure.py {name}", description=about)
    parser.add_argument("--json", type=Path, required=True, help="the report")
    module.add_arguments(parser)
    args, others = parser.parse_known_args(given[1:])
    if others and not getattr(module, "PASSES_OTHERS_ON", False):
        parser.error(f"unrecognized arguments: {shlex.join(others)}")
    args.others = others
    report: dict[str, Any] = {
        "command": shlex.join(["python", "tools/measure.py", *given]),
        "machine": processor(),
        "versions": package_versions(),
    }
    found: dict[str, Any] = module.measure(args)
    for part in ("machine", "versions"):
        report[part].update(found.pop(part, {}))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report | found, indent=2) + "\n")
    print(f"wrote {args.json}")


if __name__ == "__main__":
    main()
