"""What the two trainers share around mmengine's Runner: arguments, work folder, start."""

import argparse
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.dist import init_dist, is_main_process
from mmengine.runner import Runner

from results.record import FILE_NAME, RunRecord

# Where and how a run is carried out, not what is run: left out of the config's hash.
CIRCUMSTANCES = ("work_dir", "launcher", "resume", "load_from", "log_level", "config_file")


def parse_args(description: str) -> argparse.Namespace:
    """The command line of ``tools/pretrain.sh`` and ``tools/dist_train.sh``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of the run; default: work_dirs/NAME_OF_CONFIG")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in the work folder, if there is one"
    )
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="NAME=VALUE")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    return parser.parse_args()


def main(description: str, prepare: Callable[[Config, int], None]) -> None:
    """Read the config, prepare it, run it.

    Args:
        description: for ``--help``.
        prepare: puts the values of the documented names (``data_root``, ...) where they belong and
            checks the inputs; is given the config and the number of processes, and raises
            ValueError or FileNotFoundError for a user's mistake.
    """
    args = parse_args(description)
    try:
        cfg = load_config(args)
        if args.launcher != "none" and torch.cuda.is_available():
            init_dist(args.launcher, backend="nccl")
        elif args.launcher != "none":  # mmengine's init_dist wants a GPU
            dist.init_process_group("gloo")
        prepare(cfg, int(os.environ.get("WORLD_SIZE", "1")))
        if is_finished(Path(cfg.work_dir), config_hash(cfg), resume=args.resume):
            print(
                f"{cfg.work_dir} holds the finished run of this config; nothing to do", flush=True
            )
            return
        lock = lock_folder(Path(cfg.work_dir)) if is_main_process() else None
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}" if is_main_process() else 1)
    with lock or nullcontext():
        Runner.from_cfg(cfg).train()


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's changes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an option names something that the config does not have.
    """
    if not Path(args.config).is_file():
        raise FileNotFoundError(f"no config at {args.config}; the configs are under configs/")
    cfg = Config.fromfile(args.config)
    for name in args.cfg_options or {}:
        if name.split(".")[0] not in cfg:
            raise ValueError(
                f"--cfg-options {name}: {args.config} has no {name.split('.')[0]!r}; "
                f"it has: {', '.join(sorted(cfg.keys()))}"
            )
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.config_file = args.config
    cfg.launcher = args.launcher
    cfg.resume = args.resume
    cfg.work_dir = args.work_dir or f"work_dirs/{Path(args.config).stem}"
    return cfg


def config_hash(cfg: Config) -> str:
    """sha256 of all that decides what a run computes."""
    content = {k: v for k, v in cfg.to_dict().items() if k not in CIRCUMSTANCES}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def is_finished(work_dir: Path, digest: str, resume: bool) -> bool:
    """Whether the folder holds this very run, finished; refuse to run over another one.

    Raises:
        ValueError: the folder holds another run, or an unfinished one and ``resume`` is off.
    """
    mends = f"choose another --work-dir, or remove {work_dir}"
    if (work_dir / FILE_NAME).is_file():
        record = RunRecord.read(work_dir / FILE_NAME)
        if record.config_hash != digest:
            raise ValueError(f"{work_dir} holds a finished run of another config; {mends}")
        return True
    if (work_dir / "last_checkpoint").is_file() and not resume:
        raise ValueError(
            f"{work_dir} holds an unfinished run; add --resume to continue it, {mends}"
        )
    return False


def lock_folder(work_dir: Path) -> TextIO:
    """Keep every other run out of the folder for as long as the returned file is open.

    Raises:
        ValueError: another process holds it.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    file = (work_dir / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"another run is at work in {work_dir}; wait for it, stop it, or choose another "
            "--work-dir"
        ) from None
    return file


def per_process(global_batch_size: int, world_size: int) -> int:
    """Images of each process.

    Raises:
        ValueError: the processes do not divide the batch.
    """
    if global_batch_size < 1 or global_batch_size % world_size:
        raise ValueError(
            f"{world_size} processes cannot share a global batch of {global_batch_size} images "
            "evenly; choose another number of processes or --cfg-options global_batch_size=N"
        )
    return global_batch_size // world_size
