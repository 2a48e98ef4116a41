"""SimCLR's augmentation (Chen et al., 2020, appendix A)."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2


def simclr_augmentation(
    size: int = 224, jitter: float = 1.0, blur: bool = True, min_area: float = 0.08
) -> v2.Transform:
    """Random crop, flip, colour distortion and blur.

    Args:
        size: side of the square view, in pixels.
        jitter: strength of the colour distortion; 1.0 in the reference.
        blur: Gaussian blur half of the time, its kernel a tenth of the side; off for CIFAR-10.
        min_area: smallest share of the image that a crop covers.

    Returns:
        A transform from an RGB image to uint8 (3, size, size).
    """
    colour = v2.ColorJitter(0.8 * jitter, 0.8 * jitter, 0.8 * jitter, 0.2 * jitter)
    steps: list[v2.Transform] = [
        v2.PILToTensor(),
        v2.RandomResizedCrop(size, scale=(min_area, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
        v2.RandomHorizontalFlip(p=0.5),
        v2.RandomApply([colour], p=0.8),
        v2.RandomGrayscale(p=0.2),
    ]
    if blur:
        kernel = 2 * (size // 20) + 1  # 23 at 224
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, sigma=(0.1, 2.0))], p=0.5))
    return v2.Compose(steps)


def two_views(image: Image.Image, augmentation: v2.Transform) -> Tensor:
    """Two independent augmentations of one image: uint8 (2, 3, size, size)."""
    return torch.stack([augmentation(image), augmentation(image)])
