"""``tools/pretrain.sh CONFIG``: config -> mmengine Runner -> backbone file and run record.

Names that ``--cfg-options`` may set, and that find their places here: ``data_root``, ``epochs``,
``warmup_epochs``, ``global_batch_size``, ``seed``, ``method``.
"""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from pretrain.data import list_images
from pretrain.encoders import build_encoder
from pretrain.launch import main, per_process
from pretrain.units import build_units


def prepare(cfg: Config, world_size: int) -> None:
    """Put the documented names where they belong, and check the inputs.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, how to mend it.
    """
    cfg.model.setdefault("units", cfg.method)
    cfg.protocol.states.setdefault("units", cfg.method)
    build_units(cfg.model.units, build_encoder(cfg.model.encoder))
    images = len(list_images(Path(cfg.data_root)))
    cfg.train_dataloader.dataset.update(
        root=cfg.data_root, name=dataset_name(cfg.protocol.states, cfg.data_root, images)
    )
    batch = cfg.global_batch_size
    if not 2 <= batch <= images:
        raise ValueError(
            f"a global batch of {batch} from {images} images under {cfg.data_root}; InfoNCE needs "
            "at least 2, and an epoch at least one whole batch: set --cfg-options "
            "global_batch_size=N"
        )
    cfg.train_dataloader.batch_size = per_process(batch, world_size)
    check_optimisation(cfg)
    lr = cfg.base_lr * batch / 256
    cfg.optim_wrapper.optimizer.lr = lr
    print(f"learning rate {cfg.base_lr} x {batch} / 256 = {lr:g}", flush=True)
    cfg.train_cfg.max_epochs = cfg.epochs
    cfg.param_scheduler = schedule(cfg.epochs, cfg.warmup_epochs)
    cfg.randomness = {"seed": cfg.seed}
    if world_size > 1 and not torch.cuda.is_available():
        print("no GPU: torch's SyncBN does not run, norm statistics stay per process", flush=True)
        cfg.sync_bn = None


def check_optimisation(cfg: Config) -> None:
    """Refuse what the streamed backward does not do.

    Raises:
        ValueError: loss scaling, or gradients accumulated over batches.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.type == "AmpOptimWrapper" and wrapper.get("dtype") != "bfloat16":
        raise ValueError(
            f"optim_wrapper.dtype is {wrapper.get('dtype', 'float16')}, which needs loss scaling; "
            "set --cfg-options optim_wrapper.dtype=bfloat16"
        )
    if wrapper.get("accumulative_counts", 1) != 1:
        raise ValueError(
            "optim_wrapper.accumulative_counts: gradients of several batches added up are not "
            "those of one large batch, whose negatives InfoNCE needs; remove it"
        )


def dataset_name(states: dict[str, Any], data_root: str, images: int) -> str:
    """The protocol's dataset if the folder holds as many images; else the folder's own name."""
    if images == states["images"]:
        return states["dataset"]
    return f"{Path(data_root).name} ({images} images)"


def schedule(epochs: int, warmup_epochs: int) -> list[dict[str, Any]]:
    """Linear warm-up from 0, then cosine to 0 without restart, stepped every iteration (section
    5.1).

    Raises:
        ValueError: the warm-up does not fit.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(
            f"a warm-up of {warmup_epochs} epochs does not fit into {epochs}; set "
            "--cfg-options warmup_epochs=N below epochs"
        )
    cosine = {
        "type": "CosineAnnealingLR",
        "T_max": epochs - warmup_epochs,
        "eta_min": 0.0,
        "begin": warmup_epochs,
        "end": epochs,
        "convert_to_iter_based": True,
    }
    warmup = {
        "type": "LinearLR",
        "start_factor": 1e-4,  # mmengine wants more than 0
        "end": warmup_epochs,
        "convert_to_iter_based": True,
    }
    return [warmup, cosine] if warmup_epochs else [cosine]


if __name__ == "__main__":
    main("Pretrain an encoder with SimCLR, Greedy InfoMax or LoCo.", prepare)
