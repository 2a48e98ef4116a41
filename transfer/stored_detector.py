"""A trained detector out of its checkpoint: whole, and under no other config than its own."""

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mmcv.ops
import mmdet.registry
import mmengine.registry
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import Registry
from torch import nn

from pretrain.backbone_file import read_provenance
from pretrain.engine.atomic_files import AtomicFiles
from pretrain.engine.checkpoint import plain
from pretrain.engine.run_folder import DETECTOR, last_checkpoint, read_meta
from pretrain.engine.same_config import config_text, differences
from transfer import backbones


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
    then, now = _config_in(meta, path), json.loads(config_text(cfg))
    if faults := differences(decisive(then), decisive(now)):
        raise ValueError(
            f"{path} is of another config; take the one it was trained with, or set these back:\n  "
            + "\n  ".join(faults)
        )
    return meta


def _config_in(meta: dict[str, Any], path: Path) -> dict[str, Any]:
    """The config that a checkpoint carries, as JSON."""
    try:
        content = json.loads(meta["config_text"])
        decisive(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} carries no config of a detector ({type(error).__name__}: {str(error)[:200]}); "
            "expected a checkpoint that tools/dist_train.sh wrote"
        ) from error
    return dict(content)


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


def write_detector(model: BaseDetector, path: Path, meta: dict[str, Any]) -> None:
    """Write all that a detector needs, what is frozen too, to be used without the backbone file.

    mmdetection's ``init_detector(CONFIG, FILE)`` takes it, with the config beside it.

    Args:
        model: with a :class:`transfer.backbones.TransferBackbone`.
        path: of the file.
        meta: plain data, with ``dataset_meta`` and what :func:`read_meta` asks for.

    Raises:
        NotWritten: no room, no right, or another fault of the file system.
    """
    tensors = dict(model.state_dict())
    backbone: backbones.TransferBackbone = model.backbone
    for name, tensor in backbone.frozen_tensors():
        tensors[f"backbone.encoder.{name}"] = tensor
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = io.BytesIO()
    torch.save({"meta": plain(meta), "state_dict": stored}, content)
    AtomicFiles().put(content.getvalue(), path)


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
    """The detector of a finished run, or of the last checkpoint, in eval mode; the run's config.

    Raises:
        FileNotFoundError: the folder is not a run's, or has lost a part.
        ValueError: the checkpoint is damaged, or its config is none of ours.
    """
    whole = (run / DETECTOR).is_file()
    path = run / DETECTOR if whole else last_checkpoint(run)
    if path is None:
        raise FileNotFoundError(
            f"{run} has no checkpoint, so it is not the folder of a run; name the --work-dir of "
            "one (work_dirs/NAME_OF_CONFIG where none was given)"
        )
    cfg = stored_config(path)
    if cfg.model.backbone.get("backbone_file"):
        cfg.model.backbone.backbone_file = None if whole else _backbone_file(run, cfg)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    load_weights(model, path)
    model.cfg = cfg
    return model.to(device).eval(), cfg


def _backbone_file(run: Path, cfg: Config) -> str:
    """The run's backbone file; a relative path is one from where the run was started."""
    named, wanted = Path(cfg.model.backbone.backbone_file), cfg.get("backbone_sha256")
    for folder in (Path(), *run.resolve().parents):
        with suppress(FileNotFoundError, ValueError):  # another file of that name
            if read_provenance(folder / named).weights_sha256 == wanted:
                return str(folder / named)
    raise FileNotFoundError(
        f"{run} has not finished, and its frozen weights are not there: no {named} with the "
        f"weights {wanted} was found; put that file back, or let the run finish"
    )


def stored_config(path: Path) -> Config:
    """The config that a checkpoint was trained with, out of the checkpoint itself.

    What it names has to be registered, since mmengine would import and call anything else that
    stands under ``type``, and the file may come from a stranger.

    Args:
        path: of the checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or a ``type`` is none of the registered ones.
    """
    register_all_modules()
    content = _config_in(read_meta(path), path)
    loaders = [content[name] for name in ("val_dataloader", "test_dataloader") if content.get(name)]
    if odd := [name for name in types_in([content["model"], *loaders]) if not _is_registered(name)]:
        raise ValueError(
            f"{path} asks for {str(odd[0])[:100]!a}, which neither this project nor mmdetection "
            "registers; it is not called"
        )
    try:
        for loader in loaders:
            loader["dataset"]["pipeline"] = _with_tuples(loader["dataset"]["pipeline"])
        return Config(content)
    except (KeyError, TypeError, AttributeError) as error:  # or names that mmengine keeps to itself
        raise ValueError(f"{path} carries no config of a detector ({error})") from error


def _with_tuples(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sizes as tuples, on which mmcv's transforms insist; JSON has lists only."""

    def restored(value: Any) -> Any:
        numbers = isinstance(value, list) and all(isinstance(item, (int, float)) for item in value)
        return tuple(value) if numbers else value

    return [{name: restored(value) for name, value in step.items()} for step in pipeline]


def types_in(value: Any) -> Iterator[Any]:
    """Every ``type`` in a config."""
    if isinstance(value, dict):
        yield from (value["type"],) if "type" in value else ()
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from types_in(item)


def _is_registered(name: Any) -> bool:
    """Whether mmengine's registries know a ``type``, or mmcv's operators, such as ``nms``."""
    if not isinstance(name, str):
        return name is None
    members = (each for root in (mmengine.registry, mmdet.registry) for each in vars(root).values())
    registries = (each for each in members if isinstance(each, Registry))
    return name in mmcv.ops.__all__ or any(name in each.module_dict for each in registries)
