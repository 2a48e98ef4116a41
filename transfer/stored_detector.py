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
from pretrain.engine.launch import config_text
from pretrain.engine.resume import DETECTOR, differences, last_checkpoint, read_meta
from transfer import backbones
from transfer.dumped_config import read_dumped

BUILT = ("model", "val_dataloader")  # of a stored config


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


def types_in(value: Any) -> Iterator[Any]:
    """Every ``type`` in a config."""
    if isinstance(value, dict):
        yield from (value["type"],) if "type" in value else ()
        for item in value.values():
            yield from types_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from types_in(item)


def _is_registered(name: Any) -> bool:
    """Whether mmengine's registries know a ``type``, or mmcv's operators, such as ``nms``."""
    if not isinstance(name, str):
        return name is None
    found = (each for root in (mmengine.registry, mmdet.registry) for each in vars(root).values())
    registries = (each for each in found if isinstance(each, Registry))
    return name in mmcv.ops.__all__ or any(name in each.module_dict for each in registries)


def load_detector(run: Path, device: str) -> tuple[nn.Module, Config]:
    """The detector of a finished run, or of the last checkpoint, in eval mode; the run's config.

    Raises:
        FileNotFoundError: the folder is not a run's, or has lost a part.
        ValueError: the checkpoint is damaged, or no config in the folder is its own.
    """
    whole = (run / DETECTOR).is_file()
    path = run / DETECTOR if whole else last_checkpoint(run)
    if path is None:
        raise FileNotFoundError(
            f"{run} has no checkpoint, so it is not the folder of a run; name the --work-dir of "
            "one (work_dirs/NAME_OF_CONFIG where none was given)"
        )
    cfg = stored_config(run, path)
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


def stored_config(run: Path, path: Path) -> Config:
    """The config that mmengine dumped into the folder and that the checkpoint was trained with.

    The checkpoint's own is JSON, which has no tuples; some transforms insist on them. Nothing in
    the folder is run: the file is read as data, and what it names has to be registered, since
    mmengine would import and call anything else that stands under ``type``.

    Args:
        run: the folder.
        path: of the checkpoint.

    Raises:
        FileNotFoundError: the checkpoint or the config is not there.
        ValueError: one is damaged, they differ, or a ``type`` is none of the registered ones.
    """
    register_all_modules()
    then = _config_in(read_meta(path), path)
    faults = []
    for file in sorted(run.glob("*.py")):
        content = read_dumped(file)
        built = [content.get(name) for name in BUILT]
        if odd := [name for name in types_in(built) if not _is_registered(name)]:
            raise ValueError(
                f"{file} asks for {str(odd[0])[:100]!a}, which neither this project nor "
                "mmdetection registers; it is not called"
            )
        try:
            cfg = Config(content)
        except (KeyError, TypeError) as error:  # names that mmengine keeps for itself
            raise ValueError(f"{file} is no config that a run has dumped ({error})") from error
        differing = differences(then, json.loads(config_text(cfg)))
        if not differing:
            return cfg
        faults += [f"\n  {file.name}: {difference}" for difference in differing[:5]]
    if not faults:
        raise FileNotFoundError(f"no config in {run}, so nobody knows what {path.name} is")
    raise ValueError(
        f"{path.name} was trained with another config than lies in {run}:" + "".join(faults)
    )
