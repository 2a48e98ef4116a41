"""SimCLR's augmentation (Chen et al., 2020, appendix A): what is drawn, and the crop.

Parameters are drawn before an image is decoded, from a generator of the sample's own: the crops
then say at which scale a JPEG has to be decoded, and a view depends on nothing but its seed.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from pretrain.images.colour import Colour, Pixels

ASPECT_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class View:
    """What was drawn for one view: its box in pixels of the whole image, flip and colours."""

    top: int
    left: int
    height: int
    width: int
    flip: bool
    colour: Colour


@dataclass(frozen=True)
class SimCLRAugmentation:
    """Random crop, flip, colour distortion and blur.

    ImageNet: the defaults. CIFAR-10: ``size=32, jitter=0.5, blur=False`` (SimCLR, appendix B.9).

    Args:
        size: side of the square view, in pixels.
        jitter: strength of the colour distortion; 1.0 in the reference.
        blur: Gaussian blur half of the time, its kernel a tenth of the side.
        min_area: smallest share of the image that a crop covers.

    Raises:
        ValueError: a value out of range.
    """

    size: int = 224
    jitter: float = 1.0
    blur: bool = True
    min_area: float = 0.08

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.jitter <= 2.5 or not 0 < self.min_area <= 1:
            raise ValueError(
                f"augmentation with size={self.size}, jitter={self.jitter}, "
                f"min_area={self.min_area}; expected size >= 1, jitter in 0..2.5 (a hue shift of "
                "half a turn), min_area in 0..1, 0 excluded"
            )

    def draw(self, random: np.random.Generator, height: int, width: int) -> View:
        """Parameters of one view of an image of ``height`` x ``width`` pixels."""
        box = self.draw_box(random, height, width)
        flip = random.random() < 0.5
        return View(*box, flip, self.draw_colour(random))

    def draw_box(
        self, random: np.random.Generator, height: int, width: int
    ) -> tuple[int, int, int, int]:
        """Top, left, height and width: area uniform, aspect ratio log-uniform.

        As torchvision's RandomResizedCrop: ten tries, then the largest box in the middle whose
        aspect ratio is allowed.
        """
        low, high = ASPECT_RATIOS
        for _ in range(10):
            area = height * width * random.uniform(self.min_area, 1.0)
            ratio = math.exp(random.uniform(math.log(low), math.log(high)))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                top, left = random.integers(height - h + 1), random.integers(width - w + 1)
                return int(top), int(left), h, w
        h = min(height, max(1, round(width / low)))
        w = min(width, max(1, round(height * high)))
        return (height - h) // 2, (width - w) // 2, h, w

    def draw_colour(self, random: np.random.Generator) -> Colour:
        """Jitter (0.8, 0.8, 0.8, 0.2) x ``jitter`` with p 0.8, grey with p 0.2, blur with p 0.5."""
        strength = 0.8 * self.jitter
        drawn = Colour()
        if random.random() < 0.8:
            low, high = max(0.0, 1 - strength), 1 + strength
            b, c, s = random.uniform(low, high, 3).tolist()
            h = random.uniform(-strength / 4, strength / 4)
            i, j, k, n = random.permutation(4).tolist()
            drawn = Colour((b, c, s, h), (i, j, k, n))
        grey = random.random() < 0.2
        blurred = random.random() < 0.5
        sigma = random.uniform(0.1, 2.0)
        return Colour(drawn.factors, drawn.order, grey, sigma if self.blur and blurred else 0.0)


def crop(image: Pixels, view: View, height: int, width: int, size: int) -> Pixels:
    """The view's box as (size, size, 3), flipped if drawn so.

    Args:
        image: uint8 (h, w, 3), perhaps decoded at a reduced scale.
        view: whose box is in pixels of the whole image.
        height, width: of the whole image; the box is brought to the scale of ``image`` and rounded
            to its pixels.
        size: of the result; bilinear with antialiasing, as torchvision's RandomResizedCrop.
    """
    h, w = image.shape[:2]
    top, bottom = (round(y * h / height) for y in (view.top, view.top + view.height))
    left, right = (round(x * w / width) for x in (view.left, view.left + view.width))
    top, left = min(top, h - 1), min(left, w - 1)
    box = np.ascontiguousarray(image[None, top : max(top + 1, bottom), left : max(left + 1, right)])
    channels_last = torch.from_numpy(box).permute(0, 3, 1, 2)  # torch's fast path, which keeps it
    resized = interpolate(channels_last, (size, size), mode="bilinear", antialias=True)
    pixels = resized[0].permute(1, 2, 0).contiguous().numpy()
    return cv2.flip(pixels, 1) if view.flip else pixels
