"""``tools/pretrain.sh CONFIG``: config -> mmengine Runner -> backbone file and run record.

The names that ``--cfg-options`` may set, and that find their places here, are NAMES.
"""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from pretrain.encoders import build_encoder
from pretrain.engine.documented_names import COMMON, SEED, Name, check, together
from pretrain.engine.launch import main, per_process
from pretrain.engine.stated_protocol import state
from pretrain.hooks import stated_values
from pretrain.images.image_lists import ImageList
from pretrain.methods import complete
from pretrain.step.precision import check_precision
from pretrain.step.schedule import learning_rate, schedule
from pretrain.units import build_units

NAMES = {
    **COMMON,
    "method": Name("a text"),
    "data_root": Name(
        "a text",
        sets=("train_dataloader.dataset.root", "train_dataloader.dataset.name", "dataset"),
    ),
    "epochs": Name("a whole number", least=1, sets=("train_cfg.max_epochs", "param_scheduler")),
    "warmup_epochs": Name("a whole number", least=0),
    "global_batch_size": Name("a whole number", least=1, sets=("train_dataloader.batch_size",)),
    "precision": Name("a text", sets=("optim_wrapper.dtype",)),
    "seed": SEED._replace(sets=(*SEED.sets, "train_dataloader.dataset.seed")),
    "protocol.states.images": Name("a whole number", least=1),
    "model.encoder": Name("a text"),
    "model.loss.temperature": Name("a number above 0", optional=True),
    "model.micro_batch_size": Name("a whole number", least=1, none=True, optional=True),
    "model.channels_last": Name("True or False", optional=True),
    "train_dataloader.dataset.augmentation.size": Name("a whole number", least=16),
    "train_dataloader.dataset.max_unreadable_share": Name("a share from 0 to 1", optional=True),
}


def prepare(cfg: Config, world_size: int) -> None:
    """Put the documented names where they belong, and check the inputs.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, how to repair it.
    """
    check(cfg, NAMES)
    found: list[ImageList] = []
    together(
        lambda: prepare_method(cfg),
        lambda: found.append(prepare_images(cfg, world_size)),
        lambda: cfg.train_dataloader.update(
            batch_size=per_process(cfg.global_batch_size, world_size)
        ),
        lambda: setattr(cfg, "param_scheduler", schedule(cfg.epochs, cfg.warmup_epochs)),
        lambda: prepare_precision(cfg),
    )
    lr = learning_rate(cfg.base_lr, cfg.global_batch_size)
    cfg.optim_wrapper.optimizer.lr = lr
    print(f"learning rate {cfg.base_lr} x {cfg.global_batch_size} / 256 = {lr:g}", flush=True)
    cfg.train_cfg.max_epochs = cfg.epochs
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": cfg.seed}
    cfg.dataset = {"fingerprint": found[0].fingerprint}  # other images are another run


def prepare_method(cfg: Config) -> None:
    """Complete the model with what its method is, and say what the protocol states.

    Raises:
        ValueError: an unknown method, or a layout that does not fit the encoder.
    """

    def values(base: Config) -> dict[str, Any]:
        complete(base.model, cfg.method)
        return stated_values(base)

    complete(cfg.model, cfg.method)
    state(cfg, values)
    build_units(cfg.model.units, build_encoder(cfg.model.encoder))


def prepare_images(cfg: Config, world_size: int) -> ImageList:
    """Point the loader at ``data_root``, and see whether its images make batches.

    Raises:
        ValueError, FileNotFoundError: there are none, or too few.
    """
    listed = ImageList.read(cfg.data_root)
    images, batch = len(listed), cfg.global_batch_size
    print(listed.describe(), flush=True)
    cfg.train_dataloader.dataset.update(
        root=cfg.data_root,
        name=dataset_name(cfg.protocol.states, cfg.data_root, images),
        seed=cfg.seed,
    )
    if not 2 <= batch <= images:
        raise ValueError(
            f"a global batch of {batch} from {images} images under {cfg.data_root}; InfoNCE needs "
            "at least 2, and an epoch at least one whole batch: set --cfg-options "
            "global_batch_size=N"
        )
    rest = (images // world_size) % max(batch // world_size, 1)
    if rest and not cfg.train_dataloader.get("drop_last"):
        raise ValueError(
            f"train_dataloader.drop_last is off, and {images} images in batches of {batch} leave "
            f"a last batch of {rest * world_size}, with fewer negatives than the others: set "
            "--cfg-options train_dataloader.drop_last=True"
        )
    return listed


def prepare_precision(cfg: Config) -> None:
    """Put ``precision`` where it belongs; refuse what would not be the large batch's gradients.

    Raises:
        ValueError: a precision that cannot be had, or gradients accumulated over batches.
    """
    check_precision(cfg.precision)
    wrapper = cfg.optim_wrapper
    if wrapper.type not in ("OptimWrapper", "MixedPrecision"):
        raise ValueError(
            f"optim_wrapper.type is {wrapper.type}, which does not scale the losses of units; set "
            "--cfg-options precision=bfloat16 (or float16) instead"
        )
    if wrapper.get("accumulative_counts", 1) != 1:
        raise ValueError(
            "optim_wrapper.accumulative_counts: gradients of several batches added up are not "
            "those of one large batch, whose negatives InfoNCE needs; for a batch that does not "
            "fit set --cfg-options model.micro_batch_size=N instead"
        )
    wrapper.type = "OptimWrapper"
    if cfg.precision != "float32":
        wrapper.update(type="MixedPrecision", dtype=cfg.precision)


def dataset_name(states: dict[str, Any], data_root: str, images: int) -> str:
    """The protocol's dataset if the folder holds as many images; else the folder's own name."""
    if images == states["images"]:
        return states["dataset"]
    return f"{Path(data_root).name} ({images} images)"


if __name__ == "__main__":
    main("Pretrain an encoder with SimCLR, Greedy InfoMax or LoCo.", prepare, NAMES)
