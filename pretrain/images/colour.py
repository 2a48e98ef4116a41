"""SimCLR's colour distortion and blur of one view (Chen et al., 2020, appendix A), with OpenCV.

Every operation is torchvision's of the same name, rounded to whole levels where torchvision cuts
off. :mod:`pretrain.images.batch_colour` does the same to a batch on the device.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]  # uint8 (height, width, 3), RGB

cv2.setNumThreads(0)  # loaders are processes, one a core

IDENTITY = (1.0, 1.0, 1.0, 0.0)  # brightness, contrast, saturation, hue: nothing changes


@dataclass(frozen=True)
class Colour:
    """What was drawn for one view.

    Args:
        factors: of brightness, contrast and saturation (1 changes nothing), and the shift of the
            hue in turns (0 changes nothing).
        order: in which the four are applied, as places in ``factors``.
        grey: grey instead of colours afterwards.
        sigma: of the Gaussian blur at the end, in pixels; 0 for none.
    """

    factors: tuple[float, float, float, float] = IDENTITY
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    grey: bool = False
    sigma: float = 0.0

    def vector(self) -> NDArray[np.float32]:
        """(10,): factors, order, grey, sigma; :mod:`pretrain.images.batch_colour` reads it."""
        return np.array([*self.factors, *self.order, self.grey, self.sigma], dtype=np.float32)


def distort(view: Pixels, colour: Colour) -> Pixels:
    """Colour jitter, grey and blur, uint8 (side, side, 3) -> the same; the input is left alone."""
    for place in colour.order:
        factor = colour.factors[place]
        if factor != IDENTITY[place]:
            view = JITTERS[place](view, factor)
    if colour.grey:
        view = grey(view)
    if colour.sigma:
        kernel = blur_kernel(kernel_side(view.shape[0]), colour.sigma)
        view = cv2.sepFilter2D(view, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return view


def brightness(view: Pixels, factor: float) -> Pixels:
    """``factor x``."""
    return cv2.LUT(view, _levels(factor * np.arange(256)))


def contrast(view: Pixels, factor: float) -> Pixels:
    """``factor x + (1 - factor) mean``, the mean that of the grey image."""
    mean = cv2.mean(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY))[0]
    return cv2.LUT(view, _levels(factor * np.arange(256) + (1 - factor) * mean))


def saturation(view: Pixels, factor: float) -> Pixels:
    """``factor x + (1 - factor) grey``."""
    return cv2.addWeighted(view, factor, grey(view), 1 - factor, 0)


def hue(view: Pixels, turns: float) -> Pixels:
    """The hue moves by ``turns`` of a full turn; HSV in float, as 8 bits would show."""
    hsv: NDArray[Any] = cv2.cvtColor(view.astype(np.float32), cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv[..., 0] += 360 * (turns % 1)  # up to 720, which the way back takes
    return cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


JITTERS = (brightness, contrast, saturation, hue)


def grey(view: Pixels) -> Pixels:
    """0.299 R + 0.587 G + 0.114 B in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def kernel_side(side: int) -> int:
    """Taps of the blur of a view of ``side`` pixels: a tenth of it, made odd; 23 at 224."""
    return 2 * (side // 20) + 1


def blur_kernel(taps: int, sigma: float) -> NDArray[np.float64]:
    """(taps,): ``exp(-x^2 / (2 sigma^2))`` around the middle, of sum 1."""
    x = np.arange(taps) - taps // 2
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


def _levels(values: NDArray[Any]) -> Pixels:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
