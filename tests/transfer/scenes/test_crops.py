"""The shapes cut out of drawn scenes: which, how many, and where the squares lie."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from transfer.scenes.crops import LEAST_PX, crop, main, write_crops


@pytest.mark.parametrize(
    ("box", "square"),  # x, y, width, height -> left, top, side; 1.2 times the longer side
    [
        ([40, 30, 20, 10], (38, 23, 24)),  # centre (50, 35)
        ([0, 0, 10, 20], (0, 0, 24)),  # moved into the picture
        ([90, 70, 10, 10], (88, 68, 12)),
        ([0, 0, 100, 80], (10, 0, 80)),  # no larger than the picture, whose middle it is
    ],
)
def test_the_square_around_a_box(box, square, tmp_path):
    rows, columns = np.mgrid[:80, :100].astype(np.uint8)
    pixels = np.stack([columns, rows, rows], axis=2)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    found = np.asarray(crop(tmp_path / "scene.png", box))
    left, top, side = square
    assert found.shape == (side, side, 3)
    assert (found == pixels[top : top + side, left : left + side]).all()


def test_every_object_that_is_large_enough_is_cut_out_once(coco, tmp_path, capsys):
    assert main([str(coco), str(tmp_path / "shapes")]) == 0
    for split, name in (("train2017", "train"), ("val2017", "val")):
        document = json.loads((coco / f"annotations/instances_{split}.json").read_text())
        names = {item["id"]: item["name"] for item in document["categories"]}
        expected = Counter(
            names[item["category_id"]]
            for item in document["annotations"]
            if item["bbox"][2] >= LEAST_PX and item["bbox"][3] >= LEAST_PX
        )
        folders = (tmp_path / "shapes" / name).iterdir()
        assert {folder.name: len(list(folder.iterdir())) for folder in folders} == expected
        assert sum(expected.values()) >= 4
    assert "train/disc" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"], "nothing half done is left"


def test_says_what_is_wrong(coco, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"write it with: python -m transfer\.scenes"):
        write_crops(tmp_path / "nothing", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is there already"):
        write_crops(coco, tmp_path / "out")
