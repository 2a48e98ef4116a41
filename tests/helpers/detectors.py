"""The demo's detectors, made small enough to be trained in a test."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

read = cache(Config.fromfile)
LOCO = "configs/demo/mask_rcnn_loco.py"


def options(coco: Path, backbone_file: Path | str, **more: Any) -> dict[str, Any]:
    """Two iterations on the drawn scenes, in this process alone; as ``--cfg-options`` has them."""
    values = {
        "data_root": str(coco),
        "backbone_file": str(backbone_file),
        "max_epochs": 1,
        "model.test_cfg.rcnn.score_thr": 0.0,  # two iterations make no certain detections
    }
    for loader in ("train_dataloader", "val_dataloader"):
        values |= {f"{loader}.num_workers": 0, f"{loader}.persistent_workers": False}
    return values | more


def as_arguments(values: dict[str, Any]) -> list[str]:
    return ["--cfg-options", *(f"{name}={value}" for name, value in values.items())]


def config(coco: Path, backbone_file: Path | str | None, path: str = LOCO, **values: Any) -> Config:
    """A config on the drawn scenes, before :func:`transfer.train.prepare`."""
    cfg = copy.deepcopy(read(path))
    cfg.merge_from_dict(options(coco, "", **values))
    cfg.backbone_file = str(backbone_file) if backbone_file else None
    cfg.config_file = path
    return cfg
