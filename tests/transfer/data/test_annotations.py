"""Annotation files from strangers: what is accepted pycocotools can use, the rest is refused."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from transfer.data.annotations import read_annotations, runs_fill, unpacked_runs
from transfer.metrics import CocoAP

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
        runs = [*runs, count]
        assert unpacked_runs(packed).tolist() == runs
        assert runs_fill(packed, 9 * high, wide) and runs_fill(runs, 9 * high, wide)
        assert not runs_fill(packed, 9 * high + 1, wide)


@pytest.mark.parametrize(
    "counts", ["", "P", "\x7f", "é", "o" * 9, [], [5], [-1, 5], [2.0, 2], [True, 3], None, 4, ["4"]]
)
def test_runs_that_do_not_fill_the_mask_are_refused(counts):
    assert not runs_fill(counts, 2, 2)
    assert runs_fill([4], 2, 2) and runs_fill([0, 4], 2, 2)


# ---- entries -------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "instances.json"


def document():
    """Polygons, and run lengths of both kinds."""
    box = np.zeros((24, 24), dtype=np.uint8, order="F")
    box[4:12, 4:12] = 1
    packed = {"size": [24, 24], "counts": coco_mask.encode(box)["counts"].decode()}
    masks = ([[4, 4, 12, 4, 12, 12, 4, 12]], {"size": [24, 24], "counts": [100, 8, 468]}, packed)
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 24, "height": 24} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [4.0, 4.0, 8.0, 8.0], "area": 64.0,
             "iscrowd": 0, "segmentation": mask} for i, mask in enumerate(masks)
        ],
        "categories": [{"id": 1, "name": "disc"}],
    }  # fmt: skip


def test_a_sound_document_passes(path):
    path.write_text(json.dumps(document()))
    assert read_annotations(path)[0] == document()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *[
            ("images", {"file_name": name})
            for name in ("../1.png", "a/../../1.png", "/etc/passwd", "", "a\0b", 7, None)
        ],
        ("images", {"width": 0}),
        ("images", {"height": 10**6}),
        ("categories", {"name": "a\x1b[2J"}),
        *[
            ("annotations", {"segmentation": mask})
            for mask in (
                {"size": [24, 24], "counts": [10**9, 10**9]},
                {"size": [24, 24], "counts": "oooo"},
                {"size": [10**6, 10**6], "counts": [10**12]},
                {"counts": [576]},
                [[1, 2, 3, 4]],
                [[1, 2, 3, 4, 5, 6, 7]],
                [[1, 2, 3, 4, 5, float("nan")]],
                [[]],
                [1, 2, 3, 4, 5, 6],
            )
        ],
        ("annotations", {"bbox": [1, 1, -1, 1]}),
        ("annotations", {"bbox": [float("nan"), 1, 1, 1]}),
        ("annotations", {"bbox": [10**400, 1, 1, 1]}),
        ("annotations", {"bbox": [1, 1, 1]}),
        ("annotations", {"area": float("inf")}),
        ("annotations", {"iscrowd": 2}),
        ("annotations", {"id": "1"}),
        ("annotations", {"category_id": [1]}),
        ("annotations", {"image_id": True}),
    ],
)
def test_an_entry_that_would_do_harm_is_refused(path, kind, changes):
    content = document()
    content[kind][-1] |= changes
    path.write_text(json.dumps(content))
    (name,) = changes
    place = len(content[kind]) - 1
    with pytest.raises(ValueError, match=rf"garbles '{name}', expected .* \(entry {place} of {kind}"):
        read_annotations(path)


# ---- the document --------------------------------------------------------------------------------


def test_names_that_the_shell_would_read_otherwise_are_refused(path, monkeypatch):
    """pycocotools opens files in the shell's encoding, in which one letter may become two."""
    content = document()
    content["categories"][0]["name"] = "M\u00fctter"
    path.write_text(json.dumps(content))
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ISO-8859-1")
    assert read_annotations(path)[0] == content  # json.dumps has escaped it
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(ValueError, match=r"this shell's encoding, ISO-8859-1.*PYTHONUTF8=1"):
        read_annotations(path)
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "UTF8")
    assert read_annotations(path)[0] == content


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_refused_by_all_who_read(path, encoding):
    path.write_text(json.dumps(document()), encoding=encoding)
    for read in (lambda: read_annotations(path), lambda: CocoAP(str(path))):
        with pytest.raises(ValueError, match=r"begins with a byte order mark.*plain UTF-8"):
            read()


@pytest.mark.parametrize("content", [b"<html>", b'{"images": [', b"", b"\xe9\x00"])
def test_a_file_that_is_no_json_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"\({len(content)} bytes\) is not JSON: .*unpack it"):
        read_annotations(path)
