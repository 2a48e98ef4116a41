"""A trained detector out of its checkpoint: whole, and under no other config than its own."""

import json
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import nn

from pretrain.running.launch import config_text
from pretrain.running.resume import LAST, differences, read_meta


def check_config(path: Path, cfg: Config) -> dict[str, Any]:
    """Read a checkpoint to its end, and compare its config with ``cfg``.

    Only what decides what the detector gives for an image is compared: method, model, weights of
    the backbone, and how validation images are prepared. Where the data lie may differ.

    Args:
        path: of the checkpoint.
        cfg: after :func:`transfer.train.prepare_backbone`.

    Returns:
        What the checkpoint says of its run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another config; says what differs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; a run writes epoch_N.pth or iter_N.pth")
    meta = read_meta(path)
    then, now = json.loads(meta["config_text"]), json.loads(config_text(cfg))
    if faults := differences(decisive(then), decisive(now)):
        raise ValueError(
            f"{path} is of another config; take the one it was trained with, or set these back:\n  "
            + "\n  ".join(faults)
        )
    return meta


def decisive(content: dict[str, Any]) -> dict[str, Any]:
    """What of a config decides what its detector gives for an image."""
    model = {name: part for name, part in content["model"].items() if name != "train_cfg"}
    backbone = {k: v for k, v in model["backbone"].items() if k != "backbone_file"}
    dataset = content["val_dataloader"]["dataset"]
    return {
        "method": content["method"],
        "backbone_sha256": content.get("backbone_sha256"),
        "model": model | {"backbone": backbone},
        "val_dataloader": {
            "dataset": {k: dataset.get(k) for k in ("type", "metainfo", "pipeline")}
        },
    }


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a detector from a checkpoint; what is frozen may stand in the backbone file instead.

    Raises:
        ValueError: tensors are missing, too many, or of other shapes.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not hold the tensors of this detector: {error}; evaluate it with the "
            "version of the code that trained it"
        ) from error


def load_detector(run: Path, device: str) -> tuple[nn.Module, Config]:
    """The detector of a run's last checkpoint, in eval mode, and the run's config.

    Raises:
        FileNotFoundError: the folder is not a run's, or has lost a part.
        ValueError: the checkpoint is damaged, or no config in the folder is its own.
    """
    if not (run / LAST).is_file():
        raise FileNotFoundError(
            f"{run} has no {LAST}, so it is not the folder of a run; name the --work-dir of one "
            "(work_dirs/NAME_OF_CONFIG where none was given)"
        )
    path = run / Path((run / LAST).read_text().strip()).name
    cfg = _config_of(run, path)
    register_all_modules()
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    load_weights(model, path)
    model.cfg = cfg
    return model.to(device).eval(), cfg


def _config_of(run: Path, path: Path) -> Config:
    """The config that mmengine dumped into the folder and that the checkpoint was trained with.

    The checkpoint's own is JSON, which has no tuples; some transforms insist on them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{run / LAST} names {path.name}, which is not there")
    then = json.loads(read_meta(path)["config_text"])
    faults = []
    for file in sorted(run.glob("*.py")):
        cfg = Config.fromfile(file)
        differing = differences(then, json.loads(config_text(cfg)))
        if not differing:
            return cfg
        faults += [f"\n  {file.name}: {difference}" for difference in differing[:5]]
    if not faults:
        raise FileNotFoundError(f"no config in {run}, so nobody knows what {path.name} is")
    raise ValueError(
        f"{path.name} was trained with another config than lies in {run}:" + "".join(faults)
    )
