"""The embedded data: drawn scenes as a dataset in COCO's or in Cityscapes' own format.

    python -m transfer.scenes OUT --format coco --train 240 --val 60 --size 128x128 --seed 0

The pictures alone (OUT/train2017) also serve as the unlabelled pretraining set.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from results.record.files import regular_file
from transfer.scenes.drawing import DRAWING_VERSION, Instance, Scene, draw_scene
from transfer.scenes.formats import write_cityscapes_split, write_coco_split
from transfer.scenes.shapes import CATEGORIES

__all__ = [
    "CATEGORIES",
    "Instance",
    "Scene",
    "SceneFolder",
    "draw_scene",
    "write_cityscapes",
    "write_coco",
]

CARD = "scenes.json"  # written into a finished folder: its parameters, fingerprint and files
_WRITERS: dict[str, Callable[..., None]] = {
    "coco": write_coco_split,
    "cityscapes": write_cityscapes_split,
}


@dataclass(frozen=True)
class SceneFolder:
    """A finished folder of drawn scenes."""

    root: Path
    parameters: dict[str, Any]
    fingerprint: str  # sha256 over all pixels, masks and annotations
    reused: bool  # it was there already


def write_coco(
    root: str | Path,
    train: int = 240,
    val: int = 60,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    progress: bool = False,
) -> SceneFolder:
    """Writes train2017/, val2017/ and annotations/instances_{train,val}2017.json.

    The folder appears when it is complete, not before. One with the same parameters is reused.

    Args:
        root: the dataset's folder; must not exist, be empty, or hold the same scenes.
        train: number of training scenes.
        val: number of validation scenes.
        size: width and height of every picture in pixels.
        seed: fixes every pixel, together with size.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: an impossible count, size or seed, or a root that holds something else.
    """
    return _write("coco", root, train, val, size, seed, progress)


def write_cityscapes(
    root: str | Path,
    train: int = 120,
    val: int = 30,
    size: tuple[int, int] = (256, 128),
    seed: int = 0,
    progress: bool = False,
) -> SceneFolder:
    """Writes leftImg8bit/{train,val}/<city>/ and gtFine/{train,val}/<city>/.

    Arguments, return value and errors are those of write_coco. The five categories take the
    labels person, car, rider, bicycle and motorcycle; crowds are persongroup, cargroup, ...
    """
    return _write("cityscapes", root, train, val, size, seed, progress)


def _write(
    layout: str,
    root: str | Path,
    train: int,
    val: int,
    size: tuple[int, int],
    seed: int,
    progress: bool,
) -> SceneFolder:
    root = Path(root)
    for name, value, least in (("train", train, 1), ("val", val, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; scenes need {least} or more.")
    draw_scene(seed, 1, size)  # refuses an impossible size before anything is written
    parameters = {
        "format": layout,
        "train": train,
        "val": val,
        "size": list(size),
        "seed": seed,
        "drawing_version": DRAWING_VERSION,
    }
    finished = _finished(root, parameters)
    if finished is not None:
        return finished

    digest = hashlib.sha256()
    with _appearing_when_complete(root) as folder:
        for split, count in (("train", train), ("val", val)):
            name = f"{layout} {split}"
            indices = tqdm(range(1, count + 1), name, disable=not progress, mininterval=1)
            scenes = (draw_scene(seed, index, size, split) for index in indices)
            _WRITERS[layout](folder, split, scenes, digest)
        card = {
            "parameters": parameters,
            "fingerprint": digest.hexdigest(),
            "files": sorted(_files(folder)),
        }
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return SceneFolder(root, parameters, digest.hexdigest(), reused=False)


def _finished(root: Path, wanted: dict[str, Any]) -> SceneFolder | None:
    """The scenes that root already holds; None where there is nothing yet."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    mend = f"Choose another folder, or delete this one: rm -r {root}"
    try:
        card = json.loads(regular_file(root / CARD).read_text(encoding="utf-8"))
        found, fingerprint, files = card["parameters"], card["fingerprint"], set(card["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{root} exists and was not written by transfer.scenes. {mend}") from error
    if found != wanted:
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        there = ", ".join(f"{key} {found.get(key)}" for key in differing)
        here = ", ".join(f"{key} {wanted[key]}" for key in differing)
        raise ValueError(f"{root} holds other scenes: {there}, where {here} was asked for. {mend}")
    missing = sorted(files - _files(root))
    if missing:
        raise ValueError(
            f"{root} lacks {len(missing)} of the {len(files)} files that were written, such as "
            f"{missing[0]}. {mend}"
        )
    return SceneFolder(root, wanted, fingerprint, reused=True)


def _files(folder: Path) -> set[str]:
    """The relative names of all files in a folder."""
    return {
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)
        for name in names
    }


@contextmanager
def _appearing_when_complete(root: Path) -> Iterator[Path]:
    """A folder beside root that becomes root if the block ends well and goes away otherwise."""
    root.parent.mkdir(parents=True, exist_ok=True)
    for left_over in root.parent.glob(f".{root.name}.partial-*"):
        if not _is_running(int(left_over.name.rpartition("-")[2])):
            shutil.rmtree(left_over)
    folder = root.with_name(f".{root.name}.partial-{os.getpid()}")
    try:
        folder.mkdir()
        yield folder
        os.replace(folder, root)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 128x128")
    return int(width), int(height)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m transfer.scenes", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the dataset's folder")
    parser.add_argument("--format", choices=sorted(_WRITERS), default="coco")
    parser.add_argument("--train", type=int, default=240, help="scenes for training")
    parser.add_argument("--val", type=int, default=60, help="scenes for validation")
    parser.add_argument("--size", type=_size, help="default 128x128, Cityscapes 256x128")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    size = options.size or ((128, 128) if options.format == "coco" else (256, 128))
    try:
        folder = _write(
            options.format, options.out, options.train, options.val, size, options.seed, True
        )
    except (ValueError, OSError) as error:
        print(f"transfer.scenes: {error}", file=sys.stderr)
        return 2
    verb = "reused" if folder.reused else "wrote"
    print(
        f"{verb} {options.train} + {options.val} scenes of {size[0]}x{size[1]} in {folder.root} "
        f"(sha256 {folder.fingerprint[:16]})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
