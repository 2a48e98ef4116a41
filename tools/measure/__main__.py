"""One measurement of this project, repeated on this machine.

usage: python tools/measure.py NAME --json FILE [ARGUMENTS OF THE MEASUREMENT]
Each is a module beside this one, NAME.py, with a ``main`` that takes the arguments behind
the name; ``python tools/measure.py NAME --help`` lists them.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

MEASUREMENTS = {
    "footprint": "memory, work and time of a step of every method (Tables 6 and 7)",
    "learning": "what a short pretraining learns: k-NN and linear accuracy of every method",
    "tables": "from thousands of run records to every table in every format",
    "transfer": "our frozen Mask R-CNN against mmdetection's own ResNet-50",
    "throughput": "images a second of loading and of a SimCLR step, against lightly's",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand what follows the measurement's name to its module."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="python tools/measure.py",
        description=(__doc__ or "").partition("\n")[0],
        usage="%(prog)s NAME --json FILE [ARGUMENTS OF THE MEASUREMENT]",
        epilog="; ".join(f"{name}: {what}" for name, what in MEASUREMENTS.items()),
    )
    parser.add_argument("name", metavar="NAME", choices=MEASUREMENTS, help=", ".join(MEASUREMENTS))
    args = parser.parse_args(given[:1])
    importlib.import_module(f"tools.measure.{args.name}").main(given[1:])


if __name__ == "__main__":
    main()
