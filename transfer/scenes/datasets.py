"""The embedded data: drawn scenes as a dataset in COCO's or in Cityscapes' own format."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from results.record.files import regular_file
from transfer.scenes.drawing import DRAWING_VERSION, draw_scene
from transfer.scenes.formats import write_cityscapes_split, write_coco_split

CARD = "scenes.json"  # written into a finished folder: its parameters, fingerprint and files
WRITERS: dict[str, Callable[..., None]] = {
    "coco": write_coco_split,
    "cityscapes": write_cityscapes_split,
}


@dataclass(frozen=True)
class SceneFolder:
    """A finished folder of drawn scenes."""

    root: Path
    fingerprint: str  # sha256 over all pixels, masks and annotations
    reused: bool  # it was there already


def write_scenes(
    layout: str,
    root: str | Path,
    train: int,
    val: int,
    size: tuple[int, int],
    seed: int,
    progress: bool = False,
) -> SceneFolder:
    """Draw scenes into a folder that appears when it is complete; the same one is reused.

    Args:
        layout: ``coco`` writes train2017/, val2017/ and annotations/instances_{train,val}2017.json,
            ``cityscapes`` leftImg8bit/{train,val}/<city>/ and gtFine/{train,val}/<city>/, where
            the five categories are person, car, rider, bicycle and motorcycle, and crowds
            persongroup, cargroup, ...
        root: the dataset's folder; must not exist, be empty, or hold the same scenes.
        train: number of training scenes.
        val: number of validation scenes.
        size: width and height of every picture in pixels.
        seed: fixes every pixel, together with size.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: an impossible count, size or seed, or a root that holds something else.
    """
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
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        return finished_scenes(root, parameters)
    digest = hashlib.sha256()
    with appearing_when_complete(root) as folder:
        for split, count in (("train", train), ("val", val)):
            indices = tqdm(
                range(1, count + 1), f"{layout} {split}", disable=not progress, mininterval=1
            )
            scenes = (draw_scene(seed, index, size, split) for index in indices)
            WRITERS[layout](folder, split, scenes, digest)
        fingerprint, files = digest.hexdigest(), sorted(_files(folder))
        card = {"parameters": parameters, "fingerprint": fingerprint, "files": files}
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return SceneFolder(root, fingerprint, reused=False)


write_coco, write_cityscapes = (partial(write_scenes, layout) for layout in WRITERS)


def finished_scenes(root: Path, wanted: dict[str, Any]) -> SceneFolder:
    """The scenes that a folder holds already.

    Raises:
        ValueError: it is no folder of scenes, has others than wanted, or has lost a file.
    """
    otherwise = f"Choose another folder, or delete this one: rm -r {root}"
    try:
        card = json.loads(regular_file(root / CARD).read_text(encoding="utf-8"))
        found, fingerprint, files = card["parameters"], card["fingerprint"], set(card["files"])
        differing = [name for name in wanted if found.get(name) != wanted[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{root} exists and was not written by transfer.scenes. {otherwise}"
        ) from error
    if differing:
        there = ", ".join(f"{name} {found.get(name)}" for name in differing)
        here = ", ".join(f"{name} {wanted[name]}" for name in differing)
        raise ValueError(
            f"{root} holds other scenes: {there}, where {here} was asked for. {otherwise}"
        )
    if missing := sorted(files - _files(root)):
        raise ValueError(
            f"{root} lacks {len(missing)} of the {len(files)} files that were written, such as "
            f"{missing[0]}. {otherwise}"
        )
    return SceneFolder(root, fingerprint, reused=True)


def _files(folder: Path) -> set[str]:
    """The relative names of all files in a folder."""
    return {
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)
        for name in names
    }


@contextmanager
def appearing_when_complete(root: Path) -> Iterator[Path]:
    """A folder beside root that becomes root if the block ends well and goes away otherwise.

    What a killed process has left of one goes away too.
    """
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
    with suppress(PermissionError):  # somebody else's
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True
