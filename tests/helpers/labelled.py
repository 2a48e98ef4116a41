"""Class folders of small drawn images for the tests of the readout."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (0, 40, 220), "green": (10, 200, 30), "red": (220, 20, 20)}
SIDE = 32


def write_colours(root: Path, train: int = 12, val: int = 4, seed: int = 0) -> Path:
    """Three classes, each a colour under noise: linearly separable by any encoder's features."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) + random.integers(-30, 30, size=(SIDE, SIDE, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / f"{number:02d}.png")
    return root
