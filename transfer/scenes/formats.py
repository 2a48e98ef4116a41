"""Writes drawn scenes as COCO and as Cityscapes lay out theirs on disk.

Both keep polygons, and the drawn masks are made of pixels. COCO's polygons run along the edges
between pixels, so that they cover exactly the visible pixels; Cityscapes' run through the centres
of an object's outermost pixels and are painted back to front, so that cityscapesScripts regenerate
exactly the images that are written here.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transfer.scenes.drawing import Instance, Scene
from transfer.scenes.shapes import CATEGORIES, Array

# COCO's category ids start at 1 and have gaps; so have these, and a reader that takes a place in
# the list for an id is found out.
COCO_IDS = dict(zip(CATEGORIES, (1, 2, 3, 5, 8), strict=True))
# Cityscapes' names and ids, of the eight classes that have instances.
CITYSCAPES_LABELS = {
    "disc": ("person", 24),
    "square": ("car", 26),
    "triangle": ("rider", 25),
    "star": ("bicycle", 33),
    "cross": ("motorcycle", 32),
}
CITYSCAPES_STUFF = (("building", 11), ("road", 7))  # upper and lower half of the background
CITIES = {"train": "musterstadt", "val": "beispielburg"}

Point = tuple[int, int]
Loop = list[Point]
Walk = list[tuple[Point, Point]]  # where an edge starts, and the way it runs
RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)
TURN_LEFT = {RIGHT: UP, UP: LEFT, LEFT: DOWN, DOWN: RIGHT}


def write_coco_split(root: Path, split: str, scenes: Iterable[Scene], digest: Any) -> None:
    """Writes <split>2017/*.png and annotations/instances_<split>2017.json; feeds the digest."""
    folder = root / f"{split}2017"
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        height, width = scene.image.shape[:2]
        name = f"{image_id:012d}.png"
        _save(folder / name, scene.image, digest)
        images.append(
            {"id": image_id, "file_name": name, "width": width, "height": height, "license": 1}
        )
        for instance in scene.instances:
            entry = {"id": len(annotations) + 1, "image_id": image_id, **_coco_fields(instance)}
            annotations.append(entry)
    document = {
        "info": {"description": f"Drawn instance scenes, {split}", "version": "1.0"},
        "licenses": [{"id": 1, "name": "Drawn by a program; free to use", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": COCO_IDS[name], "name": name, "supercategory": "shape"} for name in CATEGORIES
        ],
    }
    (root / "annotations").mkdir(exist_ok=True)
    _save_json(root / "annotations" / f"instances_{split}2017.json", document, digest)


def _coco_fields(instance: Instance) -> dict[str, Any]:
    mask = instance.visible
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    segmentation: Any = rle(mask)
    if not instance.crowd:
        segmentation = [[number for point in loop for number in point] for loop in polygons(mask)]
    return {
        "category_id": COCO_IDS[instance.category],
        "iscrowd": int(instance.crowd),
        "area": int(mask.sum()),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "segmentation": segmentation,
    }


def write_cityscapes_split(root: Path, split: str, scenes: Iterable[Scene], digest: Any) -> None:
    """Writes leftImg8bit/<split>/ and gtFine/<split>/ for one city; feeds the digest."""
    city = CITIES[split]
    pictures, truth = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    pictures.mkdir(parents=True)
    truth.mkdir(parents=True)
    for number, scene in enumerate(scenes):
        stem = f"{city}_{number:06d}_000019"
        objects, label_ids, instance_ids = _cityscapes_truth(scene)
        height, width = label_ids.shape
        document = {"imgHeight": height, "imgWidth": width, "objects": objects}
        _save(pictures / f"{stem}_leftImg8bit.png", scene.image, digest)
        _save(truth / f"{stem}_gtFine_labelIds.png", label_ids.astype(np.uint8), digest)
        _save(truth / f"{stem}_gtFine_instanceIds.png", instance_ids.astype(np.uint16), digest)
        _save_json(truth / f"{stem}_gtFine_polygons.json", document, digest)


def _cityscapes_truth(scene: Scene) -> tuple[list[dict[str, Any]], Array, Array]:
    """The polygons back to front, and the label and instance ids (H, W) that they paint."""
    height, width = scene.image.shape[:2]
    label_ids = np.zeros((height, width), dtype=np.int64)
    objects: list[dict[str, Any]] = []
    for (name, label_id), top in zip(CITYSCAPES_STUFF, (0, height // 2), strict=True):
        label_ids[top:] = label_id
        corners = [[0, top], [width - 1, top], [width - 1, height - 1], [0, height - 1]]
        objects.append({"label": name, "polygon": corners})
    instance_ids = label_ids.copy()
    count = dict.fromkeys(CATEGORIES, 0)
    for instance in scene.instances:
        name, label_id = CITYSCAPES_LABELS[instance.category]
        instance_id = label_id if instance.crowd else label_id * 1000 + count[instance.category]
        count[instance.category] += not instance.crowd
        for part in instance.parts:
            polygon = [list(point) for point in outermost_pixels(part)]
            objects.append({"label": name + "group" * instance.crowd, "polygon": polygon})
            label_ids[part], instance_ids[part] = label_id, instance_id
    return objects, label_ids, instance_ids


def rle(mask: Array) -> dict[str, Any]:
    """COCO's uncompressed run lengths: down the columns, starting with a run of zeros."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], ends, [flat.size]))).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def polygons(mask: Array) -> list[Loop]:
    """Polygons along pixel edges that cover exactly the mask; a mask with holes is cut in two."""
    loops = [[edge[0] for edge in loop] for loop in _boundaries(mask)]
    for loop in loops:
        if _doubled_area(loop) < 0:  # runs the other way round: a hole
            row = (min(y for _, y in loop) + max(y for _, y in loop)) // 2
            upper, lower = mask.copy(), mask.copy()
            upper[row:], lower[:row] = False, False
            return polygons(upper) + polygons(lower)
    return [_without_straight_points(loop) for loop in loops]


def outermost_pixels(mask: Array) -> Loop:
    """The polygon through the outermost pixels of a mask that is one piece without holes."""
    (loop,) = _boundaries(mask)
    # The pixel on the right of an edge, by the way the edge runs.
    aside = {RIGHT: (0, 0), DOWN: (-1, 0), LEFT: (-1, -1), UP: (0, -1)}
    pixels = [(x + aside[way][0], y + aside[way][1]) for (x, y), way in loop]
    return _without_straight_points(
        [pixel for place, pixel in enumerate(pixels) if pixel != pixels[place - 1]]
    )


def _boundaries(mask: Array) -> list[Walk]:
    """The closed walks along pixel edges that keep the mask on their right."""
    padded = np.pad(mask, 1).astype(np.int8)
    down, across = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    ways: dict[Point, set[Point]] = {}
    for changes, value, way, offset in (
        (down, 1, RIGHT, (0, 0)),
        (down, -1, LEFT, (1, 0)),
        (across, 1, UP, (0, 1)),
        (across, -1, DOWN, (0, 0)),
    ):
        for y, x in np.argwhere(changes == value).tolist():
            ways.setdefault((x + offset[0], y + offset[1]), set()).add(way)
    walks = []
    while ways:
        start = point = min(ways, key=lambda corner: (corner[1], corner[0]))
        (way,) = ways[point]  # nothing is left above, so the walks through here are one
        walk: Walk = []
        while not walk or point != start:
            walk.append((point, way))
            ways[point].remove(way)
            if not ways[point]:
                del ways[point]
            point = (point[0] + way[0], point[1] + way[1])
            if point != start:  # with two ways on, pixels touch at a corner: one walk joins them
                way = TURN_LEFT[way] if len(ways[point]) > 1 else next(iter(ways[point]))
        walks.append(walk)
    return walks


def _doubled_area(loop: Loop) -> int:
    """Twice the enclosed area, negative where the loop runs anticlockwise on the screen."""
    pairs = zip(loop, loop[1:] + loop[:1], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)


def _without_straight_points(loop: Loop) -> Loop:
    """Drops the points at which the loop goes straight on."""
    kept = []
    for place, (x, y) in enumerate(loop):
        before, after = loop[place - 1], loop[(place + 1) % len(loop)]
        if (x - before[0], y - before[1]) != (after[0] - x, after[1] - y):
            kept.append((x, y))
    return kept


def _save(path: Path, picture: Array, digest: Any) -> None:
    Image.fromarray(picture).save(path)
    digest.update(f"{path.name} {picture.shape} {picture.dtype}".encode())
    digest.update(np.ascontiguousarray(picture).astype(picture.dtype.newbyteorder("<")).tobytes())


def _save_json(path: Path, document: dict[str, Any], digest: Any) -> None:
    text = json.dumps(document)
    path.write_text(text, encoding="utf-8")
    digest.update(f"{path.name} {text}".encode())
