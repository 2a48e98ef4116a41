"""Composes a scene: clutter behind, then objects and crowds that occlude one another."""

from dataclasses import dataclass

import numpy as np

from transfer.scenes.shapes import (
    CATEGORIES,
    SUBPIXELS,
    Array,
    Dice,
    Shape,
    paint,
    random_colours,
    random_turn,
)

DRAWING_VERSION = 1  # raise it with every change that alters a pixel or a mask

PLACEMENTS = 8  # attempts to place an object before the scene does without it
MIN_VISIBLE_PIXELS = 12
MIN_VISIBLE_SHARE = 0.4  # of an object's own pixels, once everything in front of it is drawn
SHORTEST_SIDE = 64  # pixels; on less, crowds and tiny objects have no shape left

# Radii in pixels for a picture whose shorter side is 128; other pictures scale them.
LARGE, SMALL, TINY, IN_CROWD = (20.0, 34.0), (11.0, 20.0), (4.5, 7.0), (4.5, 6.0)


@dataclass(frozen=True)
class Instance:
    """One annotated object, or one crowd of small objects of a category."""

    category: str
    crowd: bool
    visible: Array  # (H, W) bool: the pixels at which nothing stands in front of it
    parts: tuple[Array, ...]  # (H, W) bool each, back to front, occluded pixels included


@dataclass(frozen=True)
class Scene:
    """A picture and its instances, ordered back to front."""

    image: Array  # (H, W, 3) uint8, RGB
    instances: tuple[Instance, ...]


def draw_scene(
    seed: int, index: int, size: tuple[int, int] = (128, 128), split: str = "train"
) -> Scene:
    """Draws the scene of that number; the four arguments fix every pixel.

    Args:
        seed: a different one gives unrelated scenes.
        index: the scene's number within its split.
        size: width and height in pixels, 64 or more each.
        split: scenes of "train" and "val" share nothing.

    Returns:
        The picture (height, width, 3) and its instances; every instance shows at least 12 pixels
        and 40 % of its own area.

    Raises:
        ValueError: the size is too small to hold a scene.
    """
    width, height = size
    if min(size) < SHORTEST_SIDE:
        raise ValueError(
            f"Scenes of {width}x{height} pixels are too small: both sides need {SHORTEST_SIDE} or "
            "more. Ask for a larger size, such as 128x128."
        )
    dice = Dice("scene", int(seed), str(split), int(index), int(width), int(height))
    backdrop = _backdrop(dice, width, height)
    canvas = np.repeat(np.repeat(backdrop, SUBPIXELS, axis=0), SUBPIXELS, axis=1)

    owner = np.zeros((height, width), dtype=np.int64)  # 0: nothing, else the object in front
    placed: list[tuple[str, bool, tuple[Array, ...]]] = []
    for category, crowd, radius in _cast(dice, width, height):
        for _ in range(PLACEMENTS):
            trial = canvas.copy()
            shapes = _arrange(dice, category, crowd, radius, width, height)
            parts = tuple(paint(trial, shape) for shape in shapes)
            claimed = np.where(np.logical_or.reduce(parts), len(placed) + 1, owner)
            if _all_show(claimed, [others for _, _, others in placed] + [parts]):
                canvas, owner = trial, claimed
                placed.append((category, crowd, parts))
                break

    instances = tuple(
        Instance(category, crowd, owner == place, parts)
        for place, (category, crowd, parts) in enumerate(placed, start=1)
    )
    return Scene(_develop(canvas, dice), instances)


def _cast(dice: Dice, width: int, height: int) -> list[tuple[str, bool, float]]:
    """What appears: (category, is it a crowd, radius in pixels), large objects behind small."""
    scale = min(width, height) / 128
    room = max(width, height) / min(width, height)
    cast = []
    for _ in range(int(dice.integer(2, 6) * room)):
        low, high = TINY if dice.chance(0.1) else LARGE if dice.chance(0.45) else SMALL
        cast.append((CATEGORIES[dice.integer(0, 4)], False, scale * dice.number(low, high)))
    cast.sort(key=lambda entry: -entry[2])
    if dice.chance(0.15):
        crowd = (CATEGORIES[dice.integer(0, 4)], True, scale * dice.number(*IN_CROWD))
        cast.insert(dice.integer(0, len(cast)), crowd)
    return cast


def _arrange(
    dice: Dice, category: str, crowd: bool, radius: float, width: int, height: int
) -> list[Shape]:
    """One shape at a random place, or a crowd's shapes packed in rows; centres in the picture."""
    colours = random_colours(dice)
    x = dice.number(0.6 * radius, width - 0.6 * radius)
    y = dice.number(0.6 * radius, height - 0.6 * radius)
    if not crowd:
        radii = (radius * dice.number(0.85, 1.0), radius * dice.number(0.85, 1.0))
        return [Shape(category, x, y, radii, random_turn(dice), colours)]
    rows, columns, pitch = dice.integer(2, 3), dice.integer(3, 5), 1.7 * radius
    left = min(max(x, radius), width - radius - pitch * (columns - 0.5))
    top = min(max(y, radius), height - radius - pitch * (rows - 1))
    shapes = []
    for row in range(rows):
        for column in range(columns):
            at_x = left + pitch * (column + 0.5 * (row % 2)) + radius * dice.number(-0.3, 0.3)
            at_y = top + pitch * row + radius * dice.number(-0.3, 0.3)
            radii = (radius, radius)
            shapes.append(Shape(category, at_x, at_y, radii, random_turn(dice), colours))
    return shapes


def _all_show(owner: Array, placed: list[tuple[Array, ...]]) -> bool:
    """Whether every object keeps enough visible pixels to be told."""
    shown = np.bincount(owner.ravel(), minlength=len(placed) + 1)[1:]
    own = [int(np.logical_or.reduce(parts).sum()) for parts in placed]
    return all(
        visible >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * whole)
        for visible, whole in zip(shown, own, strict=True)
    )


def _backdrop(dice: Dice, width: int, height: int) -> Array:
    """Muted cloudy colours with lines and small blobs on them, (H, W, 3) uint8."""
    scale = min(width, height) / 128
    picture = dice.number(70, 150) + _clouds(dice, width, height, 48 * scale, 40.0)
    picture += _clouds(dice, width, height, 12 * scale, 14.0)
    columns, rows = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
    room = max(width, height) / min(width, height)
    for _ in range(int(dice.integer(4, 9) * room)):  # lines: distance to a segment
        x, y = dice.number(0, width), dice.number(0, height)
        run, rise = dice.number(-70, 70) * scale, dice.number(-70, 70) * scale
        dx, dy = columns - x, rows - y
        share = np.clip((dx * run + dy * rise) / (run * run + rise * rise + 1), 0, 1)
        dx, dy = dx - share * run, dy - share * rise
        away = np.sqrt(dx * dx + dy * dy)
        _blend(picture, np.clip(dice.number(0.6, 1.6) * scale - away + 0.5, 0, 1), dice)
    for _ in range(int(dice.integer(6, 14) * room)):  # blobs: soft ellipses
        dx, dy = columns - dice.number(0, width), rows - dice.number(0, height)
        wide, high = dice.number(1.5, 5.0) * scale, dice.number(1.5, 5.0) * scale
        gauge = np.sqrt(dx * dx / (wide * wide) + dy * dy / (high * high))
        _blend(picture, np.clip((1 - gauge) * min(wide, high) + 0.5, 0, 1), dice)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _clouds(dice: Dice, width: int, height: int, cell: float, strength: float) -> Array:
    """Smooth noise of that cell size in pixels, within +-strength; nearly grey, (H, W, 3)."""
    shape = (int(height / cell) + 2, int(width / cell) + 2)
    knots = dice.uniform(-1, 1, (*shape, 1)) + 0.35 * dice.uniform(-1, 1, (*shape, 3))
    y, x = np.arange(height) / cell, np.arange(width) / cell
    top, left = y.astype(np.int64), x.astype(np.int64)
    down, right = (y - top)[:, None, None], (x - left)[None, :, None]
    down, right = down * down * (3 - 2 * down), right * right * (3 - 2 * right)
    upper = knots[top][:, left] * (1 - right) + knots[top][:, left + 1] * right
    lower = knots[top + 1][:, left] * (1 - right) + knots[top + 1][:, left + 1] * right
    return strength * (upper * (1 - down) + lower * down)


def _blend(picture: Array, cover: Array, dice: Dice) -> None:
    """Lays a muted colour over the picture where cover (H, W), 0 to 1, says so."""
    colour = dice.number(30, 210) + dice.uniform(-25, 25, (3,))
    picture += cover[..., None] * (colour - picture)


def _develop(canvas: Array, dice: Dice) -> Array:
    """Averages the subpixels and adds grain; whole numbers all along, (H, W, 3) uint8."""
    total = np.zeros((canvas.shape[0] // SUBPIXELS, canvas.shape[1] // SUBPIXELS, 3), np.int64)
    for row in range(SUBPIXELS):
        for column in range(SUBPIXELS):
            total += canvas[row::SUBPIXELS, column::SUBPIXELS]
    grain = np.floor(dice.uniform(-7, 8, total.shape)).astype(np.int64)
    return np.clip(total // SUBPIXELS**2 + grain, 0, 255).astype(np.uint8)
