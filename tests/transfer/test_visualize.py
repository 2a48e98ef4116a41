"""Fig. 4: what is drawn where, and that each run's own detector draws it."""

import io
import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from tests.helpers.run_records import make_record
from transfer import visualize
from transfer.visualize import colour_of, draw_detections, ground_truth, side_by_side

CATEGORIES = ("disc", "square", "triangle", "star", "cross")


# ---- the figure ----------------------------------------------------------------------------------


def onecolour_of(height, width, *colour):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def test_rows_are_images_and_columns_are_methods():
    red, green, blue, black = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
    pictures = [
        [onecolour_of(100, 200, *red), onecolour_of(100, 200, *green)],
        [onecolour_of(200, 200, *blue), onecolour_of(200, 200, *black)],
    ]
    figure = side_by_side(pictures, ["LoCo", "SimCLR"])
    assert [panel.get_title() for panel in figure.axes] == ["LoCo", "SimCLR", "", ""]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    drawn = np.asarray(Image.open(buffer).convert("RGB"))
    height, width = drawn.shape[:2]
    places = {}
    for colour in (red, green, blue, black):
        found = np.argwhere((drawn == colour).all(axis=2))
        found = found[found[:, 0] > 0.15 * height] if colour == black else found  # not the titles
        places[colour] = (*found.min(axis=0), *found.max(axis=0))  # top, left, bottom, right
    assert places[red][2] < places[blue][0] and places[green][2] < places[black][0]
    assert places[red][3] < places[green][1] and places[blue][3] < places[black][1]
    for _, left, _, right in places.values():
        assert right - left > 0.45 * width  # no room is lost
    flat, square = places[red], places[blue]
    assert (flat[3] - flat[1]) / (flat[2] - flat[0]) == pytest.approx(2, rel=0.02)
    assert (square[3] - square[1]) / (square[2] - square[0]) == pytest.approx(1, rel=0.02)
    assert flat[1] == pytest.approx(square[1], abs=2)


def test_columns_of_equal_backbones_have_their_folders_below(tmp_path):
    epochs = {"a/short": 100, "a/long": 100, "b/other": 800}
    for name, number in epochs.items():
        make_record(pretrain_epochs=number).write(tmp_path / name)
    runs = [tmp_path / name for name in epochs]
    assert visualize.titles_of(runs) == [
        "LoCo, 100 epochs\nshort", "LoCo, 100 epochs\nlong", "LoCo, 800 epochs",
    ]  # fmt: skip
    make_record().write(tmp_path / "b/short")
    twins = [tmp_path / "a/short", tmp_path / "b/short"]
    assert visualize.titles_of(twins) == [f"LoCo, 100 epochs\n{run}" for run in twins]
    unfinished = [tmp_path / "c/new", tmp_path / "d/new"]
    assert visualize.titles_of(unfinished) == [f"new\n{run}" for run in unfinished]


# ---- a picture -----------------------------------------------------------------------------------


@pytest.fixture
def grey(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (400, 400), (100, 100, 100)).save(path)
    return path


def rectangle(x, y, w, h):
    mask = torch.zeros(400, 400, dtype=torch.bool)
    mask[y : y + h, x : x + w] = True
    return torch.tensor([x, y, x + w, y + h]).float(), mask


def drawn(path, objects, labels, scores, **options):
    boxes, masks = (torch.stack(part) for part in zip(*objects, strict=True))
    found = InstanceData(bboxes=boxes, labels=torch.tensor(labels), masks=masks)
    if scores is not None:
        found.scores = torch.tensor(scores)
    return np.asarray(draw_detections(path, found, CATEGORIES, **options))


def blended(colour):
    return [round(0.55 * 100 + 0.45 * part) for part in colour]


def test_what_is_certain_is_drawn_in_the_colour_of_its_category(grey):
    objects = [rectangle(50, 50, 100, 100), rectangle(250, 250, 100, 100)]
    picture = drawn(grey, objects, [1, 3], [0.9, 0.2], score_threshold=0.5)
    assert picture.shape == (400, 400, 3)
    np.testing.assert_allclose(picture[120, 120], blended(colour_of(1)), atol=1)
    np.testing.assert_array_equal(picture[300, 300], [100] * 3)  # 0.2 is less than 0.5
    both = drawn(grey, objects, [1, 3], None)  # the ground truth has no scores
    np.testing.assert_allclose(both[300, 300], blended(colour_of(3)), atol=1)
    assert colour_of(1) != colour_of(3)


def test_the_most_certain_box_lies_on_top(grey):
    objects = [rectangle(50, 100, 200, 200)] * 2
    first = drawn(grey, objects, [0, 4], [0.9, 0.6])
    np.testing.assert_array_equal(first[299, 150], colour_of(0))
    second = drawn(grey, objects, [0, 4], [0.6, 0.9])
    np.testing.assert_array_equal(second[299, 150], colour_of(4))
    for picture, label in ((first, 0), (second, 4)):  # and of its mask one sees all
        np.testing.assert_allclose(picture[200, 150], blended(colour_of(label)), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_drawn_as_the_detector_saw_it(tmp_path, orientation):
    """The red half lies where EXIF's orientation puts it, worked out by hand; box and mask fit."""
    stored = Image.new("RGB", (400, 800), (0, 0, 255))
    stored.paste((255, 0, 0), (0, 0, 400, 400))  # the upper half as it is stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    halves = {"top": (1, 2), "bottom": (3, 4), "left": (5, 8), "right": (6, 7)}
    side = next(side for side, which in halves.items() if orientation in which)
    wide, high = (400, 800) if side in ("top", "bottom") else (800, 400)
    nothing = InstanceData(
        bboxes=torch.zeros(1, 4), labels=torch.tensor([0]), scores=torch.tensor([0.1]),
        masks=torch.zeros(1, high, wide, dtype=torch.bool),
    )  # fmt: skip
    picture = draw_detections(tmp_path / "a.jpg", nothing, ["disc"])
    assert picture.size == (wide, high)
    points = {"top": (wide // 2, 9), "bottom": (wide // 2, high - 9), "left": (9, high // 2)}
    points["right"] = (wide - 9, high // 2)
    for where, point in points.items():
        red, _, blue = picture.getpixel(point)
        opposite = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}[side]
        if where in (side, opposite):
            assert (red > 200) == (where == side) and (blue > 200) == (where == opposite)


def test_nothing_found_leaves_the_image_as_it_is(grey):
    picture = drawn(grey, [rectangle(50, 50, 100, 100)], [1], [0.1])
    assert (picture == 100).all()


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def images(coco):
    return sorted((coco / "val2017").iterdir())[:2]


@pytest.mark.slow
def test_the_command_draws_runs_and_ground_truth(trained, coco, images, tmp_path, capsys):
    out = tmp_path / "figures" / "fig4.png"
    names = ["--annotations", str(coco / "annotations" / "instances_val2017.json")]
    names += ["--score-threshold", "0", "--out", str(out), "--images", *map(str, images)]
    assert visualize.main([str(trained), *names]) == 0
    with Image.open(out) as figure:
        width, height = figure.size
    assert width == 2 * 3.2 * 200 and height == pytest.approx((2 * 3.2 + 0.35) * 200, abs=1)
    assert visualize.main([str(trained), *names, "--titles", "a", "b"]) == 1
    assert "2 --titles for 1 runs" in capsys.readouterr().err


@pytest.fixture
def truth(coco, tmp_path):
    """The annotations of the drawn scenes, and a file for changed ones."""
    document = json.loads((coco / "annotations" / "instances_val2017.json").read_text())

    def draw(images, categories=CATEGORIES):
        (tmp_path / "truth.json").write_text(json.dumps(document))
        return ground_truth(tmp_path / "truth.json", images, categories)

    return document, draw


def test_the_ground_truth_is_the_drawn_objects(truth, images):
    document, draw = truth
    (picture,) = draw(images[:1])
    with Image.open(images[0]) as file:
        plain = np.asarray(file.convert("RGB").resize((384, 384), Image.Resampling.NEAREST))
    changed = (picture != plain).any(axis=2)
    objects = [a for a in document["annotations"] if a["image_id"] == 1 and not a["iscrowd"]]
    assert objects and images[0].name == document["images"][0]["file_name"]
    for thing in objects:  # the middle of each box's lower edge
        x, y, w, h = thing["bbox"]
        assert changed[min(383, round(3 * (y + h)) - 1), round(3 * (x + w / 2))]
    assert not changed.all()
    objects[0]["iscrowd"] = 1  # is left out, as if it were not there
    (with_crowd,) = draw(images[:1])
    document["annotations"].remove(objects[0])
    np.testing.assert_array_equal(with_crowd, draw(images[:1])[0])
    assert (with_crowd != picture).any()


def test_the_ground_truth_of_some_categories(truth, images):
    """As if the others' objects were not there; a parent that nothing belongs to does no harm."""
    document, draw = truth
    document["categories"].insert(0, {"id": 0, "name": "shapes"})
    some = [CATEGORIES[0], CATEGORIES[3]]
    with_others = draw(images, some)
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] in (1, 5)]
    np.testing.assert_array_equal(with_others, draw(images, some))
    with pytest.raises(ValueError, match=r"truth\.json lacks categories of the runs: car\. Name"):
        draw(images, ["disc", "car"])


def test_bad_arguments_end_with_one_line(trained, images, tmp_path, capsys):
    for arguments, message in (
        (["--images", str(tmp_path / "no.png"), "--out", "x.png"], "there is no image"),
        (["--images", str(images[0]), "--out", "x.gif"], "expected a name with .png or .pdf"),
        (["--images", __file__, "--out", "x.png"], "cannot identify image file"),
    ):
        assert visualize.main([str(trained), *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
        assert error.count("\n") == 1
