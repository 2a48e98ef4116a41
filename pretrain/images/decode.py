"""Image files to RGB pixels, a JPEG no larger than its crops need.

What a file is, its content says, not its name. Formats beyond the four are refused: Pillow would
hand some of them to other programs.
"""

import errno
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from pretrain.images.augment import View
from pretrain.images.colour import Pixels

# What Pillow raises for files that are not, or not wholly, what they should be.
PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 64_000_000  # of a palette, on the way to RGB, they take just under 1 GiB
JPEG_SCALES = (8, 4, 2)  # the inverse cosine transform at such a fraction costs less


class UnreadableImage(ValueError):
    """A file that was read, and is no whole image."""


def reduction(views: Sequence[View], size: int) -> int:
    """1, 2, 4 or 8: the most that an image can shrink with ``size`` pixels left in every crop."""
    shortest = min(min(view.height, view.width) for view in views)
    return next((scale for scale in JPEG_SCALES if shortest >= scale * size), 1)


def open_image(path: Path) -> ImageFile.ImageFile:
    """Read the header: ``height``, ``width`` and ``mode`` are known, nothing is decoded.

    Raises:
        UnreadableImage: the file is empty, is no image of FORMATS, or too large.
        FileNotFoundError: it is gone.
        OSError: it cannot be read.
    """
    with _unreadable(path):
        image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UnreadableImage(
            f"{image.width} x {image.height} pixels, expected {MAX_PIXELS:,} at most"
        )
    return image


def decode(image: ImageFile.ImageFile, scale: int = 1) -> Pixels:
    """Pixels of an opened image: uint8 (height, width, 3).

    16-bit grey keeps its upper 8 bits; palettes, CMYK and grey become RGB; transparency is dropped.
    EXIF's orientation is ignored, as by torchvision and SimCLR: photographs lie as they are stored.

    Args:
        image: from :func:`open_image`.
        scale: a JPEG is decoded at 1/``scale`` of its height and width, other formats are not.

    Raises:
        UnreadableImage: the file is broken or truncated.
        OSError: it cannot be read any more.
    """
    with _unreadable(str(image.filename)):
        if scale > 1:
            image.draft(image.mode, (image.width // scale, image.height // scale))
        if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
            levels = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
            return np.repeat(levels[..., None], 3, axis=2)
        # by way of RGBA, since Pillow warns of palettes with transparency
        opaque = image.convert("RGBA") if image.mode == "P" else image
        return np.array(opaque.convert("RGB"))


@contextmanager
def _unreadable(path: str | Path) -> Iterator[None]:
    """Tell a file that is no image from one that has vanished, and from one that cannot be read."""
    try:
        yield
    except PILLOW_ERRORS as error:
        # A file system's error has a number; EINVAL is Pillow's, sent to a place before the file.
        if not isinstance(error, OSError) or error.errno in (None, errno.EINVAL):
            raise UnreadableImage(f"{type(error).__name__}: {error}") from error
        if error.errno in GONE:
            raise FileNotFoundError(
                f"image {path} was listed, and has vanished since; put it back, or list the images "
                "anew and start another run"
            ) from error
        raise OSError(
            f"image {path} cannot be read ({error.strerror}); repair that or permit it to this user"
        ) from error
