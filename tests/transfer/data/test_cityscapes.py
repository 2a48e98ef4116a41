"""gtFine as COCO-style annotations, against a slow loop over its pixels."""

import json
import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.helpers.streets import write_pair
from transfer.data import cityscapes
from transfer.scenes import datasets as scenes
from transfer.scenes.drawing import draw_scene

def slowly(path):
    """{(label id, crowd, pixels)} of one instanceIds file, pixel by pixel."""
    wanted = {24, 25, 26, 27, 28, 31, 32, 33}
    pixels = {}
    image = Image.open(path)
    for y in range(image.height):
        for x in range(image.width):
            pixels.setdefault(int(image.getpixel((x, y))), set()).add((x, y))
    found = {}
    for value, where in pixels.items():
        label, crowd = (value, 1) if value < 1000 else (value // 1000, 0)
        if label in wanted:
            found[(label, crowd, frozenset(where))] = value
    return found


def test_hidden_files_beside_cityscapes_pictures_are_none(city_root):
    pairs = cityscapes.find_pairs(city_root, "train")
    for folder in ("leftImg8bit", "gtFine"):
        for path in list((city_root / folder / "train").glob("*/*.png")):
            path.with_name(f"._{path.name}").write_bytes(b"left by another system")
    assert cityscapes.find_pairs(city_root, "train") == pairs


def test_the_classes_are_cityscapes_eight_in_mmdetections_order():
    names = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert list(cityscapes.CLASSES.values()) == names
    assert list(cityscapes.CLASSES) == [24, 25, 26, 27, 28, 31, 32, 33]


def test_the_conversion_equals_a_slow_loop_over_the_pixels(city_root):
    assert cityscapes.convert(city_root, "train") is True
    target = city_root / "annotations" / "instancesonly_filtered_gtFine_train.json"
    coco = COCO(str(target))
    assert [image["file_name"] for image in coco.loadImgs([1, 2, 3, 4])] == [
        "aachen/aachen_000001_000019_leftImg8bit.png",
        "aachen/aachen_000002_000019_leftImg8bit.png",
        "bonn/bonn_000000_000019_leftImg8bit.png",
        "ulm/ulm_000001_000019_leftImg8bit.png",
    ]
    assert min(coco.getAnnIds()) == 1  # COCO's evaluation takes id 0 for "not matched"
    total = 0
    for image in coco.loadImgs(coco.getImgIds()):
        assert (image["width"], image["height"]) == (17, 12)
        name = image["file_name"].replace("leftImg8bit", "gtFine_instanceIds")
        expected = slowly(city_root / "gtFine" / "train" / name)
        found = set()
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            assert isinstance(annotation["segmentation"]["counts"], str)
            ys, xs = np.nonzero(coco.annToMask(annotation))
            where = frozenset(zip(xs.tolist(), ys.tolist(), strict=True))
            found.add((annotation["category_id"], annotation["iscrowd"], where))
            box = [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
            assert annotation["bbox"] == box
            assert annotation["area"] == len(where)
        assert found == set(expected)
        total += len(found)
    assert total == len(coco.getAnnIds()) == 3 * 5


def test_drawn_cityscapes_scenes_convert_to_the_drawn_objects(tmp_path):
    root = tmp_path / "drawn"
    scenes.write_cityscapes(root, 1, 4, (96, 64), 2)
    cityscapes.convert(root, "val")
    document = json.loads(cityscapes.annotation_file(root, "val").read_text())
    expected = []
    for index in range(1, 5):
        instances = draw_scene(2, index, (96, 64), "val").instances
        crowds = [i for i in instances if i.crowd]
        assert len({i.category for i in crowds}) == len(crowds)
        expected += [(index, int(i.crowd), int(i.visible.sum())) for i in instances]
    found = [(a["image_id"], a["iscrowd"], a["area"]) for a in document["annotations"]]
    assert sorted(found) == sorted(expected)


def test_several_processes_write_the_same_bytes(city_root):
    target = cityscapes.annotation_file(city_root, "train")
    cityscapes.convert(city_root, "train", workers=1)
    alone = target.read_bytes()
    target.unlink()
    cityscapes.convert(city_root, "train", workers=2)
    assert target.read_bytes() == alone


def test_the_conversion_is_skipped_until_something_changes(city_root):
    target = cityscapes.annotation_file(city_root, "val")
    assert cityscapes.convert(city_root, "val") is True
    assert cityscapes.convert(city_root, "val") is False
    before = target.read_bytes()
    truth = next((city_root / "gtFine" / "val").glob("*/*"))
    sizes, then = [], time.time() - 1000
    os.utime(target, (then,) * 2)
    for later, value in enumerate((24000, 24001), start=1):
        Image.fromarray(np.full((12, 17), value, dtype=np.uint16)).save(truth)
        sizes.append(truth.stat().st_size)
        os.utime(truth, (then + 50 * later,) * 2)
        assert cityscapes.convert(city_root, "val") is True
        os.utime(target, (truth.stat().st_mtime + 1,) * 2)
    assert sizes[0] == sizes[1]  # so it was the time that told
    assert target.read_bytes() != before
    write_pair(city_root, "val", "ulm_000009_000019", np.full((12, 17), 26000))
    os.utime(target, (target.stat().st_mtime + 500,) * 2)  # new files of an old date
    assert cityscapes.convert(city_root, "val") is True
    os.utime(target, (time.time() + 1000,) * 2)  # of a clock that was ahead: nobody can tell
    assert cityscapes.convert(city_root, "val") is True


def test_a_conversion_that_fails_leaves_no_file(city_root, monkeypatch):
    def fail(source, target):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        cityscapes.convert(city_root, "train")
    assert list((city_root / "annotations").iterdir()) == []


def test_somebody_elses_annotation_file_is_kept(city_root):
    target = cityscapes.annotation_file(city_root, "train")
    target.parent.mkdir()
    target.write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"is not overwritten. Move it away: mv .*json\.old"):
        cityscapes.convert(city_root, "train")
    assert target.read_text() == '{"images": [], "annotations": []}'


# ------------------------------------------------------------------------------ Cityscapes: faults


@pytest.mark.parametrize("folder", ["gtFine", "leftImg8bit"])
def test_a_folder_without_gtfine_or_pictures_names_the_downloads(city_root, folder):
    shutil.rmtree(city_root / folder)
    left = "leftImg8bit" if folder == "gtFine" else "gtFine"
    message = rf"holds {left} but no .*{folder}.*gtFine_trainvaltest\.zip and leftImg8bit_trainval"
    with pytest.raises(FileNotFoundError, match=message):
        cityscapes.convert(city_root, "train")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        cityscapes.convert(city_root / "nowhere", "train")


def test_a_file_without_its_partner_is_named(city_root):
    truth, picture = write_pair(city_root, "val", "ulm_000000_000019", np.zeros((12, 17)))
    picture.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 1 of 2 .*ulm/ulm_000000_000019_leftImg8bit"
    ):
        cityscapes.convert(city_root, "val")
    truth, _ = write_pair(city_root, "val", "ulm_000000_000019", np.zeros((12, 17)))
    truth.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 2 .*000019_gtFine_instanceIds\.png"):
        cityscapes.convert(city_root, "val")
    shutil.rmtree(city_root / "gtFine" / "val" / "lindau")
    shutil.rmtree(city_root / "leftImg8bit" / "val" / "lindau")
    shutil.rmtree(city_root / "leftImg8bit" / "val" / "ulm")
    with pytest.raises(FileNotFoundError, match=r"holds no <city>/\*_gtFine_instanceIds\.png"):
        cityscapes.convert(city_root, "val")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_or_foreign_image_is_named(city_root, workers):
    ids = np.arange(12 * 17).reshape(12, 17) * 97
    truth, picture = write_pair(city_root, "val", "ulm_000000_000019", ids)
    truth.write_bytes(truth.read_bytes()[:150])
    with pytest.raises(ValueError, match=r"ulm_000000_000019_gtFine_instanceIds.* cannot be read"):
        cityscapes.convert(city_root, "val", workers)
    shutil.copy(picture, truth)
    with pytest.raises(ValueError, match=r"is a colour image"):
        cityscapes.convert(city_root, "val", workers)
    write_pair(city_root, "val", "ulm_000000_000019", ids)
    Image.new("RGB", (34, 24)).save(picture)
    with pytest.raises(ValueError, match=r"leftImg8bit\.png has 34x24 pixels.* 17x12\. Unpack"):
        cityscapes.convert(city_root, "val", workers)


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(city_root, monkeypatch):
    (city_root / "annotations").write_text("a file is in the way")
    monkeypatch.setattr(cityscapes, "read_instances", None)  # nothing may be read
    with pytest.raises(ValueError, match=r"annotations cannot be written to, where .* of val"):
        cityscapes.convert(city_root, "val")
