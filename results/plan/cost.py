"""What a planned run costs, from what this project has measured on GPUs; nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

from results.plan.planned_run import Run

IMAGENET = 1_281_167  # images
COCO_1X = 12 * 118_287  # images of mmdetection's 1x schedule
VIEWS = 2  # of each photograph: a footprint report counts images that enter the encoder


def measured_reports() -> list[dict[str, Any]]:
    """The reports in results/measured that were taken on a GPU."""
    found: list[dict[str, Any]] = []
    for file in sorted(resources.files("results").joinpath("measured").iterdir(), key=str):
        if file.name.endswith(".json"):
            found += _on_gpu(json.loads(file.read_text()))
    return found


def gpu_hours(run: Run, reports: Iterable[dict[str, Any]]) -> tuple[float, str] | None:
    """Hours of one GPU, and which, of the training steps alone; None: not measured.

    Known are the pretrainings of configs/pretrain/ and the frozen ResNet-50 on COCO.
    """
    for report in reports:
        device = str(report["machine"].get("gpu") or report["machine"].get("device"))
        if run.kind == "pretrain" and run.config.startswith("configs/pretrain/"):
            seconds = _step_seconds(run, report)
            if seconds is not None and run.epochs is not None:
                photographs = report["measured_batch_size"] / VIEWS
                return run.epochs * IMAGENET / photographs * seconds / 3600, device
        stated = (run.encoder, run.config.endswith("_frozen.py"), report.get("scale"))
        if stated == ("resnet50", True, [1333, 800]) and "detectors" in report:
            seconds = report["detectors"]["ours"]["iteration_seconds"]
            return COCO_1X / report["batch_size"] * seconds / 3600, device
    return None


def _on_gpu(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The report, or those that it is made of, if a GPU took the times."""
    for one in report.get("reports", [report]):
        machine = one.get("machine", {})
        if "gpu" in machine or str(machine.get("device", "")).startswith("cuda"):
            yield one


def _step_seconds(run: Run, report: dict[str, Any]) -> float | None:
    """Of the run's method and encoder at 224 px in float32, as the paper's configs have it."""
    stated = (report.get("encoder"), report.get("image_size"), report.get("precision"))
    if stated != (run.encoder, 224, "float32"):
        return None
    seconds = report["methods"].get(run.method, {}).get("step_seconds")
    return None if seconds is None else float(seconds)
