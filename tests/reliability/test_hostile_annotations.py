"""Annotation files and runs' folders from strangers: what is accepted can be used, the rest not."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.reliability.transfer_targets import valid_document
from transfer.data import run_lengths
from transfer.data.image_sizes import check_sizes
from transfer.data.prepare import check_coco
from transfer.dumped_config import read_dumped
from transfer.stored_detector import stored_config

# ---- run lengths ---------------------------------------------------------------------------------


def test_packed_runs_are_those_of_pycocotools():
    random = np.random.default_rng(0)
    for _ in range(300):
        high, wide = random.integers(1, 40, 2).tolist()
        pixels = np.repeat(random.random((high, wide)) < random.random(), 9, axis=0)
        packed = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))["counts"].decode()
        runs, last, count = [], 0, 0
        for pixel in pixels.ravel(order="F").tolist():  # slowly, by the definition
            if pixel != last:
                runs, last, count = [*runs, count], pixel, 0
            count += 1
        assert run_lengths.unpacked(packed).tolist() == [*runs, count]
        assert run_lengths.fill(packed, 9 * high, wide) and run_lengths.fill(
            [*runs, count], 9 * high, wide
        )
        assert not run_lengths.fill(packed, 9 * high + 1, wide)


@pytest.mark.parametrize(
    "counts", ["", "P", "\x7f", "é", "o" * 9, [], [5], [-1, 5], [2.0, 2], [True, 3], None, 4, ["4"]]
)
def test_runs_that_do_not_fill_the_mask_are_refused(counts):
    assert not run_lengths.fill(counts, 2, 2)
    assert run_lengths.fill([4], 2, 2) and run_lengths.fill([0, 4], 2, 2)


# ---- entries -------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (24, 24)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def check(root, kind=None, number=0, **changes):
    document = valid_document()
    if kind:
        document[kind][number] |= changes
    (root / "a.json").write_text(json.dumps(document))
    return check_coco(root / "a.json", root / "images")


def test_a_sound_document_passes(root):
    assert check(root).annotations == 3


@pytest.mark.parametrize("name", ["../1.png", "a/../../1.png", "/etc/passwd", "", "a\0b", 7, None])
def test_a_file_name_that_leaves_the_folder_is_refused(root, name):
    Image.new("RGB", (24, 24)).save(root / "1.png")
    with pytest.raises(ValueError, match=r"garbles 'file_name', expected a path in the images'"):
        check(root, "images", file_name=name)


def test_a_pipe_and_a_loop_are_no_images(root):
    import os

    os.mkfifo(root / "images" / "pipe.png")
    (root / "images" / "loop.png").symlink_to("loop.png")
    for name in ("pipe.png", "loop.png"):
        with pytest.raises(FileNotFoundError, match=f"lacks 1 of the 3 images .*{name}"):
            check(root, "images", file_name=name)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"segmentation": {"size": [24, 24], "counts": [10**9, 10**9]}}, "segmentation"),
        ({"segmentation": {"size": [24, 24], "counts": "oooo"}}, "segmentation"),
        ({"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}, "segmentation"),
        ({"segmentation": [[1, 2, 3, 4]]}, "segmentation"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "segmentation"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "segmentation"),
        ({"segmentation": [[]]}, "segmentation"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "segmentation"),
        ({"bbox": [1, 1, -1, 1]}, "bbox"),
        ({"bbox": [float("nan"), 1, 1, 1]}, "bbox"),
        ({"bbox": [10**400, 1, 1, 1]}, "bbox"),
        ({"bbox": [1, 1, 1]}, "bbox"),
        ({"area": float("inf")}, "area"),
        ({"iscrowd": 2}, "iscrowd"),
        ({"id": "1"}, "id"),
        ({"category_id": [1]}, "category_id"),
        ({"image_id": True}, "image_id"),
    ],
)
def test_an_annotation_that_would_harm_pycocotools_is_refused(root, changes, name):
    with pytest.raises(ValueError, match=rf"garbles '{name}', expected .* \(entry 1 of annot"):
        check(root, "annotations", 1, **changes)


def test_a_turned_photograph_counts_as_mmdetection_loads_it(tmp_path):
    import mmcv

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
        height, width = mmcv.imread(str(tmp_path / "a.jpg")).shape[:2]
        entry = {"file_name": "a.jpg", "width": width, "height": height}
        check_sizes(tmp_path, [entry])
        other = {"file_name": "a.jpg", "width": height, "height": width}
        with pytest.raises(ValueError, match="EXIF" if height > width else "has 40x20 pixels,"):
            check_sizes(tmp_path, [other])


def test_sizes_are_those_that_mmdetection_loads(tmp_path):
    """Where only XMP tells an orientation, which OpenCV does not read; and of other formats."""
    import mmcv

    xmp = b'http://ns.adobe.com/xap/1.0/\0<x xmlns:tiff="t" tiff:Orientation="6"/>'
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    plain = (tmp_path / "a.jpg").read_bytes()
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    (tmp_path / "a.jpg").write_bytes(plain[:2] + segment + plain[2:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get(0x0112) == 6  # Pillow takes it
    Image.new("RGB", (40, 20)).save(tmp_path / "a.tiff")
    for name in ("a.jpg", "a.tiff"):
        height, width = mmcv.imread(str(tmp_path / name)).shape[:2]
        assert (width, height) == (40, 20)
        check_sizes(tmp_path, [{"file_name": name, "width": 40, "height": 20}])
        with pytest.raises(ValueError, match="has 40x20 pixels, listed are 20x40"):
            check_sizes(tmp_path, [{"file_name": name, "width": 20, "height": 40}])


# ---- the folder of a run -------------------------------------------------------------------------


def test_a_dumped_config_is_read_as_mmengine_would_run_it(tmp_path):
    from mmengine.config import Config

    for name in ("demo/mask_rcnn_loco", "mask_rcnn_loco_r50_coco1k", "pretrain/gim_sh50"):
        Config.fromfile(f"configs/{name}.py").dump(tmp_path / "a.py")
        executed = Config.fromfile(tmp_path / "a.py", import_custom_modules=False)
        assert read_dumped(tmp_path / "a.py") == executed.to_dict()


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.mkdir({made})", "x = __import__('os').mkdir({made})",
        "x = open({made}, 'w')", "x = [open({made}, 'w') for _ in (1,)]",
        "x = dict(**{{'a': 1}})", "x += 1", "x = " + "[" * 99,
        "x = 9**9**9", "def f(): pass", "x = b''", "x = " + "[" * 60 + "]" * 60, "\0",
    ],
)  # fmt: skip
def test_a_dumped_config_is_never_run(tmp_path, line):
    (tmp_path / "a.py").write_text("a = 1\n" + line.format(made=repr(str(tmp_path / "made"))))
    with pytest.raises(ValueError, match=r"a\.py is no config that a run has dumped"):
        read_dumped(tmp_path / "a.py")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "harm",
    [
        {"type": "os.mkdir", "path": "made"},  # mmengine imports and calls a type with dots
        {"type": "MaskRCNN", "test_cfg": {"nms": {"type": "__import__('os').mkdir('made')"}}},
    ],  # the second: mmcv's batched_nms evaluates it
)
def test_a_type_that_is_not_registered_is_not_called(tmp_path, monkeypatch, harm):
    import torch

    monkeypatch.chdir(tmp_path)
    config = {
        "method": "loco",
        "model": {"backbone": {"type": "TransferBackbone"}, **harm},
        "val_dataloader": {"dataset": {"type": "CocoDataset"}},
    }
    (tmp_path / "a.py").write_text("".join(f"{k} = {v!r}\n" for k, v in config.items()))
    meta = {"iter": 1, "world_size": 1, "config_text": json.dumps(config)}
    torch.save({"meta": meta, "state_dict": {}}, tmp_path / "epoch_1.pth")
    with pytest.raises(ValueError, match=r"which neither this project nor mmdetection registers"):
        stored_config(tmp_path, tmp_path / "epoch_1.pth")
    assert not (tmp_path / "made").exists()
