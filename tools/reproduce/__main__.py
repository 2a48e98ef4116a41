"""Everything that a table or figure of the paper needs: what is done, and doing the rest.

    python tools/reproduce.py table2 --plan     what it needs, how far that is, what it costs
    python tools/reproduce.py table2 --run      run what is missing here, one run after the other
    python tools/reproduce.py table2 --slurm    submit it, every job after those that it needs
    python tools/reproduce.py table2 --run --scale demo      on drawn scenes, in minutes

What is finished is never run again, a run that was broken off goes on from its last checkpoint, and
what another call is running is left to it. DIR is relative to the folder you are in; without it all
lies in the repository, and all paths shown are relative to its root.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pretrain.engine.refresh import VARIABLE, refresh_tables
from results.plan.demo_tables import DEMO
from results.plan.gpu_hours import gpu_hours, measured_reports
from results.plan.paper_tables import PAPER
from results.plan.run import TRAINERS, Run, in_order
from results.record.run_record import RunRecord
from tools.reproduce import slurm
from tools.reproduce.here import end_when_asked, run_missing
from tools.reproduce.state import Place, look
from tools.setup.machine import ROOT

PLANS = {"paper": PAPER, "demo": DEMO}
FOLDERS = {
    "paper": Place("work_dirs", "data"),
    "demo": Place("demo_out/runs", "demo_out/data"),  # tools/demo.py's own
}


def runs_of(tables: Sequence[str], scale: str) -> tuple[Run, ...]:
    """All runs of some tables, needs first.

    Raises:
        ValueError: nothing of a name is planned at that scale; what is, is listed.
    """
    plans = PLANS[scale]
    if unknown := [table for table in tables if table not in plans]:
        raise ValueError(
            f"no plan for {', '.join(unknown)} at scale {scale}; there are plans for: "
            f"{', '.join(plans)}"
        )
    return in_order(run for table in tables for run in plans[table])


def print_plan(runs: Sequence[Run], place: Place) -> None:
    """Every run with its state, GPU-hours and needs, then the sums."""
    reports = measured_reports()
    states = {run.name: shown_state(run, place) for run in runs}
    width = max(map(len, states))
    print(f"{'state':9} {'run':{width}} {'kind':9} {'GPU-hours':>15}  needs; config")
    for run in runs:
        cost = cost_of(run, place, states[run.name], reports)
        needs = ", ".join(need.name for need in run.needs) or "nothing"
        what = " = ".join((run.config, *run.also)) if run.config else place.shown(run)
        print(f"{states[run.name]:9} {run.name:{width}} {run.kind:9} {cost:>15}  {needs}; {what}")
    print(f"{len(runs)} runs: {counted(states)}")
    print_faults(runs, place)
    to_do = [run for run in runs if run.kind in TRAINERS and states[run.name] != "done"]
    hours = [gpu_hours(run, reports) for run in to_do]
    measured = f"{sum(filter(None, hours)):,.0f} GPU-hours, training steps alone"
    unknown = hours.count(None)
    more = f", and {unknown} runs whose cost is not measured" if unknown else ""
    print(f"to do: {measured}, by results/measured{more}")


def counted(states: Mapping[str, str]) -> str:
    """How many runs are in each state."""
    return ", ".join(f"{n} {name}" for name, n in sorted(Counter(states.values()).items()))


def print_faults(runs: Sequence[Run], place: Place) -> None:
    """The runs whose folders need a hand, with what was found there and how to repair it."""
    for run in runs:
        if told := look(run, place)[1]:
            print(f"{run.name}: {told}")


def shown_state(run: Run, place: Place) -> str:
    """As :func:`look` says, or queued, or failed, where it was given to Slurm."""
    found, _ = look(run, place)
    if found != "missing" or not (place.folder(run) / slurm.JOB).is_file():
        return found
    return "queued" if slurm.queued_job(place.folder(run)) else "failed"


def cost_of(run: Run, place: Place, found: str, reports: Sequence[dict[str, Any]]) -> str:
    """What it took, if it is done; else what it will take, where that was measured."""
    if run.kind not in TRAINERS:
        return "none"
    if found == "done":
        record = RunRecord.read(place.result(run))
        hours = record.wall_time_s * record.world_size / 3600
        return f"took {hours:.2f}" if record.hardware.get("gpus") else f"CPU {hours:.2f} h"
    estimate = gpu_hours(run, reports)
    return "not measured" if estimate is None else f"{estimate:,.0f}"


def from_root(folder: str | None) -> str | None:
    """A folder as the caller names it, as it is called in the repository's root."""
    return folder if not folder or os.path.isabs(folder) else os.path.relpath(folder, ROOT)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python tools/reproduce.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE", help=", ".join(PAPER))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="print it (what is done by default)")
    what.add_argument("--run", action="store_true", help="run what is missing, here")
    what.add_argument("--slurm", action="store_true", help="submit what is missing; see below")
    parser.add_argument("--scale", choices=PLANS, default="paper")
    parser.add_argument("--runs", metavar="DIR", help="folder of the runs: work_dirs")
    parser.add_argument("--data", metavar="DIR", help="holds imagenet/, coco/, cityscapes/: data")
    parser.add_argument("--processes", type=int, metavar="N", help="of a training; every GPU, or 1")
    _, _, variables = (slurm.__doc__ or "").partition("\n\n")
    parser.epilog = f"--slurm reads from the environment:\n{variables}"
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 1 where a run failed, 2 where the input is at fault."""
    args = parse(arguments)
    usual = FOLDERS[args.scale]
    place = Place(from_root(args.runs) or usual.runs, from_root(args.data) or usual.data)
    os.chdir(ROOT)
    try:
        runs = runs_of(args.tables, args.scale)
        if args.slurm:
            for name, outcome in slurm.submit_missing(runs, place).items():
                print(f"{name}: {outcome}")
            return 0
        if not args.run:
            print_plan(runs, place)
            return 0
        end_when_asked()
        refresh = os.environ.get(VARIABLE, "1")
        os.environ[VARIABLE] = "0" if args.scale == "demo" else refresh  # its runs are too short
        states = run_missing(runs, place, lambda run: place.command(run, args.processes))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for run in runs:
        if states[run.name] == "skipped":
            absent = [need.name for need in run.needs if states[need.name] != "done"]
            print(f"{run.name}: skipped, it needs {', '.join(absent)}")
    print_faults(runs, place)
    print(counted(states))
    os.environ[VARIABLE] = refresh
    refresh_tables(place.folder(runs[-1]))
    return 0 if set(states.values()) == {"done"} else 1


if __name__ == "__main__":
    sys.exit(main())
