"""What a planned run costs, from what this project has measured on GPUs; nothing is guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from importlib import resources
from typing import Any

from results.plan.run import Run

IMAGENET = 1_281_167  # images
COCO_1X = 12 * 118_287  # images of mmdetection's 1x schedule
VIEWS = 2  # of each photograph: a footprint report counts images that enter the encoder


def measured_reports() -> list[dict[str, Any]]:
    """The reports in results/measured that were taken on a GPU."""
    folder = resources.files("results").joinpath("measured")
    files = [file for file in sorted(folder.iterdir(), key=str) if file.name.endswith(".json")]
    reports = [json.loads(file.read_text()) for file in files]
    return [one for report in reports for one in report.get("reports", [report]) if _gpu(one)]


def gpu_hours(run: Run, reports: Iterable[dict[str, Any]]) -> float | None:
    """Hours of one GPU, of the training steps alone; None: not measured.

    Known are the pretrainings of configs/pretrain/ and the frozen ResNet-50 on COCO.
    """
    pretraining = run.kind == "pretrain" and run.config.startswith("configs/pretrain/")
    frozen = run.encoder == "resnet50" and run.config.endswith("_frozen.py")
    for report in reports:
        stated = tuple(map(report.get, ("encoder", "image_size", "precision")))
        if pretraining and run.epochs and stated == (run.encoder, 224, "float32"):
            seconds = report["methods"].get(run.method, {}).get("step_seconds", math.nan)
            photographs = report["measured_batch_size"] / VIEWS
            hours = float(run.epochs * IMAGENET / photographs * seconds / 3600)
            if not math.isnan(hours):
                return hours
        if frozen and report.get("scale") == [1333, 800] and "detectors" in report:
            seconds = report["detectors"]["ours"]["iteration_seconds"]
            return float(COCO_1X / report["batch_size"] * seconds / 3600)
    return None


def _gpu(report: dict[str, Any]) -> bool:
    machine = report.get("machine", {})
    return "gpu" in machine or str(machine.get("device", "")).startswith("cuda")
