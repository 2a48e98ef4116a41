"""Unlabelled images from a folder, as pairs of views."""

import hashlib
import os
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.augment import simclr_augmentation, two_views

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@DATASETS.register_module()
class TwoViewImages(Dataset):
    """Every image below a folder (class folders or flat), two augmented views of it at a time.

    Args:
        root: the folder.
        name: what the dataset is called in provenance and records, e.g. ``imagenet1k``.
        augmentation: arguments of :func:`simclr_augmentation`.

    Raises:
        FileNotFoundError: the folder is missing, or holds no image.
    """

    def __init__(self, root: str, name: str, augmentation: dict[str, Any]) -> None:
        self.root, self.name = Path(root), name
        self.files = list_images(self.root)
        self.augmentation = simclr_augmentation(**augmentation)
        self.metainfo = {"dataset": name, "fingerprint": fingerprint(self.root, self.files)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self.root / self.files[index]) as image:
            return {"views": two_views(image.convert("RGB"), self.augmentation)}


def list_images(root: Path) -> list[str]:
    """Paths of all images below ``root``, relative to it, sorted."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder of training images at {root}; expected images in it or in folders below "
            "it. Put them there, or name another folder with --cfg-options data_root=FOLDER"
        )
    files = [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(root)
        for name in names
        if os.path.splitext(name)[1].lower() in EXTENSIONS
    ]
    if not files:
        raise FileNotFoundError(
            f"{root} holds no image; expected files ending in {', '.join(sorted(EXTENSIONS))}. "
            "Put them there, or name another folder with --cfg-options data_root=FOLDER"
        )
    return sorted(files)


def fingerprint(root: Path, files: list[str]) -> str:
    """sha256 over names and sizes: tells one set of files from another without reading them all."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(f"{name}\0{(root / name).stat().st_size}\n".encode())
    return digest.hexdigest()
