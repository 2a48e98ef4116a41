"""The footprint of ResNet-50 and PResNet-50, with real steps (Tables 6 and 7).

On a GPU: batch 256, in float32 and in bfloat16. On a CPU: float32, batch 64 counted and steps of
batch 8 measured.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tools.setup.machine import ROOT

ENCODERS = ("resnet50", "presnet50")


def settings(cuda: bool) -> list[list[str]]:
    """Arguments of :mod:`pretrain.costs.footprint` for every run of one encoder."""
    if not cuda:
        return [["--batch-size", "64", "--measure-batch-size", "8"]]
    return [["--batch-size", "256", "--precision", name] for name in ("float32", "bfloat16")]


def footprint(arguments: Sequence[str]) -> dict[str, Any]:
    """The report of one run, which is a process of its own: no run finds another's memory taken.

    Raises:
        subprocess.CalledProcessError: the run failed; what it printed stands above.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "footprint.json"
        command = [sys.executable, "-m", "pretrain.footprint", *arguments, "--measure"]
        subprocess.run([*command, "--json", str(file)], cwd=ROOT, check=True)
        report: dict[str, Any] = json.loads(file.read_text())
    return report


PASSES_OTHERS_ON = True  # to every run of python -m pretrain.footprint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this measurement."""
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, metavar="ENCODER")
    parser.epilog = "All other arguments go to every run of python -m pretrain.footprint."


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The reports of all runs."""
    reports = []
    for encoder in args.encoders:
        for setting in settings(torch.cuda.is_available()):
            try:
                reports.append(footprint(["--encoder", encoder, *setting, *args.others]))
            except subprocess.CalledProcessError as error:
                sys.exit(f"error: this run failed, see above: {shlex.join(error.cmd)}")
    first = reports[0]
    return {"machine": first["machine"], "versions": first["versions"], "reports": reports}
