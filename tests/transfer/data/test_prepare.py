"""Dataset checks: every fault is named with its mend; and Cityscapes converted, by a slow loop."""

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data import prepare
from transfer.scenes import datasets as scenes
from transfer.data import cityscapes
from transfer.data.annotated_objects import Objects
from transfer.metrics import CocoAP
from transfer.data.prepare import check_coco

ANNOTATIONS = "annotations/instances_train2017.json"


@pytest.fixture(scope="module")
def drawn_coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepare") / "coco"
    scenes.write_coco(root, 8, 2, (64, 64), 0)
    return root


@pytest.fixture
def coco_root(drawn_coco, tmp_path):
    return Path(shutil.copytree(drawn_coco, tmp_path / "coco"))


def check(root, **options):
    return check_coco(root / ANNOTATIONS, root / "train2017", **options)


def edit(root, change):
    path = root / ANNOTATIONS
    document = json.loads(path.read_text())
    document = change(document) or document
    path.write_text(json.dumps(document))


# ------------------------------------------------------------------------------------ COCO: whole


def test_the_summary_counts_what_the_file_holds(coco_root):
    content = (coco_root / ANNOTATIONS).read_bytes()
    summary = check(coco_root, categories=scenes.CATEGORIES)
    assert summary.images == 8
    assert summary.annotations == content.count(b'"image_id"')
    crowds = content.count(b'"iscrowd": 1')
    assert summary.objects == Objects(summary.annotations - crowds, crowds, 0, 0, 0)
    assert summary.images_left == 8
    assert summary.categories == scenes.CATEGORIES
    assert summary.fingerprint == hashlib.sha256(content).hexdigest()
    assert gc.isenabled()


def test_images_may_lie_in_folders_and_strokes_may_overshoot_a_little(coco_root):
    def change(document):
        for image in document["images"]:
            image["file_name"] = "city/" + image["file_name"]
        document["annotations"][0]["bbox"] = [-1.5, -2.0, 69.0, 68.5]
        document["annotations"][0]["segmentation"] = [[-1.5, -2, 67.5, 66.5, 0, 30]]

    edit(coco_root, change)
    (coco_root / "train2017").rename(coco_root / "city")
    (coco_root / "train2017").mkdir()
    (coco_root / "city").rename(coco_root / "train2017" / "city")
    assert check(coco_root).images == 8


# ------------------------------------------------------------------------------------ COCO: faults


def test_a_missing_dataset_names_the_downloads(tmp_path, coco_root):
    with pytest.raises(
        FileNotFoundError, match=r"no image folder .*train2017\. Download train2017"
    ):
        check(tmp_path / "nowhere")
    (coco_root / ANNOTATIONS).unlink()
    with pytest.raises(FileNotFoundError, match=r"annotations_trainval2017\.zip.* data_root=DIR"):
        check(coco_root)
    with pytest.raises(FileNotFoundError, match=r"instances_train2017\.json\. Do this\."):
        check(coco_root, mend="Do this.")


def test_missing_images_are_counted_and_the_first_five_named(coco_root):
    for number in (8, 2, 3, 4, 5, 6):
        (coco_root / "train2017" / f"{number:012d}.png").unlink()
    names = ", ".join(f"{number:012d}.png" for number in (2, 3, 4, 5, 6))
    with pytest.raises(FileNotFoundError, match=rf"lacks 6 of the 8 images .*{names} and 1 more"):
        check(coco_root)


def remove(key):
    return lambda document: document.pop(key) and None


def put(key, number, **fields):
    return lambda document: document[key][number].update(fields)


def garble(document):
    del document["annotations"][0]["bbox"]


def far_away(*polygon):
    def change(document):
        ordinary = next(a for a in document["annotations"] if not a["iscrowd"])
        ordinary.update(segmentation=[[1, 1, 5, 5, 9, 1], [*polygon]], id=4321)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("annotations"), r"not in COCO's format: .* and has categories, images, info"),
        (remove("images"), r"needs the lists images"),
        (remove("categories"), r"captions, keypoints and image_info files do not serve"),
        (lambda document: [1, 2], r"and has list"),
        (lambda document: document.update(annotations=[]), r"has no annotations: there is nothing"),
        (lambda document: document.update(images=[]), r"has no images"),
        (put("annotations", 1, image_id=999, id=77), r"1 of \d+ annotations belong to images .*77"),
        (put("annotations", 1, category_id=4, id=77), r"category ids that it does not list .*77"),
        (put("annotations", 1, bbox=[60, 0, 40, 9], id=77), r"5 pixels outside their image .*77"),
        (
            put("annotations", 1, segmentation={"size": [64, 65], "counts": [64 * 65]}, id=88),
            r"side .*88",
        ),
        (far_away(10, 10, 20, 10, 20, 90), r"5 pixels outside .*ids 4321\)"),
        (far_away(10, 10, 90, 10, 20, 20), r"5 pixels outside .*ids 4321\)"),
        (far_away(10, 10, 20, -9, 20, 20), r"1 of \d+ .* 5 pixels outside .*4321\)"),
        (garble, r"an entry lacks or garbles 'bbox'"),
        (put("images", 1, id=1), r"uses an image id twice"),
        (put("categories", 1, name="disc"), r"has the categories disc twice"),
    ],
)  # fmt: skip
def test_a_faulty_annotation_file_is_refused_with_its_fault(coco_root, change, message):
    edit(coco_root, change)
    with pytest.raises(ValueError, match=message):
        check(coco_root)


def test_other_categories_are_listed(coco_root):
    wanted = ("disc", "square", "triangle", "person", "car")
    with pytest.raises(ValueError, match=r"missing: person, car; unexpected: star, cross\. Use"):
        check(coco_root, categories=wanted)


def test_categories_in_another_order_would_swap_labels_and_are_refused(coco_root):
    first, second, *rest = scenes.CATEGORIES
    for wanted in ((second, first, *rest), (second, first)):
        with pytest.raises(ValueError, match=rf"another order: number 1 is {first}, not {second};"):
            check(coco_root, categories=wanted)
    with pytest.raises(ValueError, match=rf"classes are {first} twice"):
        check(coco_root, categories=(first, first))


def counted(root, *categories):
    """Ordinary objects, crowds and all others, from the file."""
    document = json.loads((root / ANNOTATIONS).read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    ours = [a for a in document["annotations"] if names[a["category_id"]] in categories]
    crowds = sum(a["iscrowd"] for a in ours)
    return len(ours) - crowds, crowds, len(document["annotations"]) - len(ours)


def as_mmdetection_loads(root, categories, **filter_cfg):
    from mmdet.datasets import CocoDataset

    return CocoDataset(
        ann_file=str(root / ANNOTATIONS),
        data_prefix={"img": "train2017"},
        filter_cfg=filter_cfg,
        metainfo={"classes": categories},
        pipeline=[],
    )


def test_some_of_a_files_categories_keep_their_names(coco_root):
    """And a parent category that nothing belongs to, as Roboflow writes, does no harm."""
    parent = {"id": 0, "name": "shapes", "supercategory": "none"}
    edit(coco_root, lambda document: document["categories"].insert(0, parent))
    for wanted in (scenes.CATEGORIES, ("square", "cross"), ("star",)):
        ordinary, crowds, other = counted(coco_root, *wanted)
        assert check(coco_root, categories=wanted).objects == Objects(ordinary, crowds, 0, 0, other)
        loaded = as_mmdetection_loads(coco_root, wanted)
        ids = {
            c["name"]: c["id"]
            for c in json.loads((coco_root / ANNOTATIONS).read_text())["categories"]
        }
        assert loaded.cat2label == {ids[name]: label for label, name in enumerate(wanted)}
        instances = [i for k in range(len(loaded)) for i in loaded.get_data_info(k)["instances"]]
        assert len(instances) == ordinary + crowds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iscrowd": 1}, r"no object to learn or to find: of N annotations N are crowds, 0 too sm"),
        ({"iscrowd": True}, r"of N annotations N are crowds"),
        ({"area": 0}, r"are crowds, \d+ too small, 0 on images .* 0 of other"),
        ({"bbox": [3, 3, 0.5, 20]}, r"are crowds, \d+ too small, 0 on images .* 0 of other"),
        ({"bbox": [-4, 3, 4, 20]}, r"are crowds, \d+ too small, 0 on images .* 0 of other"),
        (
            {"segmentation": []},
            r"N of N annotations have no mask \(annotation ids 1, 2, 3, 4, 5 an",
        ),
        ({"segmentation": None}, r"N of N annotations have no mask"),
        ({"ignore": 1}, r"N of N annotations say ignore .* Say \"iscrowd\": 1 instead"),
    ],
)
def test_a_set_without_an_object_of_use_is_refused(coco_root, fields, message):
    for_all = lambda document: [a.update(fields) for a in document["annotations"]] and None  # noqa: E731
    edit(coco_root, for_all)
    count = len(json.loads((coco_root / ANNOTATIONS).read_text())["annotations"])
    with pytest.raises(ValueError, match=message.replace("N ", f"{count} ")):
        check(coco_root)


def test_objects_of_no_interest_need_no_mask(coco_root):
    edit(
        coco_root,
        lambda d: (
            [a.pop("segmentation") for a in d["annotations"] if a["category_id"] == 1] and None
        ),
    )
    first, *others = scenes.CATEGORIES
    assert check(coco_root, categories=others).objects.ordinary
    with pytest.raises(ValueError, match="have no mask"):
        check(coco_root, categories=(first, *others))


def test_what_the_filter_leaves_is_what_mmdetection_loads(coco_root):
    def change(document):
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] > 2]
        for image, side in zip(document["images"], (64, 20, 31, 32, 64, 64, 64, 64), strict=True):
            image["height"] = side
        for annotation in document["annotations"]:
            annotation.update(bbox=[1, 1, 9, 9], segmentation=[[1, 1, 10, 1, 10, 10]])

    edit(coco_root, change)
    for rules in (
        {},
        {"min_size": 32},
        {"filter_empty_gt": True},
        {"filter_empty_gt": True, "min_size": 32},
    ):
        for wanted in (scenes.CATEGORIES, ("star",)):
            loaded = as_mmdetection_loads(coco_root, wanted, **rules)
            assert check(coco_root, categories=wanted, filter_cfg=rules).images_left == len(loaded)
            objects = check(coco_root, categories=wanted, filter_cfg=rules).objects
            shown = [i for k in range(len(loaded)) for i in loaded.get_data_info(k)["instances"]]
            assert objects.ordinary == sum(not instance["ignore_flag"] for instance in shown)

    def change_flags(document):
        for annotation in document["annotations"]:
            annotation.update(iscrowd=int(annotation["image_id"] != 3))  # of 31 pixels

    edit(coco_root, change_flags)
    with pytest.raises(ValueError, match=r"[1-9]\d* on images that filter_cfg leaves out"):
        check(coco_root, filter_cfg={"min_size": 32})
    assert check(coco_root, filter_cfg={"min_size": 31}).objects.ordinary
    with pytest.raises(
        ValueError, match=r"filter_cfg \({'min_size': 65}\) leaves none of its 8 images"
    ):
        check(coco_root, filter_cfg={"min_size": 65})


def test_names_that_the_shell_would_read_otherwise_are_refused(coco_root, monkeypatch):
    """pycocotools opens files in the shell's encoding, in which one letter may become two."""
    name = "M\u00fctter"
    edit(coco_root, lambda document: document["categories"][0].update(name=name))
    path = coco_root / ANNOTATIONS
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ISO-8859-1")
    assert check(coco_root).categories[0] == name  # json.dumps has escaped it
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False), encoding="utf-8")
    with pytest.raises(ValueError, match=r"this shell's encoding, ISO-8859-1.*PYTHONUTF8=1"):
        check(coco_root)
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "UTF8")
    assert check(coco_root).categories[0] == name


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_refused_by_all_who_read(coco_root, encoding):
    path = coco_root / ANNOTATIONS
    path.write_text(path.read_text(), encoding=encoding)
    for read in (lambda: check(coco_root), lambda: CocoAP(str(path))):
        with pytest.raises(ValueError, match=r"begins with a byte order mark.*plain UTF-8"):
            read()


@pytest.mark.parametrize("content", [b"<html>", b'{"images": [', b"", b"\xe9\x00"])
def test_a_file_that_is_no_json_is_refused(coco_root, content):
    (coco_root / ANNOTATIONS).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"\({len(content)} bytes\) is not JSON: .*unpack it again"
    ):
        check(coco_root)


# -------------------------------------------------------------------------- Cityscapes: conversion

# Two objects that matter, one crowd; caravans and trailers have instances but are not evaluated.
IDS = (7, 11, 24000, 24001, 26, 26003, 33999, 29, 29001, 30000, 0)


def write_pair(root, split, stem, ids):
    city = stem.split("_")[0]
    for kind in ("gtFine", "leftImg8bit"):
        (root / kind / split / city).mkdir(parents=True, exist_ok=True)
    truth = root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png"
    Image.fromarray(ids.astype(np.uint16)).save(truth)
    picture = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
    Image.fromarray(np.zeros((*ids.shape, 3), dtype=np.uint8)).save(picture)
    return truth, picture


@pytest.fixture
def city_root(tmp_path):
    generator = np.random.Generator(np.random.PCG64(1))
    root = tmp_path / "cityscapes"
    for split, stems in {
        "train": ("ulm_000001_000019", "aachen_000002_000019", "aachen_000001_000019"),
        "val": ("lindau_000000_000019",),
    }.items():
        for stem in stems:
            write_pair(root, split, stem, generator.choice(IDS, size=(12, 17)))
    write_pair(root, "train", "bonn_000000_000019", np.full((12, 17), 7))  # nothing on it
    return root


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
    from pycocotools.coco import COCO

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
        instances = scenes.draw_scene(2, index, (96, 64), "val").instances
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


# ------------------------------------------------------------------------------------ the commands


def test_check_reports_both_splits(coco_root, capsys):
    names = ["--categories", *scenes.CATEGORIES]
    assert prepare.main(["check", "--data-root", str(coco_root), *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["8 images", "2 images"]


def test_check_compares_the_sizes_of_the_images_with_those_listed(coco_root, capsys):
    folder = coco_root / "train2017"
    Image.new("RGB", (32, 64)).save(folder / "000000000002.png")
    Image.new("RGB", (68, 64)).save(folder / "000000000003.png")
    edit(coco_root, put("images", 2, width=68))  # so listed, therefore right
    (folder / "000000000005.png").write_bytes(b"<html>")
    names = ["--categories", *scenes.CATEGORIES]
    assert prepare.main(["check", "--data-root", str(coco_root), *names]) == 2
    message = capsys.readouterr().err
    assert "2 of 8 images are not what the annotations say" in message
    assert "000000000002.png has 32x64 pixels, listed are 64x64; " in message
    assert "000000000005.png cannot be read (UnidentifiedImageError). Boxes" in message


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(city_root, monkeypatch):
    (city_root / "annotations").write_text("a file is in the way")
    monkeypatch.setattr(cityscapes, "read_instances", None)  # nothing may be read
    with pytest.raises(ValueError, match=r"annotations cannot be written to, where .* of val"):
        cityscapes.convert(city_root, "val")


def test_cityscapes_has_to_be_prepared_before_it_passes(city_root, capsys):
    arguments = ["check", "--format", "cityscapes", "--data-root", str(city_root)]
    assert prepare.main(arguments) == 2
    mend = f"python -m transfer.prepare cityscapes --data-root {city_root}"
    assert mend in capsys.readouterr().err
    assert prepare.main(["cityscapes", "--data-root", str(city_root), "--workers", "1"]) == 0
    assert prepare.main(arguments) == 0
    out = capsys.readouterr().out
    assert "4 images, all present and of the sizes listed (the published one has 2,975); " in out
    assert "15 annotations, 3 of them crowds" in out and "leftImg8bit/test" not in out
    write_pair(city_root, "test", "berlin_000000_000019", np.full((12, 17), 7))
    assert prepare.main(arguments) == 0
    assert "leftImg8bit/test: 1 of 1,525 images" in capsys.readouterr().out


def test_a_fault_ends_the_command_with_status_2_and_one_line(tmp_path):
    code = (
        "import sys; from transfer import prepare; status = prepare.main(sys.argv[1:]);"
        "heavy = {'torch', 'mmdet', 'mmengine', 'mmcv'} & set(sys.modules);"
        "sys.exit(f'imports {heavy}' if heavy else status)"
    )
    command = [sys.executable, "-c", code, "check", "--data-root", str(tmp_path)]
    repository = Path(prepare.__file__).parents[2]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"transfer.data.prepare: There is no image folder {tmp_path}/train2017")
    assert run.stderr.count("\n") == 1
