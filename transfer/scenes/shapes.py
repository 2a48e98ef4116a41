"""The shapes of the drawn scenes, their textures, and how one is painted.

A scene has to have the same pixels on every machine. So its random numbers are made by hand from
Philox's raw stream, which numpy promises to keep (its distributions it does not), and the pixels
come from operations whose results IEEE 754 fixes: + - * /, floor, square root and comparisons.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CATEGORIES: tuple[str, ...] = ("disc", "square", "triangle", "star", "cross")
SUBPIXELS = 3  # a side; odd, so that one sample falls on the pixel's centre and gives the mask

Array = np.ndarray


class Dice:
    """Random numbers that depend on the key alone, not on numpy's version."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256(repr(key).encode()).digest()
        self._stream = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Floats in [low, high): the upper 53 bits of each raw number as a fraction."""
        raw = self._stream.random_raw(int(np.prod(shape)))
        fraction = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + fraction.reshape(shape) * (high - low)

    def number(self, low: float, high: float) -> float:
        return float(self.uniform(low, high, (1,))[0])

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high."""
        return low + int(self.number(0.0, 1.0) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.number(0.0, 1.0) < probability


# ---------------------------------------------------------------------------------------- shapes
# A shape is its gauge: 1 on the outline, less inside, growing linearly along each ray from the
# centre. u and v are coordinates in units of the radius.


def _disc(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v)


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) / 0.84


def _triangle(u: Array, v: Array) -> Array:
    lean = 0.8660254037844386 * np.abs(u) - 0.5 * v
    return np.maximum(v, lean) / 0.6


def _star(u: Array, v: Array) -> Array:
    arms = ((0.0, -1.0), (0.951, -0.309), (0.588, 0.809), (-0.588, 0.809), (-0.951, -0.309))
    along = np.maximum.reduce([u * x + v * y for x, y in arms])  # to the nearest arm's axis
    across = np.sqrt(np.maximum(u * u + v * v - along * along, 0.0))
    return (along + 2.0 * across) / 1.15


def _cross(u: Array, v: Array) -> Array:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v), np.minimum(u, v) / 0.36)


# -------------------------------------------------------------------------------------- textures
# A texture says how much of the second colour a point has, from 0 to 1.


def _rings(u: Array, v: Array, gauge: Array) -> Array:
    return np.floor(gauge * 4.0) % 2


def _checks(u: Array, v: Array, gauge: Array) -> Array:
    return (np.floor(u * 3.0) + np.floor(v * 3.0)) % 2


def _stripes(u: Array, v: Array, gauge: Array) -> Array:
    return np.floor(v * 5.0) % 2


def _gradient(u: Array, v: Array, gauge: Array) -> Array:
    return np.clip(1.0 - gauge, 0.0, 1.0)


def _dots(u: Array, v: Array, gauge: Array) -> Array:
    x, y = (u * 2.8 + 0.5) % 1 - 0.5, (v * 2.8 + 0.5) % 1 - 0.5
    return np.asarray(x * x + y * y < 0.09, dtype=np.float64)


LOOKS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "disc": (_disc, _rings),
    "square": (_square, _checks),
    "triangle": (_triangle, _stripes),
    "star": (_star, _gradient),
    "cross": (_cross, _dots),
}


@dataclass(frozen=True)
class Shape:
    """Where and how one shape is drawn; lengths in pixels."""

    category: str
    x: float
    y: float
    radii: tuple[float, float]
    turn: tuple[float, float]  # cosine and sine
    colours: Array  # (2, 3)


def random_turn(dice: Dice) -> tuple[float, float]:
    """A rotation by up to half a right angle either way, without sine or cosine."""
    t = dice.number(-0.41, 0.41)
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def random_colours(dice: Dice) -> Array:
    """A vivid colour and a light or dark one to go with it, (2, 3)."""
    hue = dice.number(0.0, 6.0)
    wheel = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    vivid = 40 + 205 * wheel
    other = 0.25 * vivid + 180 if dice.chance(0.6) else 0.3 * vivid
    return np.stack([vivid, other])


def paint(canvas: Array, shape: Shape) -> Array:
    """Draws a shape with a shadow on (H*S, W*S, 3); returns its mask (H, W), S = SUBPIXELS."""
    high, wide = canvas.shape[:2]
    reach = 1.2 * max(shape.radii)
    x0, x1 = _span(shape.x, reach, wide)
    y0, y1 = _span(shape.y, reach, high)
    dx = (np.arange(x0, x1) + 0.5)[None, :] / SUBPIXELS - shape.x
    dy = (np.arange(y0, y1) + 0.5)[:, None] / SUBPIXELS - shape.y
    cos, sin = shape.turn
    u = (dx * cos + dy * sin) / shape.radii[0]
    v = (dy * cos - dx * sin) / shape.radii[1]
    outline, texture = LOOKS[shape.category]
    gauge = outline(u, v)
    inside = gauge < 1.0

    share = texture(u, v, gauge)[..., None]
    colour = shape.colours[0] * (1 - share) + shape.colours[1] * share
    colour = np.where((gauge > 0.9)[..., None], 0.35 * shape.colours[0], colour)  # a dark rim
    colour = np.clip(colour * (1.0 - 0.12 * v)[..., None], 0, 255)  # lit from above
    patch = canvas[y0:y1, x0:x1]
    shadow = np.zeros_like(inside)
    drop = max(SUBPIXELS, int(min(shape.radii) * SUBPIXELS) // 8)
    shadow[drop:, drop:] = inside[:-drop, :-drop]
    patch[shadow] = patch[shadow] // 2
    patch[inside] = colour[inside].astype(np.uint8)

    fine = np.zeros((high, wide), dtype=bool)
    fine[y0:y1, x0:x1] = inside
    return fine[SUBPIXELS // 2 :: SUBPIXELS, SUBPIXELS // 2 :: SUBPIXELS].copy()


def _span(centre: float, reach: float, end: int) -> tuple[int, int]:
    first, last = int((centre - reach) * SUBPIXELS), int((centre + reach) * SUBPIXELS)
    return max(0, first), min(end, last + 2)
