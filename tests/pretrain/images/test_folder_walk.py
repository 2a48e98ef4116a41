"""What counts as an image of a folder, and what is left out, counted and said."""

import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pretrain.images.folder_walk import in_words, walk
from pretrain.images.image_lists import ImageList, list_images
from pretrain.images.labelled_images import LabelledImages, read_split, read_splits


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return root


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


LITTER = (
    "._x.JPEG", "a/.DS_Store", "a/._1.jpg",  # hidden files
    ".ipynb_checkpoints/1-checkpoint.jpg", "__MACOSX/a/._1.jpg", "a/@eaDir/1.jpg",  # folders
    "Thumbs.db", "a/1.txt", "a/2.TXT", "README", "b/photo.tif", "c/only.heic",  # other kinds
)  # fmt: skip
SAID = (
    "3 hidden files, 3 hidden folders, 2 folders without images, "
    "6 of other kinds (.db, .heic, .tif, .txt, no ending)"
)


def test_what_is_left_out_is_counted_and_said(tmp_path):
    fill(tmp_path, "a/1.jpg", "a/2.JPEG", *LITTER)
    assert list_images(tmp_path) == (["a/1.jpg", "a/2.JPEG"], SAID)
    listed = ImageList.read(tmp_path)
    assert (
        listed.describe().startswith("2 images, ") and f"; left out: {SAID}; " in listed.describe()
    )
    plain = ImageList.read(fill(tmp_path / "plain", "a/1.jpg", "a/2.JPEG"))
    assert "left out" not in plain.describe()
    assert plain.fingerprint == listed.fingerprint  # what is left out is no part of the data


def test_one_is_not_called_several():
    found = Counter({"hidden file": 1, "hidden folder": 2, ".txt": 1, "folder met before": 1})
    assert (
        in_words(found)
        == "1 hidden file, 2 hidden folders, 1 folder met before, 1 of other kinds (.txt)"
    )
    assert in_words(Counter()) == ""


def test_a_folder_without_one_image_says_what_it_holds(tmp_path):
    fill(tmp_path, "a/1.tif", "a/2.tif", ".hidden.jpg")
    words = "found: 1 hidden file, 1 folder without images, 2 of other kinds (.tif). Put"
    with pytest.raises(FileNotFoundError, match=re.escape(words)):
        ImageList.read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"holds no image; expected files ending in [^:]*\. Put"
    ):
        ImageList.read(tmp_path / "empty")


def test_a_list_and_a_hidden_root_are_the_users_own_choice(tmp_path):
    root = fill(tmp_path / ".cache", "._x.jpg", "1.jpg")
    assert list_images(root) == (["1.jpg"], "1 hidden file")
    (root / "some.txt").write_text("._x.jpg\n")
    assert list_images(root / "some.txt") == (["._x.jpg"], "")


def test_a_folder_that_was_met_before_is_said(tmp_path):
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "b").symlink_to("a")
    assert walk(tmp_path) == (["a/1.jpg"], Counter({"folder met before": 1}))


def test_an_ending_cannot_move_the_cursor(tmp_path):
    fill(tmp_path, "1.jpg", "1.\x1b[2J")
    assert list_images(tmp_path)[1] == r"1 of other kinds (.\x1b[2j)"


def test_hidden_folders_are_no_classes_and_hidden_files_no_labelled_images(tmp_path):
    for split in ("train", "val"):
        pictures(tmp_path / split, "a/1.png", "b/1.png", ".ipynb_checkpoints/1.png")
        fill(tmp_path / split, "a/._1.png", "__MACOSX/a/._1.png", "._a")
    train, val = read_splits(tmp_path).values()
    assert train.classes == val.classes == ("a", "b") and train.labels.tolist() == [0, 1]
    assert "left out: 2 hidden files, 2 hidden folders" in train.images.describe()
    images = LabelledImages(str(tmp_path), "val", 8, 8)
    assert [images[k]["label"] for k in range(len(images))] == [0, 1]


def test_a_loose_hidden_file_is_not_an_image_outside_its_class(tmp_path):
    fill(tmp_path / "train", "a/1.png", "._1.png")
    assert read_split(tmp_path, "train").classes == ("a",)
