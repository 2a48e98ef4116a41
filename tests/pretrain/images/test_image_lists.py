"""Lists of images."""

import pytest
from PIL import Image

from pretrain.images.image_lists import ImageList


def test_a_users_own_list_may_lead_anywhere_and_loops_are_named(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "l.txt").write_text(f"../a.png\n{tmp_path / 'a.png'}\n")
    assert len(ImageList.read(lists / "l.txt")) == 2
    (lists / "loop.png").symlink_to("loop.png")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images are not there: loop\.png"):
        ImageList.read(lists)
    (lists / "l.txt").write_text("a\0b\n" + "x" * 5000 + "\n")
    with pytest.raises(FileNotFoundError, match=r"2 of 2 images are not there: a\\x00b, x{400},"):
        ImageList.read(lists / "l.txt")
