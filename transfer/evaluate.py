"""``tools/dist_test.sh CONFIG CHECKPOINT``: the figures of a stored detector -> evaluation.json.

The validation that ends a training, done again: the same images, metric and code, so the same
figures to the last bit. The names that ``--cfg-options`` may set are those of the training; of them
``backbone_file`` and ``data_root`` matter here.
"""

import argparse
import dataclasses
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from pretrain.engine.atomic_files import AtomicRunner
from pretrain.engine.documented_names import check
from pretrain.engine.launch import load_config, named_faults
from pretrain.engine.loaders import guard_workers
from pretrain.engine.options import Options
from pretrain.engine.processes import join_processes, speaks
from pretrain.engine.run_folder import last_checkpoint
from pretrain.engine.same_config import is_hash_of
from pretrain.engine.train_loop import model_of
from results.record.environment import git_commit, package_versions, processor
from results.record.files import sha256_file, write_atomically
from results.record.protocol import incomplete
from results.record.run_record import FILE_NAME, RunRecord
from transfer.data.dataset_check import DatasetSummary
from transfer.hooks import PER_CATEGORY, evaluated_images, short_names
from transfer.metrics import CocoAP
from transfer.stored_detector import check_config, load_weights
from transfer.train import NAMES, check_dataset, prepare_backbone

TRAINING = (
    "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "test_dataloader",
    "test_cfg", "test_evaluator", "load_from",
)  # fmt: skip


def prepare(cfg: Config) -> DatasetSummary:
    """Leave of a config what a validation needs, and check its inputs.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, what to do.
    """
    for name in TRAINING:
        cfg[name] = None
    check(cfg, NAMES)
    prepare_backbone(cfg)
    dataset = cfg.val_dataloader.dataset
    summary = check_dataset(cfg, dataset)
    cfg.val_evaluator.ann_file = str(summary.annotation_file)
    cfg.default_hooks.checkpoint = None
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type == "DetectionPictures"]
    cfg.randomness = {"seed": cfg.seed}
    guard_workers(cfg.val_dataloader)
    return summary


def evaluate(cfg: Config, path: Path) -> tuple[dict[str, float], CocoAP]:
    """Validate a checkpoint.

    Args:
        cfg: after :func:`prepare`.
        path: of the checkpoint.

    Returns:
        The metrics in percent, under the run record's names; and what gave them, which knows, on
        the main process, those of every category and how many images there were.

    Raises:
        ValueError: from :func:`transfer.stored_detector.load_weights`.
    """
    runner = AtomicRunner.from_cfg(cfg)
    load_weights(model_of(runner), path)
    metrics = short_names(runner.val())
    return metrics, runner.val_loop.evaluator.metrics[0]


def update_record(
    path: Path,
    meta: dict[str, Any],
    metrics: dict[str, float],
    per_category: dict[str, Any],
    evaluated: dict[str, int] | None = None,
) -> Path:
    """Put the figures of a run's last checkpoint into the record beside it.

    Args:
        path: of the checkpoint.
        meta: what it says of its run.
        metrics: in percent.
        per_category: see :class:`transfer.metrics.CocoAP`.
        evaluated: from :func:`transfer.hooks.evaluated_images`; None: as many as the record says.

    Raises:
        FileNotFoundError: there is no record.
        ValueError: the record is of another run, or the checkpoint is not its last.
    """
    folder = path.parent
    if not (folder / FILE_NAME).is_file():
        raise FileNotFoundError(f"--record: {folder} has no {FILE_NAME}; the run has not finished")
    record = RunRecord.read(folder / FILE_NAME)
    last = last_checkpoint(folder)
    if not is_hash_of(record.config_hash, meta["config_text"]):
        raise ValueError(f"--record: {folder / FILE_NAME} is of another run than {path.name}")
    if last is None or path.name != last.name:
        raise ValueError(
            f"--record: a record has the figures of the end of its run; evaluate {last}"
        )
    write_atomically(folder / PER_CATEGORY, json.dumps(per_category, indent=2).encode())
    then = {"evaluated": record.evaluated_images, "expected": record.expected_images}
    now = evaluated or then
    kept = (text for text in record.deviations if text not in incomplete(**then))
    return dataclasses.replace(
        record,
        metrics=metrics,
        artifacts=record.artifacts | {"per_category": PER_CATEGORY},
        deviations=(*kept, *incomplete(**now)),
        evaluated_images=now["evaluated"],
        expected_images=now["expected"],
    ).write(folder)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; ends with status 1 and one line where the user is at fault."""
    args = _parser().parse_args(arguments)
    path = Path(args.checkpoint)
    args.work_dir = args.work_dir or str(path.parent / f"evaluation_{path.stem}")
    begun = time.monotonic()
    try:
        cfg = load_config(args, NAMES)
        watchdog = join_processes(args.launcher)
        with named_faults(watchdog):
            summary = prepare(cfg)
            meta = check_config(path, cfg)
            metrics, metric = evaluate(cfg, path)
        if not is_main_process():
            return
        evaluated = evaluated_images(cfg, metric)
        evaluation = {
            "checkpoint": str(path),
            "checkpoint_sha256": sha256_file(path),
            "iterations": meta["iter"],
            "config": cfg.config_file,
            "method": cfg.method,
            "encoder": cfg.model.backbone.encoder,
            "backbone_sha256": cfg.get("backbone_sha256"),
            "annotations": str(summary.annotation_file),
            "annotations_sha256": summary.fingerprint,
            "images": evaluated["evaluated"],
            "expected_images": evaluated["expected"],
            "metrics": metrics,
            "per_category": metric.per_category,
            "world_size": watchdog.world_size,
            "hardware": processor(),
            "versions": package_versions(),
            "git_commit": git_commit(),
            "wall_time_s": round(time.monotonic() - begun, 1),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        target = Path(cfg.work_dir) / "evaluation.json"
        write_atomically(target, (json.dumps(evaluation, indent=2) + "\n").encode())
        print(f"wrote {target}", flush=True)
        if args.record:
            record = update_record(path, meta, metrics, metric.per_category, evaluated)
            print(f"updated {record}", flush=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}" if speaks(error) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Evaluate a stored detector.")
    parser.add_argument("config", help="config file that the detector was trained with")
    parser.add_argument("checkpoint", help="epoch_N.pth, iter_N.pth or best_*.pth of its run")
    parser.add_argument(
        "--work-dir", help="what is written; default: evaluation_CHECKPOINT beside the checkpoint"
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="also put the figures into the record of the run that the checkpoint lies in",
    )
    parser.add_argument("--cfg-options", nargs="+", action=Options, metavar="NAME=VALUE")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.set_defaults(resume=None)
    return parser


if __name__ == "__main__":
    main()
