"""What a short pretraining learns: SimCLR, GIM and LoCo on the same images for as many epochs.

Every method is pretrained, then read out by k-NN and a linear classifier, beside random weights.
A measurement that was broken off continues where it was.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from results.record.run_record import FILE_NAME, RunRecord
from tools.setup.machine import ROOT

METHODS = ("simclr", "gim", "loco")
ENCODER = "resnet50_small_images" if torch.cuda.is_available() else "resnet_tiny_small_images"


def run(module: str, *arguments: str | Path) -> None:
    """Start one of the project's commands and wait for it; end with it where it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    print(f"+ {shlex.join(command[1:])}", flush=True)
    if status := subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"error: this ended with status {status}, see above: {shlex.join(command)}")


def pretrain(method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Pretrain; gives the losses of every unit, first and last logged, and the seconds it took."""
    folder = args.work_dir / method
    options = [
        f"data_root={args.images / 'train'}", f"model.encoder={args.encoder}",
        f"epochs={args.epochs}", f"warmup_epochs={args.warmup_epochs}",
        f"global_batch_size={args.batch_size}", f"base_lr={args.base_lr}",
        f"train_dataloader.num_workers={args.workers}", *args.cfg_options,
    ]  # fmt: skip
    if args.workers == 0:
        options.append("train_dataloader.persistent_workers=False")
    config = f"configs/pretrain/{method}_cifar10.py"
    run("pretrain.train", config, "--work-dir", folder, "--resume", "--cfg-options", *options)
    with (folder / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {
        unit: [float(row[unit]) for row in (rows[0], rows[-1])]
        for unit in rows[0]
        if unit not in ("iteration", "epoch")
    }
    record = RunRecord.read(folder / FILE_NAME)
    return {"loss_first_last": losses, "pretrain_seconds": record.wall_time_s}


def read_out(name: str, weights: Sequence[str | Path], args: argparse.Namespace) -> dict[str, Any]:
    """k-NN and linear accuracies of every stage, in percent."""
    folder = args.work_dir / f"readout_{name}"
    run(
        "pretrain.linear_probe", *weights, "--data", args.images, "--work-dir", folder, "--resume",
        "--cache-features", "--cfg-options", "image_size=32", "resize=32",
    )  # fmt: skip
    return dict(RunRecord.read(folder / FILE_NAME).metrics)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this measurement."""
    parser.add_argument(
        "--images", type=Path, default=Path("data/cifar10"), help="holds train/CLASS and val/CLASS"
    )
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--warmup-epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=512, help="photographs")
    parser.add_argument("--base-lr", type=float, default=1.0, help="for 256 images")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/learning"))
    parser.add_argument("--cfg-options", nargs="*", default=[], help="more of pretraining's")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Losses, seconds and accuracies of every method."""
    args.images, args.work_dir = args.images.resolve(), args.work_dir.resolve()
    found = {"random": {"readout": read_out("random", ["--random", args.encoder], args)}}
    for method in METHODS:
        found[method] = pretrain(method, args)
        backbone = args.work_dir / method / "backbone.safetensors"
        found[method]["readout"] = read_out(method, ["--backbone", backbone], args)
    for name, result in found.items():
        print(f"{name:8}", ", ".join(f"{k} {v:.2f}" for k, v in result["readout"].items()))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    told = {"encoder": args.encoder, "epochs": args.epochs, "batch_size": args.batch_size}
    return {**told, "methods": found, "machine": {"gpu": gpu}}
