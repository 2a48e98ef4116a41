"""A picture is taken as it is stored, whatever EXIF says, in RGB; its name does not matter."""

import numpy as np
import pytest
from PIL import Image

from pretrain.images.decode import UnreadableImage, decode, open_image
from pretrain.images.labelled_images import LabelledImages
from pretrain.images.two_views import TwoViewImages
from tests.reliability.mutations import png_of_size


def stored(tmp_path, image, format="PNG", name="a.png", **options):
    image.save(tmp_path / name, format, **options)
    with open_image(tmp_path / name) as opened:
        return decode(opened)


def test_every_mode_becomes_rgb_of_eight_bits(tmp_path):
    deep = Image.fromarray(np.full((3, 2), 0x80FF, np.uint16))
    np.testing.assert_array_equal(stored(tmp_path, deep), np.full((3, 2, 3), 0x80))
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # cyan
    red, green, blue = stored(tmp_path, ink, "JPEG", "a.jpg")[4, 4]
    assert red < 10 and green > 245 and blue > 245
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    seen = stored(tmp_path, palette, transparency=b"\xff\x00")  # the colour is there, unseen
    np.testing.assert_array_equal(seen, np.broadcast_to([200, 100, 50], (2, 2, 3)))
    assert stored(tmp_path, Image.new("1", (1, 1), 1)).tolist() == [[[255, 255, 255]]]


def test_a_picture_of_one_pixel_gives_views(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    views = TwoViewImages(str(tmp_path), "x", {"size": 8, "jitter": 0, "blur": False})[0]["views"]
    assert views.shape == (2, 3, 8, 8) and views[0, 0].unique().numel() == 1


def test_a_turned_photograph_lies_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert stored(tmp_path, Image.new("RGB", (6, 4)), "JPEG", "a.jpg", exif=exif).shape == (4, 6, 3)


def test_the_name_of_a_picture_does_not_matter_and_other_formats_are_refused(tmp_path):
    assert stored(tmp_path, Image.new("RGB", (6, 4)), "PNG", "a.jpg").shape == (4, 6, 3)
    for format in ("TIFF", "GIF", "EPS"):  # Pillow would give EPS to another program
        with pytest.raises(UnreadableImage, match="cannot identify"):
            stored(tmp_path, Image.new("RGB", (6, 4)), format, "b.jpg")


def test_a_cut_photograph_is_no_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with open_image(tmp_path / "a.jpg") as opened, pytest.raises(UnreadableImage, match="trunc"):
        decode(opened)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (9_500, 9_500)])
def test_a_picture_that_promises_too_much_is_refused_by_its_header(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_of_size(*size))
    with pytest.raises(UnreadableImage, match=r"exceeds limit|64,000,000 at most"):
        open_image(tmp_path / "a.png")


def test_a_strip_is_not_blown_up(tmp_path):
    """Its shorter side brought to 256 px, 1 x 60,000 pixels would be 12 GB."""
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    Image.new("L", (1, 60_000)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded \(1 x 60000 pixels, a strip"):
        LabelledImages(str(tmp_path), "train")[0]
