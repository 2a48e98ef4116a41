"""Detections and masks drawn on images (Fig. 4)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib import colormaps, font_manager
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

MIN_SIDE = 384  # pixels; smaller images are enlarged first, so that labels can be read


def draw_detections(
    image_path: str | Path,
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    masks: Tensor,
    categories: Sequence[str],
    score_threshold: float = 0.5,
) -> Image.Image:
    """Boxes, masks, names and scores on an image.

    Args:
        image_path: the image that was detected on.
        boxes: (N, 4), x1 y1 x2 y2 in its pixels.
        labels: (N,), index into ``categories``.
        scores: (N,), in 0..1.
        masks: (N, H, W), bool.
        categories: names.
        score_threshold: less certain detections are left out.
    """
    with Image.open(image_path) as file:
        image = F.pil_to_tensor(file.convert("RGB"))  # (3, H, W)
    factor = max(1, round(MIN_SIDE / min(image.shape[1:])))
    image = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    keep = scores >= score_threshold
    if keep.any():
        boxes, labels, scores = boxes[keep] * factor, labels[keep], scores[keep]
        masks = masks[keep].repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
        colours = [_colour(int(label)) for label in labels]
        names = [
            f"{categories[int(label)]} {float(score):.2f}"
            for label, score in zip(labels, scores, strict=True)
        ]
        font = font_manager.findfont("DejaVu Sans")
        image = draw_segmentation_masks(image, masks.bool(), alpha=0.45, colors=colours)
        image = draw_bounding_boxes(
            image,
            boxes,
            labels=names,
            colors=colours,
            width=3,
            font=font,
            font_size=16,
            fill_labels=True,
        )
    return F.to_pil_image(image)


def _colour(label: int) -> tuple[int, int, int]:
    red, green, blue = (torch.tensor(colormaps["tab20"](label % 20)[:3]) * 255).int().tolist()
    return red, green, blue
