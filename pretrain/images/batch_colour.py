"""Colour distortion and blur as in :mod:`pretrain.images.colour`, for a batch on its device.

Rounded to whole levels after every operation, as there, so that a view is the same wherever it is
distorted.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pretrain.images.colour import IDENTITY, kernel_side

GREY = (0.299, 0.587, 0.114)
Operation = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def distort(views: Tensor, colours: Tensor) -> Tensor:
    """Colour jitter, grey and blur, each view by its own parameters.

    Args:
        views: uint8 (N, 3, side, side), on any device.
        colours: (N, 10), one :meth:`pretrain.images.colour.Colour.vector` a view. Best left on
            the CPU: which views an operation meets is decided there, without waiting for the
            device.

    Returns:
        uint8 (N, 3, side, side).
    """
    colours = colours.cpu()
    factors, order, grey_too, sigma = torch.split(colours, [4, 4, 1, 1], dim=1)
    with torch.autocast(views.device.type, enabled=False):
        x = views.float()
        for turn in order.long().unbind(1):  # (N,), the operation that is each view's next
            for place, jitter in enumerate(JITTERS):
                _change(x, (turn == place) & (factors[:, place] != IDENTITY[place]), jitter,
                        factors[:, place])  # fmt: skip
        _change(x, grey_too[:, 0] > 0, lambda some, _: grey(some).expand_as(some), sigma[:, 0])
        _change(x, sigma[:, 0] > 0, blur, sigma[:, 0])
    return x.to(torch.uint8)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """``factor x``; images (n, 3, H, W) and factors (n, 1, 1, 1), here and below."""
    return factor * x


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """``factor x + (1 - factor) mean``, the mean that of the grey image."""
    return factor * x + (1 - factor) * grey(x).mean((1, 2, 3), keepdim=True)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """``factor x + (1 - factor) grey``."""
    return factor * x + (1 - factor) * grey(x)


def hue(x: Tensor, turns: Tensor) -> Tensor:
    """The hue moves by ``turns`` of a full turn, value and saturation of HSV stay."""
    red, green, blue = x.unbind(1)  # (n, H, W)
    value, spread = x.amax(1), x.amax(1) - x.amin(1)
    safe = spread.clamp(min=1)
    sixths = torch.where(value == blue, 4 + (red - green) / safe, 2 + (blue - red) / safe)
    sixths = torch.where(value == green, 2 + (blue - red) / safe, sixths)
    sixths = torch.where(value == red, (green - blue) / safe, sixths)
    sixths = (sixths + 6 * turns[:, 0]) % 6
    places = torch.tensor([5.0, 3.0, 1.0], device=x.device).view(1, 3, 1, 1)  # red, green, blue
    distance = (places + sixths[:, None]) % 6
    return value[:, None] - spread[:, None] * torch.minimum(distance, 4 - distance).clamp(0, 1)


JITTERS = (brightness, contrast, saturation, hue)


def grey(x: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W): 0.299 R + 0.587 G + 0.114 B, in whole levels."""
    weights = torch.tensor(GREY, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True).round()


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, each image with its own sigma, borders mirrored."""
    n, channels, height, width = x.shape
    taps = kernel_side(height)
    at = torch.arange(taps, device=x.device) - taps // 2
    kernel = torch.exp(-0.5 * (at / sigma.view(n, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = functional.pad(x.reshape(1, -1, height, width), (taps // 2,) * 4, mode="reflect")
    for shape in ((-1, 1, taps, 1), (-1, 1, 1, taps)):
        flat = functional.conv2d(flat, kernel.view(shape), groups=n * channels)
    return flat.view(n, channels, height, width)


def _change(x: Tensor, chosen: Tensor, operation: Operation, parameter: Tensor) -> None:
    """Apply an operation to the chosen images, in place and in whole levels.

    Args:
        x: (N, 3, H, W), levels.
        chosen: bool (N,), on the CPU.
        operation: of (n, 3, H, W) and (n, 1, 1, 1).
        parameter: (N,), on the CPU.
    """
    places = chosen.nonzero()[:, 0]
    if len(places):
        on_device = places.to(x.device, non_blocking=True)
        values = parameter[places].to(x.device, non_blocking=True).view(-1, 1, 1, 1)
        x[on_device] = operation(x[on_device], values).round().clamp(0, 255)
