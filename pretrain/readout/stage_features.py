"""Features of every stage, computed once and kept in files: cached, when nothing is augmented."""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.registry import DATASETS, FUNCTIONS
from mmengine.utils import ProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from pretrain.images.labelled_images import LabelledImages
from pretrain.readout.frozen_encoder import FrozenEncoder, Stages
from results.record.files import regular_file, write_atomically

MANIFEST = "features.json"
MAX_WORKERS = 8  # of a process
FEW = 2000  # images


@DATASETS.register_module()
class StageFeatures(Dataset[dict[str, Any]]):
    """Pooled features of one split's images, each seen once through the centre crop.

    They are read from ``folder`` where it holds those of these very weights, images and crop;
    else they are computed first, over all processes.

    Args:
        data_root, split, image_size, resize: of :class:`LabelledImages`.
        backbone_file, stages: of :class:`FrozenEncoder`.
        folder: of the files, one float32 (N, C) a stage; visible to all processes.
        batch_size: images that a process embeds at a time.

    Raises:
        FileNotFoundError, ValueError: from those two, and from :func:`check_space`.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        backbone_file: str,
        folder: str,
        image_size: int = 224,
        resize: int = 256,
        stages: Stages = "all",
        batch_size: int = 256,
    ) -> None:
        listed = LabelledImages(data_root, split, image_size, resize)
        encoder = FrozenEncoder(backbone_file, stages)
        self.folder, self.stages = Path(folder), encoder.stages
        self.classes = listed.classes
        self.transform_name = f"{listed.transform_name}, cached"
        self.metainfo = {"classes": listed.classes}
        self.labels = torch.from_numpy(listed.labels)
        of = {
            "weights_sha256": encoder.provenance.weights_sha256,
            "fingerprint": listed.images.fingerprint,
            "transform": listed.transform_name,
            "stages": list(encoder.stages),
        }
        if not _holds(self.folder, of):
            check_space(self.folder, len(listed), encoder.channels)
            _compute(encoder, _share(listed, batch_size), self.folder, len(listed))
            if is_main_process():
                write_atomically(self.folder / MANIFEST, json.dumps(of, indent=2).encode())
            barrier()
        self.arrays = {
            stage: np.load(regular_file(_file(self.folder, stage)), mmap_mode="r")
            for stage in self.stages
        }

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, keys: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once, needing no collation: ``features``, (N, C) a stage; ``label``.

        Keys are those of :class:`pretrain.engine.sampler.EpochKeySampler`, or plain indices.
        """
        places = [key % len(self) for key in keys]
        features = {stage: torch.from_numpy(a[places]) for stage, a in self.arrays.items()}
        return {"features": features, "label": self.labels[places]}

    def __getitem__(self, key: int) -> dict[str, Any]:
        batch = self.__getitems__([key])
        return {
            "features": {stage: value[0] for stage, value in batch["features"].items()},
            "label": batch["label"][0],
        }


@FUNCTIONS.register_module()
def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """The collation of a batch that is one already."""
    return batch


def _file(folder: Path, stage: str) -> Path:
    return folder / f"{stage}.npy"


def _holds(folder: Path, of: dict[str, Any]) -> bool:
    """Whether the folder's features were completed and are those of ``of``."""
    manifest = folder / MANIFEST
    held = manifest.is_file() and json.loads(manifest.read_text()) == of
    barrier()  # all have looked before any writes
    return held


def _share(images: LabelledImages, batch_size: int) -> DataLoader[Any]:
    """This process's images: every world_size-th. A few are read sooner than workers start."""
    share = range(get_rank(), len(images), get_world_size())
    workers = min(MAX_WORKERS, len(os.sched_getaffinity(0))) if len(share) > FEW else 0
    return DataLoader(Subset(images, share), batch_size=batch_size, num_workers=workers)


def _compute(encoder: FrozenEncoder, loader: DataLoader[Any], folder: Path, images: int) -> None:
    """Write the features of all stages; each process fills its own rows of the same files."""
    if is_main_process():
        _make_files(folder, encoder.channels, images)
    barrier()
    arrays = {stage: np.load(_file(folder, stage), mmap_mode="r+") for stage in encoder.stages}
    encoder.to(get_device())
    row, step = get_rank(), get_world_size()
    progress = ProgressBar(len(loader)) if is_main_process() else None
    for batch in loader:
        data = encoder(batch)
        rows = slice(row, row + step * len(data["label"]), step)
        for stage, features in data["features"].items():
            arrays[stage][rows] = features.cpu().numpy()
        row = rows.stop
        if progress:
            progress.update()
    for array in arrays.values():
        array.flush()
    barrier()


def check_space(folder: Path, images: int, channels: dict[str, int]) -> None:
    """Refuse a disk that the features of all images do not fit on.

    Args:
        folder: of the files, there or not.
        images: how many.
        channels: width of each stage's features.

    Raises:
        ValueError: what they need, and what is left.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    needed, free = 4 * images * sum(channels.values()), shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(
            f"the features of {images} images at {', '.join(channels)} need "
            f"{math.ceil(needed / 2**20)} MiB, and {folder} has {free // 2**20} MiB left; choose "
            "another --work-dir, or --cfg-options stages=last"
        )


def _make_files(folder: Path, channels: dict[str, int], images: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for stage, width in channels.items():
        np.lib.format.open_memmap(
            _file(folder, stage), mode="w+", dtype=np.float32, shape=(images, width)
        )


def stage_tensor(features: StageFeatures, stage: str) -> Tensor:
    """All features of one stage in memory, float32 (N, C)."""
    return torch.from_numpy(np.array(features.arrays[stage]))
