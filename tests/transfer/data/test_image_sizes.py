"""Sizes of images, as mmdetection loads them, against those that annotations list."""

import mmcv
import pytest
from PIL import Image

from transfer.data.image_sizes import check_sizes


def test_a_turned_photograph_counts_as_mmdetection_loads_it(tmp_path):
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
