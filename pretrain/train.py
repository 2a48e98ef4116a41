"""``tools/pretrain.sh CONFIG``: config -> mmengine Runner -> backbone file and run record.

Names that ``--cfg-options`` may set, and that find their places here: ``data_root``, ``epochs``,
``warmup_epochs``, ``global_batch_size``, ``precision``, ``seed``, ``method``.
"""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from pretrain.encoders import build_encoder
from pretrain.images.image_lists import ImageList
from pretrain.precision import check_precision
from pretrain.running import collapse  # noqa: F401  (registers EmbeddingSpread)
from pretrain.running.launch import main, per_process
from pretrain.schedule import schedule
from pretrain.units import build_units


def prepare(cfg: Config, world_size: int) -> dict[str, str]:
    """Put the documented names where they belong, and check the inputs.

    Returns:
        The images' fingerprint.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, how to mend it.
    """
    cfg.model.setdefault("units", cfg.method)
    cfg.protocol.states.setdefault("units", cfg.method)
    build_units(cfg.model.units, build_encoder(cfg.model.encoder))
    listed = ImageList.read(cfg.data_root)
    images = len(listed)
    print(listed.describe(), flush=True)
    cfg.train_dataloader.dataset.update(
        root=cfg.data_root,
        name=dataset_name(cfg.protocol.states, cfg.data_root, images),
        seed=cfg.seed,
    )
    batch = cfg.global_batch_size
    if not 2 <= batch <= images:
        raise ValueError(
            f"a global batch of {batch} from {images} images under {cfg.data_root}; InfoNCE needs "
            "at least 2, and an epoch at least one whole batch: set --cfg-options "
            "global_batch_size=N"
        )
    cfg.train_dataloader.batch_size = per_process(batch, world_size)
    prepare_optimisation(cfg)
    lr = cfg.base_lr * batch / 256
    cfg.optim_wrapper.optimizer.lr = lr
    print(f"learning rate {cfg.base_lr} x {batch} / 256 = {lr:g}", flush=True)
    cfg.train_cfg.max_epochs = cfg.epochs
    cfg.param_scheduler = schedule(cfg.epochs, cfg.warmup_epochs)
    cfg.randomness = {"seed": cfg.seed}
    cfg.default_hooks.spread = {"type": "EmbeddingSpread"}
    return {str(cfg.data_root): listed.fingerprint}


def prepare_optimisation(cfg: Config) -> None:
    """Put ``precision`` where it belongs; refuse what would not be the large batch's gradients.

    Raises:
        ValueError: a precision that cannot be had, or gradients accumulated over batches.
    """
    check_precision(cfg.precision)
    wrapper = cfg.optim_wrapper
    if wrapper.type == "AmpOptimWrapper":
        raise ValueError(
            "optim_wrapper.type is AmpOptimWrapper, which does not scale the losses of units; set "
            "--cfg-options precision=bfloat16 (or float16) instead"
        )
    if wrapper.get("accumulative_counts", 1) != 1:
        raise ValueError(
            "optim_wrapper.accumulative_counts: gradients of several batches added up are not "
            "those of one large batch, whose negatives InfoNCE needs; for a batch that does not "
            "fit set --cfg-options model.micro_batch_size=N instead"
        )
    if cfg.precision != "float32":
        wrapper.update(type="MixedPrecision", dtype=cfg.precision)


def dataset_name(states: dict[str, Any], data_root: str, images: int) -> str:
    """The protocol's dataset if the folder holds as many images; else the folder's own name."""
    if images == states["images"]:
        return states["dataset"]
    return f"{Path(data_root).name} ({images} images)"


if __name__ == "__main__":
    main("Pretrain an encoder with SimCLR, Greedy InfoMax or LoCo.", prepare)
