"""The embedded scenes: their geometry, and that COCO's and Cityscapes' own tools accept them."""

import hashlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from transfer.scenes import datasets as scenes
from transfer.scenes import formats as scene_formats
from transfer.scenes.__main__ import main
from transfer.scenes.drawing import draw_scene
from transfer.scenes.formats import CITYSCAPES_LABELS, COCO_IDS
from transfer.scenes.shapes import CATEGORIES, SUBPIXELS, Dice, Shape, paint

TRAIN, VAL, SEED = 24, 6, 3
COCO_SIZE, CITYSCAPES_SIZE = (128, 128), (160, 96)


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "coco"
    scenes.write_coco(root, TRAIN, VAL, COCO_SIZE, SEED)
    return root


@pytest.fixture(scope="module")
def cityscapes_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "cityscapes"
    scenes.write_cityscapes(root, 4, 12, CITYSCAPES_SIZE, SEED)
    return root


@pytest.fixture(scope="module")
def drawn():
    return [draw_scene(SEED, index, COCO_SIZE) for index in range(1, TRAIN + 1)]


def extent(mask):
    """x, y, width, height of a mask, by looking at every pixel that is set."""
    points = [(x, y) for y, row in enumerate(mask) for x, value in enumerate(row) if value]
    left, top = min(x for x, _ in points), min(y for _, y in points)
    return [left, top, max(x for x, _ in points) + 1 - left, max(y for _, y in points) + 1 - top]


def random_masks():
    """Noise of several densities: holes, single pixels, corners that touch."""
    generator = np.random.Generator(np.random.PCG64(0))
    for density in (0.1, 0.3, 0.5, 0.7, 0.9):
        for _ in range(20):
            mask = generator.random((9, 13)) < density
            if mask.any():
                yield mask
    yield np.ones((4, 5), dtype=bool)
    ring = np.ones((7, 7), dtype=bool)
    ring[2:5, 2:5], ring[3, 3] = False, True
    yield ring


# ------------------------------------------------------------------------------------ determinism


def test_a_scene_depends_on_each_of_its_four_arguments_and_nothing_else():
    def key(*arguments):
        return hashlib.sha256(draw_scene(*arguments).image.tobytes()).hexdigest()

    variants = [(0, 1, (64, 64), "train"), (1, 1, (64, 64), "train"), (0, 2, (64, 64), "train")]
    variants += [(0, 1, (64, 80), "train"), (0, 1, (64, 64), "val")]
    first, again = [key(*v) for v in variants], [key(*v) for v in reversed(variants)]
    assert first == again[::-1]
    assert len(set(first)) == len(variants)


@pytest.mark.parametrize(
    ("write", "fingerprint"),
    [
        (scenes.write_coco, "438d67c2d8e38a41dced3df7604c4424c05ebed9f8726299b7aea82a212aa3a7"),
        (scenes.write_cityscapes,
         "2ab2d7f97bf658b2d721659c09c8e0916bfaef5a41739f27882200f70dec5437"),
    ],
)  # fmt: skip
def test_pixels_and_annotations_are_pinned(tmp_path, write, fingerprint):
    # A change here changes every demo figure: raise DRAWING_VERSION with it.
    assert write(tmp_path / "out", 3, 2, (128, 96), 7).fingerprint == fingerprint


def test_dice_give_the_doubles_that_numpy_makes_of_the_same_stream():
    dice = Dice("key", 1)
    key = int.from_bytes(hashlib.sha256(b"('key', 1)").digest()[:16], "little")
    reference = np.random.Generator(np.random.Philox(key=key)).random(50)
    np.testing.assert_array_equal(dice.uniform(0.0, 1.0, (50,)), reference)
    values = [dice.integer(3, 5) for _ in range(300)]
    assert sorted(set(values)) == [3, 4, 5]


# --------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("category", "area"),  # of a shape with radius 1, from its definition
    [
        ("disc", math.pi),
        ("square", (2 * 0.84) ** 2),
        ("triangle", 3 * math.sqrt(3) * 0.6**2),
        ("cross", 4 * 2 * 0.36 - 4 * 0.36**2),  # two bars of 2 x 0.72 and one overlap
        # ten triangles between the centre, a tip at 1.15 and an inner corner 36 degrees aside
        ("star", 5 * 1.15 * (1.15 / (math.cos(0.2 * math.pi) + 2 * math.sin(0.2 * math.pi)))
         * math.sin(0.2 * math.pi)),
    ],
)  # fmt: skip
def test_a_painted_shape_has_the_area_of_its_definition(category, area):
    canvas = np.zeros((160 * SUBPIXELS, 160 * SUBPIXELS, 3), dtype=np.uint8)
    t = 0.3
    turn = ((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t))
    colours = np.full((2, 3), 200.0)
    mask = paint(canvas, Shape(category, 80.3, 79.6, (60.0, 50.0), turn, colours))
    assert mask.shape == (160, 160)
    assert mask.sum() == pytest.approx(area * 60 * 50, rel=0.01)
    assert (canvas[1::3, 1::3][mask] > 0).all()  # where the mask is, something is painted


def test_visible_masks_are_what_painting_the_parts_back_to_front_leaves(drawn):
    hidden = 0
    for scene in drawn:
        front = np.full(scene.image.shape[:2], -1)
        for place, instance in enumerate(scene.instances):
            for part in instance.parts:
                front[part] = place
        for place, instance in enumerate(scene.instances):
            whole = np.any(instance.parts, axis=0)
            np.testing.assert_array_equal(instance.visible, front == place)
            assert instance.visible.sum() >= max(12, 0.4 * whole.sum())
            hidden += (whole & ~instance.visible).any()
    assert hidden >= 10  # the scenes do occlude


def test_scenes_have_every_category_tiny_and_large_objects_and_crowds(drawn):
    instances = [instance for scene in drawn for instance in scene.instances]
    assert {instance.category for instance in instances} == set(CATEGORIES)
    areas = [int(instance.visible.sum()) for instance in instances if not instance.crowd]
    assert min(areas) < 12**2
    assert max(areas) > 40**2
    assert 1 <= sum(instance.crowd for instance in instances) <= len(drawn) // 2
    assert all(len(instance.parts) >= 6 for instance in instances if instance.crowd)


# ------------------------------------------------------------------------- polygons and run lengths


def test_coco_polygons_cover_exactly_the_mask_whatever_its_holes():
    for mask in random_masks():
        loops = scene_formats.polygons(mask)
        flat = [[float(c) for point in loop for c in point] for loop in loops]
        runs = coco_mask.merge(coco_mask.frPyObjects(flat, *mask.shape))
        np.testing.assert_array_equal(coco_mask.decode(runs), mask)
        areas = [
            0.5 * sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(p, p[1:] + p[:1], strict=True))
            for p in loops
        ]
        assert min(areas) > 0
        assert sum(areas) == mask.sum()


def test_run_lengths_decode_to_the_mask():
    for mask in random_masks():
        runs = scene_formats.rle(mask)
        assert all(type(count) is int for count in runs["counts"])
        decoded = coco_mask.decode(coco_mask.frPyObjects(runs, *runs["size"]))
        np.testing.assert_array_equal(decoded, mask)


def test_cityscapes_polygons_repaint_every_part(drawn):
    for scene in drawn:
        for part in (part for instance in scene.instances for part in instance.parts):
            picture = Image.new("I", part.shape[::-1], 0)
            ImageDraw.Draw(picture).polygon(scene_formats.outermost_pixels(part), fill=1)
            np.testing.assert_array_equal(np.asarray(picture) == 1, part)


# ------------------------------------------------------------------------------------ COCO's format


def test_coco_annotations_are_the_drawn_masks(coco_root, drawn):
    coco = COCO(str(coco_root / "annotations" / "instances_train2017.json"))
    assert coco.getImgIds() == list(range(1, TRAIN + 1))
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    assert names == {identifier: name for name, identifier in COCO_IDS.items()}
    for image, scene in zip(coco.loadImgs(coco.getImgIds()), drawn, strict=True):
        assert (image["width"], image["height"]) == COCO_SIZE
        picture = np.asarray(Image.open(coco_root / "train2017" / image["file_name"]))
        np.testing.assert_array_equal(picture, scene.image)
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        for annotation, instance in zip(annotations, scene.instances, strict=True):
            assert names[annotation["category_id"]] == instance.category
            assert annotation["iscrowd"] == instance.crowd
            assert isinstance(annotation["segmentation"], dict) == instance.crowd
            # no tolerance: polygons, run lengths, area and box are the visible pixels exactly
            np.testing.assert_array_equal(coco.annToMask(annotation), instance.visible)
            assert annotation["area"] == instance.visible.sum()
            assert annotation["bbox"] == extent(instance.visible)


# ------------------------------------------------------------------------------ Cityscapes' format


def truth_files(root, ending):
    return sorted((root / "gtFine").glob(f"*/*/*_gtFine_{ending}"))


def test_cityscapes_labels_are_those_of_cityscapesscripts():
    from cityscapesscripts.helpers.labels import name2label

    assert set(CITYSCAPES_LABELS) == set(CATEGORIES)
    for name, identifier in CITYSCAPES_LABELS.values():
        label = name2label[name]
        assert (label.id, label.hasInstances, label.ignoreInEval) == (identifier, True, False)
    for name, identifier in scene_formats.CITYSCAPES_STUFF:
        assert (name2label[name].id, name2label[name].hasInstances) == (identifier, False)


def test_cityscapesscripts_regenerate_the_images_from_the_polygons(cityscapes_root):
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    files = truth_files(cityscapes_root, "polygons.json")
    assert len(files) == 16
    for polygons in files:
        annotation = Annotation()
        annotation.fromJsonFile(str(polygons))
        for ending, create in (
            ("instanceIds", createInstanceImage),
            ("labelIds", createLabelImage),
        ):
            written = polygons.with_name(polygons.name.replace("polygons.json", f"{ending}.png"))
            again = np.asarray(create(annotation, "ids"))
            np.testing.assert_array_equal(np.asarray(Image.open(written)), again)


def test_cityscapes_ids_are_the_drawn_masks(cityscapes_root):
    files = truth_files(cityscapes_root, "instanceIds.png")
    assert {path.parts[-3]: path.parts[-2] for path in files} == scene_formats.CITIES
    crowds = 0
    for path in files:
        split, index = path.parts[-3], int(path.name.split("_")[1]) + 1
        scene = draw_scene(SEED, index, CITYSCAPES_SIZE, split)
        name = path.name.replace("gtFine_instanceIds", "leftImg8bit")
        picture = cityscapes_root / "leftImg8bit" / split / path.parts[-2] / name
        np.testing.assert_array_equal(np.asarray(Image.open(picture)), scene.image)
        ids = np.asarray(Image.open(path)).astype(int)
        expected = {
            (CITYSCAPES_LABELS[i.category][1], i.visible.tobytes())
            for i in scene.instances if not i.crowd
        }  # fmt: skip
        found = {(value // 1000, (ids == value).tobytes()) for value in np.unique(ids[ids > 999])}
        assert found == expected
        for crowd in (instance for instance in scene.instances if instance.crowd):
            crowds += 1
            assert set(ids[crowd.visible]) == {CITYSCAPES_LABELS[crowd.category][1]}
    assert crowds > 0


# ---------------------------------------------------------------------------- the folder as a whole


def test_a_finished_folder_is_reused_and_may_get_further_files(tmp_path):
    first = scenes.write_cityscapes(tmp_path / "out", 1, 1, (64, 64), 0)
    (tmp_path / "out" / "annotations").mkdir()
    (tmp_path / "out" / "annotations" / "converted.json").touch()
    again = scenes.write_cityscapes(tmp_path / "out", 1, 1, (64, 64), 0)
    assert (first.reused, again.reused) == (False, True)
    assert again.fingerprint == first.fingerprint


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    scenes.write_coco(out, 1, 1, (64, 64), 0)  # an empty folder is no obstacle
    with pytest.raises(ValueError, match=r"train 1, seed 0, where train 2, seed 4 .* rm -r"):
        scenes.write_coco(out, 2, 1, (64, 64), 4)
    with pytest.raises(ValueError, match=r"format coco, where format cityscapes .* rm -r"):
        scenes.write_cityscapes(out, 1, 1, (64, 64), 0)
    (out / "val2017" / "000000000001.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of the 4 files .* val2017/000000000001.png"):
        scenes.write_coco(out, 1, 1, (64, 64), 0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(ValueError, match="was not written by"):
        scenes.write_coco(tmp_path / "photos", 1, 1, (64, 64), 0)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["mine.jpg"]
    (out / "scenes.json").write_text("{}")
    with pytest.raises(ValueError, match="was not written by"):
        scenes.write_coco(out, 1, 1, (64, 64), 0)


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def draw(seed, index, size, split="train"):
        if split == "val":
            raise KeyboardInterrupt
        return draw_scene(seed, index, size, split)

    monkeypatch.setattr(scenes, "draw_scene", draw)
    with pytest.raises(KeyboardInterrupt):
        scenes.write_coco(tmp_path / "out", 2, 1, (64, 64), 0)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_write_left_goes_away_and_a_running_one_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for process in (ended.pid, os.getppid()):
        (tmp_path / f".out.partial-{process}").mkdir()
    scenes.write_coco(tmp_path / "out", 1, 1, (64, 64), 0)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out", f".out.partial-{os.getppid()}"}


# ------------------------------------------------------------------------------------- the command


def test_the_command_writes_says_so_and_reuses(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [str(out), "--train", "2", "--val", "1", "--size", "64x80", "--seed", "9"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"wrote 2 + 1 scenes of 64x80 in {out}")
    document = json.loads((out / "annotations" / "instances_train2017.json").read_text())
    assert {(image["width"], image["height"]) for image in document["images"]} == {(64, 80)}
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("reused")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "0"], "train is 0; scenes need 1 or more"),
        (["--seed", "-1"], "seed is -1; scenes need 0 or more"),
        (["--size", "32x200"], "32x200 pixels are too small: both sides need 64"),
        (["--size", "128"], "'128' is no size; write it as 128x128"),
    ],
)
def test_the_command_refuses_what_cannot_be_drawn(tmp_path, capsys, arguments, message):
    try:
        status = main([str(tmp_path / "out"), *arguments])
    except SystemExit as end:  # argparse's
        status = end.code
    assert status == (2 if "is no size" in message else 1)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
