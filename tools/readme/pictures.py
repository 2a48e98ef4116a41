"""README's pictures. Each says in itself what it was drawn from, so that a stale one is seen.

A PNG's bytes change with matplotlib's version, so what is compared is a digest of its sources,
which stands in the file under `DRAWN_FROM`.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin

from pretrain.costs.footprint_plot import memory_against_time
from results.figures.artifacts import losses_by_method
from results.figures.plots import decoder_curves
from results.record.files import write_atomically
from results.tables.load import load_records

DRAWN_FROM = "Drawn from"
COLOURS = 128  # enough for lines and letters, a third of the bytes


@dataclass(frozen=True)
class Picture:
    """A PNG below the folder of measurements."""

    file: str
    sources: str  # a glob below that folder
    draw: Callable[[Path], Figure]  # from that folder


def digest(picture: Picture, measured: Path) -> str:
    """Of names and bytes of all that a picture is drawn from.

    Raises:
        FileNotFoundError: there is no such file.
    """
    files = sorted(measured.glob(picture.sources))
    if not files:
        raise FileNotFoundError(f"found no {measured / picture.sources}, expected the sources of "
                                f"{picture.file}")  # fmt: skip
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(measured).as_posix()}\n".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def is_current(picture: Picture, measured: Path) -> bool:
    """Whether a picture is there and was drawn from its sources as they are."""
    path = measured / picture.file
    if not path.is_file():
        return False
    with Image.open(path, formats=("PNG",)) as image:
        return image.info.get(DRAWN_FROM) == digest(picture, measured)


def write(picture: Picture, measured: Path) -> Path:
    """Draw it and write it with the digest of its sources."""
    plain, small = io.BytesIO(), io.BytesIO()
    picture.draw(measured).savefig(plain, format="png", dpi=130)
    said = PngImagePlugin.PngInfo()
    said.add_text(DRAWN_FROM, digest(picture, measured))
    with Image.open(plain) as image:
        image.convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True, pnginfo=said)
    return write_atomically(measured / picture.file, small.getvalue())


def _footprint(encoder: str) -> Picture:
    report = f"footprint_{encoder}_cpu.json"
    return Picture(
        file=f"footprint_{encoder}_cpu.png",
        sources=report,
        draw=lambda measured: memory_against_time(json.loads((measured / report).read_text())),
    )


def _demo_losses(measured: Path) -> Figure:
    (frames,) = losses_by_method(load_records([measured / "demo"])[0]).values()
    return decoder_curves(frames)


PICTURES = (
    _footprint("resnet50"),
    _footprint("presnet50"),
    Picture("demo_losses.png", "demo/pretrain_*/*", _demo_losses),
)
