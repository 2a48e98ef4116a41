"""Detections and masks drawn on an image."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
import torch
from matplotlib import colormaps, font_manager
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from results.record.files import regular_file

MIN_SIDE = 384  # pixels; smaller images are enlarged first, so that labels can be read
PLACES = (0, 2, 4, 6, 8, 10, 12, 16, 18, 1, 3, 5, 7, 9, 11, 13, 17, 19)  # in tab20: dark, light
LARGE_SIDE = 640  # pixels; on longer images labels and lines grow, to be seen in print


def draw_detections(
    image_path: str | Path,
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor | None,
    masks: Tensor,
    categories: Sequence[str],
    score_threshold: float = 0.5,
) -> Image.Image:
    """Boxes, masks, names and scores on an image, the most certain on top.

    Args:
        image_path: the image that was detected on.
        boxes: (N, 4), x1 y1 x2 y2 in its pixels.
        labels: (N,), index into ``categories``.
        scores: (N,), in 0..1; None for the ground truth.
        masks: (N, H, W), bool.
        categories: names.
        score_threshold: less certain detections are left out.
    """
    # as mmdetection loads it, turned as the camera says (EXIF)
    pixels = mmcv.imread(str(regular_file(image_path)))
    if pixels is None:
        raise ValueError(f"{image_path} cannot be read as an image")
    pixels = mmcv.bgr2rgb(pixels)
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # (3, H, W)
    factor = max(1, round(MIN_SIDE / min(image.shape[1:])))
    image = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    order = torch.arange(len(boxes))
    if scores is not None:
        order = scores.argsort()
        order = order[scores[order] >= score_threshold]
    if len(order):
        boxes, labels = boxes[order] * factor, labels[order]
        masks = masks[order].repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
        names = [categories[int(label)] for label in labels]
        if scores is not None:
            pairs = zip(names, scores[order], strict=True)
            names = [f"{name} {float(score):.2f}" for name, score in pairs]
        colours = [_colour(int(label)) for label in labels]
        enlarged = max(1.0, max(image.shape[1:]) / LARGE_SIDE)
        image = draw_segmentation_masks(image, _topmost(masks.bool()), alpha=0.45, colors=colours)
        image = draw_bounding_boxes(
            image,
            boxes,
            labels=names,
            colors=colours,
            width=round(3 * enlarged),
            font=font_manager.findfont("DejaVu Sans"),
            font_size=round(16 * enlarged),
            fill_labels=True,
        )
    return F.to_pil_image(image)


def _topmost(masks: Tensor) -> Tensor:
    """(N, H, W): of each mask what no later one covers; torchvision blackens pixels of several."""
    covered = masks.flip(0).cumsum(0).flip(0) - masks.int()
    return masks & (covered == 0)


def _colour(label: int) -> tuple[int, int, int]:
    place = PLACES[label % len(PLACES)]
    red, green, blue = (torch.tensor(colormaps["tab20"](place)[:3]) * 255).int().tolist()
    return red, green, blue
