"""Metrics against pycocotools, cityscapesScripts and cases worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from transfer.data import cityscapes
from transfer.metrics import (
    FIGURES,
    CityscapesAP,
    CocoAP,
    Prediction,
    instance_ap,
    instance_ids_file,
)
from transfer.scenes.datasets import write_cityscapes

SIDE = 200


# ---- COCO's figures ------------------------------------------------------------------------------


def document(*objects, images=1, categories=("cat", "dog")):
    """Objects are (image, category's place, x, y, width, height), filled rectangles.

    Category ids fall, so that a place in the list cannot be taken for the order of the ids.
    """
    ids = [9 - 2 * place for place in range(len(categories))]
    annotations = [
        {
            "id": number, "image_id": image, "category_id": ids[place], "iscrowd": 0,
            "bbox": [x, y, w, h], "area": w * h,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for number, (image, place, x, y, w, h) in enumerate(objects, start=1)
    ]  # fmt: skip
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
            for i in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in zip(ids, categories, strict=True)],
    }


def sample(image, found=(), path="x.png"):
    """What a detector gives: found are (label, score, x, y, width, height)."""
    masks = torch.zeros(len(found), SIDE, SIDE, dtype=torch.bool)
    for mask, (_, _, x, y, w, h) in zip(masks, found, strict=True):
        mask[y : y + h, x : x + w] = True
    return {
        "img_id": image,
        "img_path": path,
        "ori_shape": (SIDE, SIDE),
        "pred_instances": {
            "bboxes": torch.tensor([[x, y, x + w, y + h] for _, _, x, y, w, h in found])
            .reshape(-1, 4).float(),
            "scores": torch.tensor([float(s) for _, s, *_ in found]),
            "labels": torch.tensor([label for label, *_ in found], dtype=torch.long),
            "masks": masks,
        },
    }  # fmt: skip


def judged(tmp_path, content, samples):
    (tmp_path / "truth.json").write_text(json.dumps(content))
    metric = CocoAP(str(tmp_path / "truth.json"))
    metric.dataset_meta = {"classes": tuple(c["name"] for c in content["categories"])}
    metric.process({}, samples)
    return metric.evaluate(len(samples)), metric


def test_one_of_two_objects_found(tmp_path):
    """Recall 0.5 at precision 1: 51 of COCO's 101 recall levels, so every AP is 51/101."""
    truth = document((1, 0, 10, 10, 100, 100), (1, 0, 10, 120, 100, 60))
    found, metric = judged(tmp_path, truth, [sample(1, [(0, 0.9, 10, 10, 100, 100)])])
    for kind in ("box", "mask"):
        for figure in ("ap", "ap50", "ap75"):
            assert found[f"coco/{kind}_{figure}"] == pytest.approx(100 * 51 / 101)
        # 100 x 60 pixels are fewer than 96 x 96: the medium one is missed, the large one found
        assert found[f"coco/{kind}_ap_m"] == 0 and found[f"coco/{kind}_ar_m"] == 0
        assert found[f"coco/{kind}_ap_l"] == 100 and found[f"coco/{kind}_ar_l"] == 100
        assert [found[f"coco/{kind}_ar{n}"] for n in (1, 10, 100)] == [50, 50, 50]
        # nothing is small: neither -1 nor 0, the figure is not there
        assert f"coco/{kind}_ap_s" not in found and f"coco/{kind}_ar_s" not in found
        cat = metric.per_category[kind]["cat"]
        assert cat == {k: found[f"coco/{kind}_{k}"] for k in ("ap", "ap50", "ap75", "ap_m", "ap_l")}
        assert metric.per_category[kind]["dog"] == {}


def test_an_overlap_of_two_thirds_counts_up_to_its_threshold(tmp_path):
    """IoU 0.667 passes 0.5, 0.55, 0.6 and 0.65 of the ten thresholds."""
    truth = document((1, 1, 0, 0, 100, 100))
    found, metric = judged(tmp_path, truth, [sample(1, [(1, 0.8, 0, 0, 100, 150)])])
    assert found["coco/box_ap"] == pytest.approx(40) == found["coco/mask_ap"]
    assert (found["coco/box_ap50"], found["coco/box_ap75"]) == (100, 0)
    assert metric.per_category["mask"]["dog"]["ap50"] == 100


def test_one_detection_an_image_is_what_ar1_allows(tmp_path):
    truth = document((1, 0, 0, 0, 50, 50), (1, 0, 100, 0, 50, 50))
    boxes = [(0, 0.9, 0, 0, 50, 50), (0, 0.8, 100, 0, 50, 50)]
    found, _ = judged(tmp_path, truth, [sample(1, boxes)])
    assert (found["coco/box_ar1"], found["coco/box_ar10"], found["coco/box_ap"]) == (50, 100, 100)
    many = [(1, 0, 15 * place, 0, 10, 10) for place in range(11)]
    boxes = [(0, 0.9 - 0.01 * place, *one[2:]) for place, one in enumerate(many)]
    found, _ = judged(tmp_path, document(*many), [sample(1, boxes)])
    assert found["coco/mask_ar10"] == pytest.approx(1000 / 11)
    assert (found["coco/mask_ar100"], found["coco/mask_ap"]) == (100, 100)


def test_a_masks_own_area_says_how_large_it_is(tmp_path):
    """A wrong detection with a large box, 100 x 100, whose mask is of medium size, 100 x 50."""
    truth = document((1, 0, 0, 0, 60, 60))
    one = sample(1, [(0, 0.9, 90, 90, 100, 100), (0, 0.5, 0, 0, 60, 60)])
    one["pred_instances"]["masks"][0, 140:] = False
    found, _ = judged(tmp_path, truth, [one])
    assert found["coco/box_ap_m"] == 100  # the large one is left out
    assert found["coco/mask_ap_m"] == pytest.approx(50)  # precision 1/2 at every recall


def test_nothing_found_is_zero_and_not_silence(tmp_path):
    found, metric = judged(tmp_path, document((1, 0, 0, 0, 50, 50)), [sample(1)])
    assert found["coco/box_ap"] == found["coco/mask_ap"] == found["coco/mask_ar100"] == 0
    assert "coco/box_ap_l" not in found
    cat = {"ap": 0, "ap50": 0, "ap75": 0, "ap_m": 0}
    assert metric.per_category["box"] == {"cat": cat, "dog": {}}


@pytest.mark.parametrize("ids", [range(4), range(-4, 0), (9, 0, 3, 2**60), (5, 5 << 40, 1, 2)])
def test_ids_of_annotations_mean_nothing(tmp_path, ids):
    """Detections equal to the truth; pycocotools alone takes id 0 for "no match" (cocoapi#507)."""
    boxes = [(0, 0, 0, 50, 50), (0, 100, 0, 50, 50), (1, 0, 100, 50, 50), (1, 100, 100, 50, 50)]
    truth = document(*((1, *box) for box in boxes))
    for annotation, number in zip(truth["annotations"], ids, strict=True):
        annotation["id"] = number
    found, metric = judged(tmp_path, truth, [sample(1, [(b[0], 0.9, *b[1:]) for b in boxes])])
    assert {
        found[f"coco/{kind}_{figure}"] for kind in ("box", "mask") for figure in FIGURES[:3]
    } == {100}
    assert (
        metric.per_category["box"]["cat"]["ap"] == metric.per_category["mask"]["dog"]["ap"] == 100
    )


@pytest.mark.parametrize("absent", [lambda a: a.pop("iscrowd"), lambda a: a.update(iscrowd=None)])
def test_without_iscrowd_an_object_is_no_crowd(tmp_path, absent):
    truth = document((1, 0, 10, 10, 100, 100), (1, 0, 10, 120, 100, 60))
    crowd = document((1, 0, 0, 0, 9, 9), (1, 0, 10, 10, 100, 100), (1, 0, 10, 120, 100, 60))
    crowd["annotations"][0].update(iscrowd=True)
    expected, _ = judged(tmp_path, truth, [sample(1, [(0, 0.9, 10, 10, 100, 100)])])
    for content in (truth, crowd):
        for annotation in content["annotations"][-2:]:
            absent(annotation)
        found, _ = judged(tmp_path, content, [sample(1, [(0, 0.9, 10, 10, 100, 100)])])
        assert found == expected and found["coco/mask_ap"] == pytest.approx(100 * 51 / 101)


def test_an_image_of_another_size_ends_the_evaluation(tmp_path):
    """pycocotools would give every mask of it an overlap of -1, and the box its ordinary one."""
    truth = document((1, 0, 0, 0, 50, 50))
    truth["images"][0].update(width=SIDE + 1)
    with pytest.raises(ValueError, match=r"x\.png has 200x200 pixels, the annotations say 201x200"):
        judged(tmp_path, truth, [sample(1, [(0, 0.9, 0, 0, 50, 50)])])


def test_only_images_that_were_looked_at_count(tmp_path):
    truth = document((1, 0, 0, 0, 50, 50), (2, 0, 0, 0, 50, 50), images=2)
    found, metric = judged(tmp_path, truth, [sample(1, [(0, 0.9, 0, 0, 50, 50)])])
    assert found["coco/box_ap"] == 100
    assert (metric.evaluated_images, metric.annotated_images) == (1, 2)


def test_all_figures_are_those_of_pycocotools(tmp_path):
    """On three categories, six images and detections that are off by a little or altogether."""
    random = np.random.Generator(np.random.PCG64(5))
    objects, samples = [], []
    for image in range(1, 7):
        found = []
        for _ in range(8):
            place, x, y = (int(random.integers(0, top)) for top in (3, 90, 90))
            w, h = (int(random.choice([12, 40, 105]) + random.integers(0, 5)) for _ in range(2))
            objects.append((image, place, x, y, w, h))
            for score in random.uniform(size=int(random.integers(0, 3))):
                near = (int(side * random.uniform(0.8, 1.2)) for side in (w, h))
                found.append((int(random.choice([place, place, 0])), score, x, y, *near))
        samples.append(sample(image, found))
    truth = document(*objects, images=6, categories=("cat", "dog", "cow"))
    found, metric = judged(tmp_path, truth, samples)
    annotations = COCO(str(tmp_path / "truth.json"))
    category_ids = [category["id"] for category in truth["categories"]]
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        detections = []
        for one in samples:
            instances = one["pred_instances"]
            for box, score, label, mask in zip(*(instances[k].numpy() for k in (
                "bboxes", "scores", "labels", "masks"
            )), strict=True):  # fmt: skip
                shape = {"bbox": [*box[:2], *(box[2:] - box[:2])]}
                if kind == "segm":
                    shape = {"segmentation": coco_mask.encode(np.asfortranarray(mask, np.uint8))}
                base = {"image_id": one["img_id"], "category_id": category_ids[label]}
                detections.append({**base, **shape, "score": float(score)})
        whole = COCOeval(annotations, annotations.loadRes(detections), kind)
        one_by_one = {}
        for chosen in [None, *truth["categories"]]:
            whole.params.catIds = [chosen["id"]] if chosen else category_ids
            whole.evaluate()
            whole.accumulate()
            whole.summarize()
            stats = {f: 100 * v for f, v in zip(FIGURES, whole.stats, strict=True) if v >= 0}
            one_by_one[chosen["name"] if chosen else "all"] = stats
        ours = {k.split("_", 1)[1]: v for k, v in found.items() if k.startswith(f"coco/{name}_")}
        assert len(set(ours.values())) > 8  # a case that tells figures apart
        assert ours == pytest.approx(one_by_one["all"], abs=1e-9)
        for category in ("cat", "dog", "cow"):
            expected = {k: v for k, v in one_by_one[category].items() if k in FIGURES[:6]}
            assert metric.per_category[name][category] == pytest.approx(expected, abs=1e-9)


# ---- Cityscapes' own AP --------------------------------------------------------------------------


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


@pytest.fixture
def street(tmp_path):
    """Two cars of 1000 pixels, one of 90, a group of cars, and a road."""
    ids = np.full((60, 100), 7, dtype=np.uint16)
    ids[0:20, 0:50], ids[20:40, 0:50], ids[0:9, 60:70], ids[40:60, 60:100] = 26000, 26001, 26002, 26
    path = tmp_path / "gtFine" / "val" / "ulm" / "ulm_000000_000019_gtFine_instanceIds.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(ids).save(path)
    return path, ids


def test_small_objects_and_groups_neither_help_nor_harm(street):
    path, ids = street
    both = [Prediction("car", 0.9, rle(ids == i)) for i in (26000, 26001)]
    more = [Prediction("car", 0.95, rle(ids == i)) for i in (26002, 26)]
    whole = {"ap": pytest.approx(1), "ap50": pytest.approx(1)}
    for found in (both, both + more):
        assert instance_ap({path: found}) == {"average": whole, "car": whole}


def test_one_of_two_cars_and_a_wrong_one_worked_by_hand(street):
    """Scores 0.9 (right), 0.5 (wrong): precision 1/2 at recall 1/2, then 1 at 1/2, then 1 at 0.

    The tool weighs each point with half the recall between its neighbours:
    1/2 * (1/2 - 1/2) / 2 + 1 * (1/2 - 0) / 2 + 1 * (1/2 - 0) / 2 = 1/2.
    """
    path, ids = street
    road = np.zeros_like(ids)
    road[45:55, 0:50] = 1
    found = [Prediction("car", 0.9, rle(ids == 26000)), Prediction("car", 0.5, rle(road))]
    half = pytest.approx(0.5)
    assert instance_ap({path: found})["car"] == {"ap": half, "ap50": half}
    # the wrong one first: 1/2 at recall 1/2, then 0 at recall 0, then 1 at recall 0:
    # 1/2 * (1/2 - 0) / 2 + 0 + 0 = 1/8
    turned = [Prediction("car", 0.3, found[0].mask), found[1]]
    assert instance_ap({path: turned})["car"]["ap"] == pytest.approx(0.125)


def test_overlap_must_exceed_the_threshold(street):
    """800 of 1000 pixels: right at 0.5 to 0.75, wrong at 0.8 and above."""
    path, ids = street
    most = ids == 26000
    most[16:] = False
    found = [Prediction("car", 0.9, rle(most)), Prediction("car", 0.9, rle(ids == 26001))]
    scores, average = (instance_ap({path: found})[name] for name in ("car", "average"))
    assert scores == average
    # with one right and one wrong of one score: precision 1/2 at recall 1/2, then 1 at recall 0
    assert scores["ap"] == pytest.approx(0.6 + 0.4 * (0.5 * 0.25 + 1 * 0.25))
    assert scores["ap50"] == pytest.approx(1)


def test_a_class_that_was_missed_counts_and_one_that_is_not_there_does_not(street):
    path, ids = street
    ids[50:60, 0:20] = 24000
    Image.fromarray(ids).save(path)
    found = [Prediction("car", 0.9, rle(ids == i)) for i in (26000, 26001)]
    found.append(Prediction("bicycle", 0.9, rle(ids == 7)))
    assert instance_ap({path: found}) == {
        "car": {"ap": pytest.approx(1), "ap50": pytest.approx(1)},
        "person": {"ap": 0, "ap50": 0},
        "average": {"ap": pytest.approx(0.5), "ap50": pytest.approx(0.5)},
    }


def test_a_street_on_which_nothing_counts_has_no_average(tmp_path, street):
    """Its one car has fewer than 100 pixels; COCO's figures are there all the same."""
    path, _ = street
    ids = np.full((SIDE, SIDE), 7, dtype=np.uint16)
    ids[0:9, 60:70] = 26002
    Image.fromarray(ids).save(path)
    assert instance_ap({path: [Prediction("car", 0.9, rle(ids == 26002))]}) == {}
    truth = document((1, 0, 60, 0, 10, 9), categories=("car",))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    metric = CityscapesAP(str(tmp_path / "truth.json"))
    metric.dataset_meta = {"classes": ("car",)}
    picture = tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000019_leftImg8bit.png"
    metric.process({}, [sample(1, [(0, 0.9, 60, 0, 10, 9)], str(picture))])
    figures = metric.evaluate(1)
    assert figures["coco/box_ap"] == 100 and not [name for name in figures if "cityscapes" in name]
    assert metric.per_category["cityscapes"] == {}


def test_pictures_lead_to_their_instance_ids():
    picture = Path("/d/leftImg8bit/leftImg8bit/val/ulm/ulm_1_2_leftImg8bit.png")
    expected = "/d/leftImg8bit/gtFine/val/ulm/ulm_1_2_gtFine_instanceIds.png"
    assert str(instance_ids_file(picture)) == expected


def test_both_aps_of_drawn_streets_and_how_they_differ(tmp_path):
    """The ground truth as detections: 100 by both. Then without objects below 100 pixels, which
    COCO counts and cityscapesScripts do not."""
    root = tmp_path / "cityscapes"
    write_cityscapes(root, 1, 6, (160, 96), 3)
    cityscapes.convert(root, "val")
    path = cityscapes.annotation_file(root, "val")
    truth = COCO(str(path))
    names = list(cityscapes.CLASSES.values())
    figures = []
    for least in (0, 100):
        metric = CityscapesAP(str(path))
        metric.dataset_meta = {"classes": tuple(names)}
        for image in truth.dataset["images"]:
            own = truth.loadAnns(truth.getAnnIds(image["id"], iscrowd=False))
            own = [thing for thing in own if thing["area"] >= least]
            boxes = torch.tensor([thing["bbox"] for thing in own]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            masks = [torch.from_numpy(truth.annToMask(thing)) for thing in own]
            labels = [names.index(truth.cats[thing["category_id"]]["name"]) for thing in own]
            instances = {
                "bboxes": boxes, "scores": torch.full((len(own),), 0.9),
                "labels": torch.tensor(labels), "masks": torch.stack(masks),
            }  # fmt: skip
            picture = root / "leftImg8bit" / "val" / image["file_name"]
            metric.process({}, [{
                "img_id": image["id"], "img_path": str(picture), "ori_shape": (96, 160),
                "pred_instances": instances,
            }])  # fmt: skip
        figures.append(metric.evaluate(6))
    whole, large = figures
    for name in ("box_ap", "mask_ap", "cityscapes_ap", "cityscapes_ap50"):
        assert whole[f"coco/{name}"] == pytest.approx(100)
    assert large["coco/cityscapes_ap"] == pytest.approx(100)
    assert large["coco/mask_ap"] < 90
    assert set(metric.per_category) == {"box", "mask", "cityscapes"}
    assert metric.per_category["cityscapes"]["car"] == {"ap": 100, "ap50": 100}
