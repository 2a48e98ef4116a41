"""Loaders of SimCLR's two views, ours and others', over the same files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from pretrain.backbone_file import IMAGENET_MEAN, IMAGENET_STD
from pretrain.images.colour import kernel_side
from pretrain.images.image_lists import list_images
from pretrain.images.two_views import TwoViewImages
from pretrain.model import TwoViewPreprocessor


class PillowViews(Dataset[Any]):
    """Images as Pillow opens them, through a transform that gives two views."""

    def __init__(self, root: Path, transform: Callable[[Image.Image], Any]) -> None:
        self.files = [root / name for name in list_images(root)[0]]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[Tensor]:
        with Image.open(self.files[index]) as image:
            return list(self.transform(image.convert("RGB")))


class Normalised(Dataset[Any]):
    """Our views as the model sees them, normalised by the worker already."""

    def __init__(self, dataset: TwoViewImages) -> None:
        self.dataset = dataset
        self.prepare = TwoViewPreprocessor(IMAGENET_MEAN, IMAGENET_STD)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int) -> Tensor:
        return self.prepare({"views": self.dataset[key]["views"][None]})["views"]


def ours(root: Path, size: int, **options: Any) -> TwoViewImages:
    """What a run loads from."""
    return TwoViewImages(str(root), "throughput", {"size": size}, **options)


def lightly(root: Path, size: int) -> PillowViews:
    """lightly's SimCLRTransform.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from lightly.transforms.simclr_transform import SimCLRTransform
    except ImportError as error:
        raise ImportError(
            f"{error}; install what is compared with: .venv/bin/python -m tools.setup.pip_locked "
            "tools/setup/locks/bench.txt --no-build-isolation"
        ) from error
    return PillowViews(root, SimCLRTransform(input_size=size))


def torchvision_pil(root: Path, size: int) -> PillowViews:
    """The same augmentation of torchvision's own transforms, on Pillow images."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(kernel_side(size), (0.1, 2.0))], p=0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return PillowViews(root, lambda image: [transform(image), transform(image)])


LOADERS: dict[str, Callable[[Path, int], Dataset[Any]]] = {
    "ours": ours,
    "ours_normalised": lambda root, size: Normalised(ours(root, size)),
    "ours_colour_on_device": lambda root, size: ours(root, size, colour_on_device=True),
    "lightly": lightly,
    "torchvision_pil": torchvision_pil,
}
