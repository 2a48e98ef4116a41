"""Every fault of a dataset is named with what to do; what is counted is what mmdetection loads."""

import gc
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from transfer.data.dataset_check import Objects, check_coco
from transfer.scenes import datasets as scenes
from transfer.scenes.shapes import CATEGORIES

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
    return document


def set_of_all(chosen=lambda annotation: True, **fields):
    def change(document):
        for annotation in filter(chosen, document["annotations"]):
            annotation.update(fields)

    return change


# ------------------------------------------------------------------------------------ COCO: whole


def test_the_summary_counts_what_the_file_holds(coco_root):
    content = (coco_root / ANNOTATIONS).read_bytes()
    summary = check(coco_root, categories=CATEGORIES)
    assert summary.images == 8
    assert summary.annotations == content.count(b'"image_id"')
    crowds = content.count(b'"iscrowd": 1')
    assert summary.objects == Objects(summary.annotations - crowds, crowds, 0, 0, 0)
    assert summary.images_left == 8
    assert summary.categories == CATEGORIES
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
        check(coco_root, if_missing="Do this.")


def test_a_pipe_and_a_loop_are_no_images(coco_root):
    os.mkfifo(coco_root / "train2017" / "pipe.png")
    (coco_root / "train2017" / "loop.png").symlink_to("loop.png")
    for name in ("pipe.png", "loop.png"):
        edit(coco_root, put("images", 0, file_name=name))
        with pytest.raises(FileNotFoundError, match=f"lacks 1 of the 8 images .*{name}"):
            check(coco_root)


def test_missing_images_are_counted_and_the_first_five_named(coco_root):
    for number in (8, 2, 3, 4, 5, 6):
        (coco_root / "train2017" / f"{number:012d}.png").unlink()
    names = ", ".join(f"{number:012d}.png" for number in (2, 3, 4, 5, 6))
    with pytest.raises(FileNotFoundError, match=rf"lacks 6 of the 8 images .*{names}, \.\.\."):
        check(coco_root)


def put(key, number, **fields):
    return lambda document: document[key][number].update(fields)


def polygon(*points):
    def change(document):
        ordinary = next(a for a in document["annotations"] if not a["iscrowd"])
        ordinary.update(segmentation=[[1, 1, 5, 5, 9, 1], [*points]], id=4321)

    return change


OTHER_SIZE = {"size": [64, 65], "counts": [64 * 65]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("annotations") and None, "not in COCO's format: .* has categories, images"),
        (lambda d: d.pop("images") and None, "needs the lists images"),
        (lambda d: [1, 2], "and has list"),
        (lambda d: d.update(annotations=[]), "has no annotations: there is nothing"),
        (lambda d: d.update(images=[]), "has no images"),
        (put("annotations", 1, image_id=999, id=77), r"1 of \d+ annotations belong to images .*77"),
        (put("annotations", 1, category_id=4, id=77), "category ids that it does not list .*77"),
        (put("annotations", 1, bbox=[60, 0, 40, 9], id=77), "5 pixels outside their image .*77"),
        (put("annotations", 1, segmentation=OTHER_SIZE, id=88), "outside their image .*88"),
        (polygon(10, 10, 20, 10, 20, 90), r"5 pixels outside .*ids 4321\)"),
        (polygon(10, 10, 90, 10, 20, 20), r"5 pixels outside .*ids 4321\)"),
        (polygon(10, 10, 20, -9, 20, 20), r"1 of \d+ .* 5 pixels outside .*4321\)"),
        (lambda d: d["annotations"][0].pop("bbox") and None, "an entry lacks or garbles 'bbox'"),
        (put("images", 1, id=1), "uses an id of its images twice"),
        (put("categories", 1, name="disc"), "has the categories disc twice"),
    ],
)
def test_a_faulty_annotation_file_is_refused_with_its_fault(coco_root, change, message):
    edit(coco_root, change)
    with pytest.raises(ValueError, match=message):
        check(coco_root)


def test_other_categories_are_listed(coco_root):
    wanted = ("disc", "square", "triangle", "person", "car")
    with pytest.raises(ValueError, match=r"missing: person, car; unexpected: star, cross\. Use"):
        check(coco_root, categories=wanted)


def test_categories_in_another_order_would_swap_labels_and_are_refused(coco_root):
    first, second, *rest = CATEGORIES
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
    document = edit(coco_root, lambda document: document["categories"].insert(0, parent))
    for wanted in (CATEGORIES, ("square", "cross"), ("star",)):
        ordinary, crowds, other = counted(coco_root, *wanted)
        assert check(coco_root, categories=wanted).objects == Objects(ordinary, crowds, 0, 0, other)
        loaded = as_mmdetection_loads(coco_root, wanted)
        ids = {c["name"]: c["id"] for c in document["categories"]}
        assert loaded.cat2label == {ids[name]: label for label, name in enumerate(wanted)}
        instances = [i for k in range(len(loaded)) for i in loaded.get_data_info(k)["instances"]]
        assert len(instances) == ordinary + crowds


TOO_SMALL = r"are crowds, \d+ too small, 0 on images .* 0 of other"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iscrowd": 1}, "no object to learn or to find: of N annotations N are crowds, 0 too sm"),
        ({"iscrowd": True}, "of N annotations N are crowds"),
        ({"area": 0}, TOO_SMALL),
        ({"bbox": [3, 3, 0.5, 20]}, TOO_SMALL),
        ({"bbox": [-4, 3, 4, 20]}, TOO_SMALL),
        ({"segmentation": []}, r"N of N annotations have no mask \(annotation ids 1, 2, 3, 4, 5, "),
        ({"segmentation": None}, "N of N annotations have no mask"),
        ({"ignore": 1}, 'N of N annotations say ignore, .* Say "iscrowd": 1 instead'),
    ],
)
def test_a_set_without_an_object_of_use_is_refused(coco_root, fields, message):
    annotations = edit(coco_root, set_of_all(**fields))["annotations"]
    with pytest.raises(ValueError, match=message.replace("N ", f"{len(annotations)} ")):
        check(coco_root)


def test_objects_of_no_interest_need_no_mask(coco_root):
    edit(coco_root, set_of_all(lambda a: a["category_id"] == 1, segmentation=None))
    first, *others = CATEGORIES
    assert check(coco_root, categories=others).objects.ordinary
    with pytest.raises(ValueError, match="have no mask"):
        check(coco_root, categories=(first, *others))


@pytest.mark.slow
def test_what_the_filter_leaves_is_what_mmdetection_loads(coco_root):
    def change(document):
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] > 2]
        for image, side in zip(document["images"], (64, 20, 31, 32, 64, 64, 64, 64), strict=True):
            image["height"] = side
        for annotation in document["annotations"]:
            annotation.update(bbox=[1, 1, 9, 9], segmentation=[[1, 1, 10, 1, 10, 10]])

    edit(coco_root, change)
    empty = {"filter_empty_gt": True}
    for rules in ({}, {"min_size": 32}, empty, {**empty, "min_size": 32}):
        for wanted in (CATEGORIES, ("star",)):
            loaded = as_mmdetection_loads(coco_root, wanted, **rules)
            summary = check(coco_root, categories=wanted, filter_cfg=rules)
            assert summary.images_left == len(loaded)
            shown = [i for k in range(len(loaded)) for i in loaded.get_data_info(k)["instances"]]
            assert summary.objects.ordinary == sum(not each["ignore_flag"] for each in shown)

    edit(coco_root, set_of_all(iscrowd=1))
    edit(coco_root, set_of_all(lambda a: a["image_id"] == 3, iscrowd=0))  # of 31 pixels
    with pytest.raises(ValueError, match=r"[1-9]\d* on images that filter_cfg leaves out"):
        check(coco_root, filter_cfg={"min_size": 32})
    assert check(coco_root, filter_cfg={"min_size": 31}).objects.ordinary
    with pytest.raises(
        ValueError, match=r"filter_cfg \({'min_size': 65}\) leaves none of its 8 images"
    ):
        check(coco_root, filter_cfg={"min_size": 65})
