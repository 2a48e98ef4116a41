"""What local learning costs and saves: Tables 6 and 7, counted for any batch, measured on request.

    python -m pretrain.footprint --encoder resnet50 --batch-size 64 --image-size 224 --json FILE

Nothing is allocated unless ``--measure`` is given.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pretrain.costs.architecture import architecture
from pretrain.costs.footprint_plot import memory_against_time
from pretrain.costs.footprint_table import table
from pretrain.costs.stage_costs import stage_costs
from pretrain.costs.step_cost import (
    STEPS,
    Workload,
    best_recomputation,
    count_step,
    decoder_macs,
    work_parts,
)
from pretrain.costs.step_time import StepTime, measure_steps
from pretrain.encoders import ENCODERS
from results.record.environment import package_versions, processor

# Multiply-adds of a step that recomputes, over those of SimCLR's step. The time ratio is higher by
# what norms and activations take, which recomputation repeats too.
WORK_BUDGET = 1.4
WORK_BUDGETS = {"presnet50": 1.65}  # six balanced stages give more back for more work


def stage_report(work: Workload) -> dict[str, Any]:
    """``flops_g`` and ``stages`` of the report: Table 6's columns and what is really kept."""
    costs = stage_costs(work.encoder, work.local_batch_size, work.image_size)
    memory = percent([cost.elements for cost in costs])
    flops = percent([cost.macs for cost in costs])
    saved = percent([cost.saved_bytes for cost in costs])
    return {
        "flops_g": round(sum(cost.macs for cost in costs) / 1e9, 4),
        "stages": [
            {
                "name": cost.name,
                "memory_percent": round(memory[k], 3),
                "flops_percent": round(flops[k], 3),
                "kept_percent": round(saved[k], 3),
                "kept_mib": round(cost.saved_bytes / 2**20, 2),
            }
            for k, cost in enumerate(costs)
        ],
    }


def percent(parts: Sequence[int]) -> list[float]:
    """Shares of the sum, in percent."""
    return [100 * part / sum(parts) for part in parts]


def method_report(
    work: Workload, budget: float, recompute: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """``methods`` of the report, times not yet filled in.

    Args:
        work: the workload.
        budget: multiply-adds that a step with recomputation may take, over SimCLR's.
        recompute: stages that are recomputed, whatever the budget, instead of the best set.
    """
    begun = time.monotonic()
    simclr = count_step(work, STEPS["simclr"])
    report: dict[str, dict[str, Any]] = {}
    for place, (name, method) in enumerate(STEPS.items(), start=1):
        words = f"{work.encoder}: counting {name} (method {place} of {len(STEPS)})"
        progress(words, begun)
        if method.recomputes and not recompute:
            count = best_recomputation(
                work, method, budget * simclr.macs, steps_of(words, time.monotonic())
            )
        else:
            count = count_step(work, method, recompute if method.recomputes else ())
        parts = work_parts(count, decoder_macs(work, method))
        report[name] = {
            "peak_memory_mib": round(count.peak_memory_mib, 1),
            "saving_ratio": round(simclr.peak_bytes / count.peak_bytes, 4),
            "step_seconds": None,
            "step_ratio": None,
            "setting": "recompute " + (",".join(count.recompute) or "nothing")
            if method.recomputes
            else ("forward once a unit, one backward" if method.naive else "no recomputation"),
            "work_ratio": round(count.macs / simclr.macs, 4),
            "work_parts": {part: round(macs / simclr.macs, 4) for part, macs in parts.items()},
            "max_memory_allocated_mib": None,
        }
    return report


def progress(words: str, begun: float) -> None:
    """Say on stderr what is done now, with the seconds since ``begun``."""
    print(f"{words}, {time.monotonic() - begun:.0f} s so far", file=sys.stderr, flush=True)


def steps_of(words: str, begun: float) -> Callable[[int, int], None]:
    """A listener to :func:`best_recomputation`, which says what is done and what is left."""

    def tell(done: int, wanted: int) -> None:
        left_s = (time.monotonic() - begun) / done * (wanted - done)
        progress(f"{words}: step {done} of {wanted}, about {left_s:.0f} s left", begun)

    return tell


def recomputed_stages(method: dict[str, Any]) -> tuple[str, ...]:
    """The stages that a method's ``setting`` names."""
    _, found, stages = method["setting"].partition("recompute ")
    return tuple(stages.split(",")) if found and stages != "nothing" else ()


def add_times(methods: dict[str, dict[str, Any]], times: dict[str, StepTime]) -> None:
    """Fill in what was measured; ratios are to SimCLR's in the same run."""
    for name, found in times.items():
        methods[name]["step_seconds"] = round(found.seconds, 4)
        methods[name]["step_ratio"] = round(found.seconds / times["simclr"].seconds, 4)
        if found.allocated_mib is not None:
            methods[name]["max_memory_allocated_mib"] = round(found.allocated_mib, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; ``arguments`` are those after the program's name."""
    parser = argparse.ArgumentParser(prog="python -m pretrain.footprint", description=__doc__)
    parser.add_argument("--encoder", required=True, choices=list(ENCODERS))
    parser.add_argument(
        "--batch-size", type=int, default=64,
        help="images that enter the encoder in one step, over all processes: twice the "
        "photographs, that is twice the batch size of a training config",
    )  # fmt: skip
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--world-size", type=int, default=1, help="processes that share the batch")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--work-budget", type=float,
        help=f"multiply-adds of a step with recomputation over SimCLR's ({WORK_BUDGET}, presnet50: "
        f"{WORK_BUDGETS['presnet50']})",
    )  # fmt: skip
    parser.add_argument(
        "--recompute", default="", metavar="STAGE,STAGE",
        help="what to recompute; by default the best set within the budget is searched for, which "
        "takes a minute for six stages",
    )  # fmt: skip
    parser.add_argument("--measure", action="store_true", help="take real steps too")
    parser.add_argument(
        "--measure-batch-size", type=int,
        help="images in a measured step (8; on a GPU the batch of one process)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, help="measured steps of each method")
    parser.add_argument("--json", type=Path, required=True, help="the report")
    parser.add_argument("--plot", type=Path, help="a PNG of memory against time; needs --measure")
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = parser.parse_args(given)
    if args.plot and not args.measure:
        parser.error("--plot shows step times: add --measure")
    try:
        work = Workload(
            args.encoder, args.batch_size, args.image_size, args.world_size, args.precision
        )
        progress(f"{args.encoder}: counting the stages", time.monotonic())
        stages = stage_report(work)
        budget = args.work_budget or WORK_BUDGETS.get(args.encoder, WORK_BUDGET)
        methods = method_report(work, budget, [name for name in args.recompute.split(",") if name])
    except ValueError as error:
        parser.error(str(error))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured_batch = None
    if args.measure:
        default = work.local_batch_size if device.type == "cuda" else 8
        measured_batch = args.measure_batch_size or default
        steps = Workload(args.encoder, measured_batch, args.image_size, precision=args.precision)
        settings = {name: recomputed_stages(method) for name, method in methods.items()}
        add_times(methods, measure_steps(steps, settings, args.repeats, device))
    machine: dict[str, Any] = {**processor(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    report = {
        "command": shlex.join(["python", "-m", "pretrain.footprint", *given]),
        "encoder": args.encoder,
        "batch_size": args.batch_size,
        "image_size": args.image_size,
        "world_size": args.world_size,
        "precision": args.precision,
        "measured_batch_size": measured_batch,
        **stages,
        "architecture": architecture(args.encoder, args.image_size),
        "methods": methods,
        "machine": machine,
        "versions": package_versions(),
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))
    if args.plot:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        memory_against_time(report).savefig(args.plot, dpi=150)


if __name__ == "__main__":
    main()
